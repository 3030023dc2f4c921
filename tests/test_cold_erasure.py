"""Erasure reaches cold months: no file names the person afterwards, and no object that did is left in the store."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cold import manifest
from lifecycle.cold.refreeze import refreeze
from lifecycle.cold.restore import restore_month
from lifecycle.cold.storage import ColdStorage, StoredObject
from lifecycle.cold.sweep import give_up_dead_moves, remove_retired
from lifecycle.cold.thaw import thaw
from lifecycle.cold.upkeep import keep_up
from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.check import undeclared_columns
from lifecycle.erasures.proof import find_returned
from lifecycle.erasures.run import BatchResult, erase_batch
from lifecycle.errors import BusyError, ColdStorageError
from orchestration.cli.main import app
from tests.cold import (
    COLD,
    EVENTS,
    Interfering,
    MakeColdDb,
    cold_ids,
    cold_text,
    hot_ids,
    local_storage,
    month,
    move_all,
    now,
    objects,
)
from tests.erasing import ask, job
from tests.people import Person, add_account, add_catalogue, browser_session, insert

pytest_plugins = ("tests.cold_fixtures",)

AKI, BEN = Person("aki"), Person("ben")
ANONYMOUS = browser_session("anonymous of aki")
IN_FREE_FORM = "in the free form of ben"


@dataclass(frozen=True)
class World:
    """Cold months of aki and ben: `folder` is the store, `all_ids` every row of the event table."""

    url: str
    storage: ColdStorage
    folder: Path
    scratch: Path
    all_ids: list[str]


def event(conn: Connection, name: str, back: int, *, account: object, session: str, typed: str = "") -> None:
    """One event of a month ago."""
    insert(
        conn,
        "user_behavior_events",
        id=AKI.id(f"cold/{name}"),
        account_id=account,
        session_id=session,
        event_timestamp=month(back),
        page_url="/tea",
        user_agent="Firefox",
        actions=[{"typed": typed}],
    )


@pytest.fixture
def world(make_cold_db: MakeColdDb, tmp_path: Path) -> World:
    url = make_cold_db()
    storage = local_storage(tmp_path / "store")
    with connect(url) as conn:
        add_catalogue(conn)
        for person in (AKI, BEN):
            add_account(conn, person)
        for back in (3, 4):
            event(conn, f"own {back}", back, account=AKI.account, session=AKI.visit)
            event(conn, f"before signing in {back}", back, account=None, session=AKI.visit)
            event(conn, f"of ben {back}", back, account=BEN.account, session=BEN.visit)
        event(conn, IN_FREE_FORM, 3, account=BEN.account, session=BEN.visit, typed=f"ask {AKI.email}, he knows")
        ids = sorted(hot_ids(conn))
    move_all(url, storage)
    return World(url, storage, tmp_path / "store", tmp_path, ids)


def erase(world: World, storage: ColdStorage | None) -> BatchResult:
    with connect(world.url) as conn:
        conn.execute("select public.enqueue_deletion_jobs()")
        batch = erase_batch(conn, storage=storage)
    assert batch is not None
    return batch


def test_nothing_of_the_person_is_left_in_any_file_and_everything_else_is(world: World) -> None:
    with connect(world.url) as conn:
        before = objects(world.folder)
        request = ask(conn, AKI)
        batch = erase(world, world.storage)
        assert (batch.verified, batch.failed) == (1, ())
        text = cold_text(conn, world.storage, world.scratch)
        assert not [word for word in AKI.words if word in text.lower()]
        # What was taken out waits in the database, scrubbed as the map says; others' rows lost the word alone.
        assert sorted(hot_ids(conn) + cold_ids(conn, world.storage, world.scratch)) == world.all_ids
        waiting = dict(rows(conn, "select id, t::text from event_partitions.user_behavior_events_thawed t"))
        assert not [word for word in AKI.words if word in " ".join(waiting.values()).lower()]
        free_form = value(conn, "select actions ->> 0 from event_partitions.user_behavior_events_thawed"
                                " where id = %s", (AKI.id(f"cold/{IN_FREE_FORM}"),))  # fmt: skip
        assert free_form == '{"typed": "ask erased, he knows"}'
        # Both months had rows of aki's: their objects are gone, and the store was asked.
        gone = {key for key in before if "-07/" not in key} - set(objects(world.folder))
        states = dict(rows(conn, "select key, state from lifecycle.cold_files where state <> 'live'"))
        assert set(states.values()) == {"removed"}
        assert gone <= set(states)
        body = value(conn, "select body from lifecycle.erasure_receipts where request_id = %s", (str(request),))
    cold = body["search"]["cold"]
    assert (cold["rows"], cold["rewritten"], cold["removed"]) == (5, 3, 3)
    assert cold["files"] > 0
    assert "searched" not in cold


def test_what_was_taken_out_goes_back_into_files_and_is_found_by_the_next_erasure(world: World) -> None:
    with connect(world.url) as conn:
        ask(conn, AKI)
        erase(world, world.storage)
        assert refreeze(world.url, EVENTS, world.storage, now()) == 5
        assert sorted(cold_ids(conn, world.storage, world.scratch)) == sorted(
            set(world.all_ids) - set(map(str, [id for (id,) in rows(conn, "select id from user_behavior_events")]))
        )
        ask(conn, BEN)
        assert erase(world, world.storage).verified == 1
        text = cold_text(conn, world.storage, world.scratch).lower()
    assert not [word for person in (AKI, BEN) for word in person.words if word in text]


def test_no_receipt_without_the_files_and_none_while_the_store_is_away(world: World) -> None:
    class Away:
        url = "file:///away"

        def __getattr__(self, name: str) -> object:
            raise ColdStorageError("the store is away")

    with connect(world.url) as conn:
        request = ask(conn, AKI)
        assert "LIFECYCLE_COLD_URL" in erase(world, None).failed[0].error
        conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now()")
        assert "the store is away" in erase(world, Away()).failed[0].error  # type: ignore[arg-type]
        conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now()")
        # As psql and Supabase's scheduler do it, who cannot read a file.
        conn.execute("call public.process_deletion_jobs()")
        assert "can only be searched by the job" in str(job(conn, request)["last_error"])
        assert not rows(conn, "select from lifecycle.erasure_receipts")
        conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now()")
        assert erase(world, world.storage).verified == 1


def test_a_file_that_a_move_left_behind_is_removed_before_the_receipt(world: World) -> None:
    with connect(world.url) as conn:
        left = replace_state(conn, "stored")
        ask(conn, AKI)
        assert erase(world, world.storage).verified == 1
        assert value(conn, "select state from lifecycle.cold_files where id = %s", (left,)) == "removed"


def test_what_asks_about_people_works_beside_cold_months(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", world.url)
    with connect(world.url) as conn:
        before = objects(world.folder)
        request = ask(conn, AKI)
        conn.execute("select public.enqueue_deletion_jobs()")
        assert find_returned(conn) == ()
        files = len(manifest.all_live_files(conn))
        told = f"Rows in cold months are not counted here: the job looks through their {files} files when it runs."
        for options in ([], ["--texts"]):
            printed = CliRunner().invoke(app, ["erasure", "plan", str(request), *options]).output
            assert told in " ".join(printed.split())
        assert objects(world.folder) == before
        assert erase(world, world.storage).verified == 1
        # The table of rows that were taken out is on the map like the event table.
        assert value(conn, "select to_regclass('event_partitions.user_behavior_events_thawed') is not null")
        assert not [found for found in undeclared_columns(conn, COLD) if "user_behavior" in str(found.table)]
        assert find_returned(conn) == ()
        # A row of aki's that waits comes back, as from a backup, and is found where it is.
        conn.execute(
            "update event_partitions.user_behavior_events_thawed set account_id = %s where id = %s",
            (AKI.account, AKI.id("cold/own 3")),
        )
        returned = [(found.table, found.rows) for found in find_returned(conn)]
        assert returned == [("event_partitions.user_behavior_events_thawed", 1)]
        assert erase(world, world.storage).verified == 1


def test_no_row_is_lost_when_somebody_sweeps_while_rows_are_taken_out(world: World) -> None:
    class Swept:
        """A store that another erasure sweeps as soon as the file without those rows is there."""

        def __getattr__(self, name: str) -> object:
            return getattr(world.storage, name)

        def put(self, key: str, source: Path) -> StoredObject:
            stored = world.storage.put(key, source)
            with connect(world.url) as other:
                give_up_dead_moves(other)
                remove_retired(other, world.storage)
            return stored

    with connect(world.url) as conn:
        before = sorted(cold_ids(conn, world.storage, world.scratch))
        file = next(file for file in manifest.live_files(conn, EVENTS.relation) if (file.rows or 0) > 1)
        with pytest.raises(BusyError, match=r"gave it up while it was written|took the file without those rows away"):
            thaw(conn, Swept(), file, [0])  # type: ignore[arg-type]
        assert sorted(cold_ids(conn, world.storage, world.scratch)) == before
        assert thaw(conn, world.storage, file, [0]).rows == 1


def replace_state(conn: Connection, state: str) -> int:
    """A file as an export leaves it that was cut off; its id."""
    found: int = value(
        conn,
        "insert into lifecycle.cold_files"
        " (move_id, schema_name, table_name, month, key, layout_id, bucket, buckets, state)"
        " select move_id, schema_name, table_name, month, 'user_behavior_events/left.parquet', layout_id, 0, 1, %s"
        "   from lifecycle.cold_files order by id limit 1 returning id",
        (state,),
    )
    return found


def test_an_erasure_meets_a_month_that_is_being_exported(world: World) -> None:
    """The export read the person's rows before: nothing of it is left when the receipt is written, nor comes later."""
    with connect(world.url) as conn:
        restore_month(world.url, EVENTS, month(3), world.storage, keep_for=timedelta(seconds=0), now=now())
        request = ask(conn, AKI)
        tried: list[BatchResult] = []

        def erase_meanwhile() -> None:
            conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now() where state = 'failed'")
            tried.append(erase(world, world.storage))

        move_all(world.url, Interfering(world.storage, "put", erase_meanwhile, times=2))
        assert [(each.verified, len(each.failed)) for each in tried] == [(0, 1), (1, 0)]
        assert "cold files came, or wait to be removed" in tried[0].failed[0].error
        assert job(conn, request)["state"] == "verified"
        keep_up(world.url, EVENTS, world.storage, now())
        known = {key for (key,) in rows(conn, "select key from lifecycle.cold_files where state = 'live'")}
        assert set(objects(world.folder)) == known
        text = cold_text(conn, world.storage, world.scratch).lower()
        assert sorted(hot_ids(conn) + cold_ids(conn, world.storage, world.scratch)) == world.all_ids
    assert not [word for word in AKI.words if word in text]
