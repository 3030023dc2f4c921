"""Bringing a month back while others work on its files, and what a killed restore leaves."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lifecycle.cold import manifest
from lifecycle.cold import restore as bringing_back
from lifecycle.cold import thaw as thawing
from lifecycle.cold.connect import connect as connect_reader
from lifecycle.cold.load import copy_rows
from lifecycle.cold.refreeze import refreeze
from lifecycle.cold.restore import build_beside, load_file, restore_month
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import give_up_dead_moves
from lifecycle.cold.thaw import thaw
from lifecycle.database import connect, politely, rows, value
from lifecycle.errors import BusyError, RefusedError, VerificationError
from lifecycle.locks import LockPolicy
from tests.cold import COLD, EVENTS, Interfering, MakeColdDb, cold_ids, hot_ids, local_storage, month, move_all, now
from tests.partitioned import BEHAVIOR, insert_events, partition_tables

pytest_plugins = ("tests.cold_fixtures",)

WAITS = """
select count(*) from pg_stat_activity where application_name = 'lifecycle cold' and wait_event_type = 'Lock'
"""


@pytest.fixture
def storage(tmp_path: Path) -> ColdStorage:
    return local_storage(tmp_path / "store")


@pytest.fixture
def url(make_cold_db: MakeColdDb, storage: ColdStorage) -> str:
    """Cold months, of which the oldest has some rows."""
    made = make_cold_db()
    with connect(made) as conn:
        insert_events(conn, BEHAVIOR, month(5), session="seed", rows=10)
    move_all(made, storage)
    return made


def test_rows_that_are_taken_out_meanwhile_are_there_once(
    url: str, storage: ColdStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(url) as conn:  # makes the thawed table, whose making would keep the restore away
        thaw(conn, storage, manifest.live_files(conn, EVENTS.relation, month(4))[0], {0})
    # The restore waits for that transaction, however long.
    assert politely.__kwdefaults__ is not None
    monkeypatch.setitem(politely.__kwdefaults__, "locks", LockPolicy(timeout=20, tries=2))
    copied, go_on = Event(), Event()
    copy_rows = thawing.copy_rows

    def pause(*args: Any) -> int:
        done = copy_rows(*args)
        copied.set()
        assert go_on.wait(20)
        return done

    monkeypatch.setattr(thawing, "copy_rows", pause)
    with connect(url) as conn, connect(url) as other, ThreadPoolExecutor(2) as pool:
        before = sorted([*hot_ids(conn), *cold_ids(conn, storage, tmp_path)])
        file = manifest.live_files(conn, EVENTS.relation, month(5))[0]
        taking = pool.submit(thaw, other, storage, file, {0})
        assert copied.wait(20)
        restoring = pool.submit(restore_month, url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now())
        while not value(conn, WAITS) and not restoring.done():
            pass
        go_on.set()
        taking.result(20)
        with suppress(BusyError):
            restoring.result(60)
        assert sorted([*hot_ids(conn), *cold_ids(conn, storage, tmp_path)]) == before


def test_a_restore_that_gives_way_leaves_no_row_behind(url: str, storage: ColdStorage) -> None:
    with connect(url) as conn:

        def exchange() -> None:
            thaw(conn, storage, manifest.live_files(conn, EVENTS.relation, month(5))[0], {0, 1})

        with pytest.raises(BusyError, match="run this again"):
            restore_month(
                url,
                EVENTS,
                month(5),
                Interfering(storage, "fetch", exchange),
                keep_for=timedelta(days=1),
                now=now(),
            )
        assert not [name for name in partition_tables(conn) if name.endswith("_restored")]
        restored = restore_month(url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now())
        assert restored.rows == 11


def test_what_a_killed_restore_loaded_goes_with_the_next_sweep(url: str, storage: ColdStorage) -> None:
    from lifecycle.cold.columns import read_columns

    with connect(url) as conn:
        built = build_beside(conn, EVENTS, month(5))
        (file,) = manifest.live_files(conn, EVENTS.relation, month(5))
        load_file(conn, storage, file, built, read_columns(conn, EVENTS.relation), EVENTS.relation)
        assert rows(conn, f"select from {built.as_string(conn)}")
        give_up_dead_moves(conn)
        assert not [name for name in partition_tables(conn) if name.endswith("_restored")]


def test_a_column_that_has_another_name_by_now_keeps_its_values(url: str, storage: ColdStorage) -> None:
    with connect(url) as conn:
        conn.execute("alter table user_behavior_events rename column page_url to page")
        file = manifest.live_files(conn, EVENTS.relation, month(5))[0]
        thaw(conn, storage, file, {0, 1})
        waiting = rows(conn, "select page from event_partitions.user_behavior_events_thawed")
        assert waiting == [("/",), ("/",)]
        refreeze(url, EVENTS, storage, now())
        with connect_reader(url, COLD, storage) as reader:
            found = reader.query("select page, count(*) from user_behavior_events group by 1").rows()
        assert [page for page, _ in found] == ["/"]
        restored = restore_month(url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now())
        assert restored.left_out == ()
        pages = rows(
            conn,
            "select page, count(*) from user_behavior_events where event_timestamp < %s group by 1",
            (month(4),),
        )
        assert pages == [("/", 11)]


def test_rows_that_wait_come_with_their_month_also_with_the_columns_of_before(url: str, storage: ColdStorage) -> None:
    with connect(url) as conn:
        ids = sorted(set(hot_ids(conn)))
        thaw(conn, storage, manifest.live_files(conn, EVENTS.relation, month(5))[0], {0, 1})
        conn.execute("update event_partitions.user_behavior_events_thawed set page_url = '/waited', referrer = '/from'")
        conn.execute("alter table user_behavior_events rename column referrer to came_from")
        conn.execute("alter table user_behavior_events add column grade int not null default 7, drop column language")
        assert restore_month(url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now()).rows == 13 - 2
        found = "select page_url, grade, count(*) from user_behavior_events where event_timestamp < %s group by 1, 2"
        assert sorted(rows(conn, found, (month(4),))) == [("/", 7, 9), ("/waited", 7, 2)]
        assert value(conn, "select count(*) from user_behavior_events where came_from = '/from'") == 2
        assert len(hot_ids(conn)) == len(set(hot_ids(conn))) == len(ids) + 11


def test_a_month_that_does_not_arrive_whole_stays_in_its_files(
    url: str, storage: ColdStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied_in_part(conn: Any, target: Any, columns: Any, batches: Any) -> int:
        return copy_rows(conn, target, columns, (batch.slice(1) for batch in batches))

    monkeypatch.setattr(bringing_back, "copy_rows", copied_in_part)
    with connect(url) as conn:
        before = sorted(hot_ids(conn))
        with pytest.raises(VerificationError, match="10 rows arrived"):
            restore_month(url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now())
        assert sorted(hot_ids(conn)) == before
        assert not [name for name in partition_tables(conn) if name.endswith("_restored")]


def test_a_partition_that_somebody_made_for_a_cold_month_is_not_taken_away(url: str, storage: ColdStorage) -> None:
    with connect(url) as conn:
        bounds = f"from ('{month(5)}') to ('{month(4)}')"
        conn.execute(f"create table own partition of user_behavior_events for values {bounds}".encode())
        insert_events(conn, BEHAVIOR, month(5), session="in it")
        with pytest.raises(RefusedError, match="holds this month and is none of ours"):
            restore_month(url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now())
        assert value(conn, "select count(*) from own") == 1


def test_a_restore_that_is_at_work_is_left_alone_by_a_sweep(url: str, storage: ColdStorage) -> None:
    with connect(url) as conn:
        restored = restore_month(
            url,
            EVENTS,
            month(5),
            Interfering(storage, "fetch", lambda: give_up_dead_moves(conn)),
            keep_for=timedelta(days=1),
            now=now(),
        )
    assert restored.rows == 11
