"""A month leaves the database: every row is in exactly one place, whoever writes, and whatever is cut off."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from lifecycle.cold import manifest
from lifecycle.cold.due import MonthToMove, months_to_move
from lifecycle.cold.move import move_month
from lifecycle.cold.restore import restore_month
from lifecycle.cold.status import cold_status
from lifecycle.cold.sweep import sweep
from lifecycle.cold.thaw import thaw
from lifecycle.cold.upkeep import keep_up
from lifecycle.cold.verify import verify_files
from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import AlreadyRunningError, BusyError, ColdStorageError, RefusedError, VerificationError
from lifecycle.migrating.migrate import upgrade
from tests.cold import (
    COLD,
    EVENTS,
    Interfering,
    MakeColdDb,
    cold_ids,
    cold_text,
    hot_ids,
    hot_rows,
    local_storage,
    month,
    move_all,
    now,
    objects,
)
from tests.cold_kill import PLACES, WHEN, executioner
from tests.cold_writer import writing
from tests.partitioned import BEHAVIOR, done, insert_events, months, rotate_all, run_on, set_policy

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.cold_fixtures",)

MANY = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def url(make_cold_db: MakeColdDb) -> str:
    """Three months are old enough to leave; the youngest of them has more rows."""
    made = make_cold_db()
    with connect(made) as conn:
        insert_events(conn, BEHAVIOR, month(3) + timedelta(days=2, microseconds=1), session="many", rows=MANY)
    return made


@pytest.fixture
def conn(url: str) -> Iterator[Connection]:
    with connect(url) as session:
        session.execute("set timezone = 'UTC'")
        yield session


def standing(conn: Connection, folder: Path) -> list[str]:
    """The ids of all rows, in the database and in files, as often as they stand there."""
    return sorted(hot_ids(conn) + cold_ids(conn, local_storage(folder), folder.parent))


def youngest(conn: Connection) -> MonthToMove:
    """The month with many rows."""
    return months_to_move(conn, EVENTS, now())[-1]


def assert_only_live_objects(conn: Connection, folder: Path) -> None:
    assert objects(folder) == sorted(
        key for (key,) in rows(conn, "select key from lifecycle.cold_files where state = 'live'")
    )


def test_whole_months_leave_and_come_back_as_they_were(url: str, conn: Connection, folder: Path) -> None:
    before, ids = hot_rows(conn), standing(conn, folder)
    moved = move_all(url, local_storage(folder))
    assert [(each.month, each.rows) for each in moved] == [(month(5), 1), (month(4), 1), (month(3), MANY + 1)]
    assert min(months(conn, BEHAVIOR)) == month(2)
    assert standing(conn, folder) == ids
    assert hot_rows(conn) < before
    for each in moved:
        restore_month(url, EVENTS, each.month, local_storage(folder), keep_for=timedelta(days=1), now=now())
    assert hot_rows(conn) == before
    assert objects(folder) == []
    # Brought back by somebody, they stay for as long as was said.
    assert months_to_move(conn, EVENTS, now()) == ()
    assert len(months_to_move(conn, EVENTS, now() + timedelta(days=2))) == 3


def test_a_month_is_due_once_its_last_instant_is_old_enough(conn: Connection) -> None:
    first_due = month(-1)
    assert [each.month for each in months_to_move(conn, EVENTS, first_due - timedelta(microseconds=1))] == [
        month(5),
        month(4),
        month(3),
    ]
    # A clock that is ahead moves nothing earlier than the server's own.
    assert [each.month for each in months_to_move(conn, EVENTS, first_due)][-1] == month(3)
    # What is past retention goes where it stands.
    set_policy(conn, BEHAVIOR, retention="4 months")
    assert [each.month for each in months_to_move(conn, EVENTS, now())] == [month(4), month(3)]


# Emptying a table waits for whoever reads it, as for a dump.
@pytest.mark.parametrize(
    ("change", "at"),
    [
        ("update user_behavior_events set page_url = '/changed' where session_id = 'many'", "put"),
        ("update user_behavior_events set page_url = '/changed' where session_id = 'many'", "fetch"),
        ("delete from user_behavior_events where session_id = 'many'", "put"),
        ("delete from accounts", "fetch"),
        ("truncate user_behavior_events", "fetch"),
    ],
)
def test_what_is_changed_while_a_month_is_read_is_read_again(
    url: str, conn: Connection, folder: Path, change: str, at: str
) -> None:
    storage = Interfering(local_storage(folder), at, lambda: conn.execute(change.encode()))
    move_month(url, EVENTS, youngest(conn), storage)
    text = cold_text(conn, local_storage(folder), folder.parent)
    ids = cold_ids(conn, local_storage(folder), folder.parent)
    if change.startswith("update"):
        assert (len(ids), text.count("/changed")) == (MANY + 1, MANY)
    elif change.startswith("delete from accounts"):
        assert (len(ids), text.count("'account_id': None")) == (MANY + 1, MANY + 1)
    else:
        assert "many" not in text
    assert_only_live_objects(conn, folder)
    assert not rows(conn, "select from lifecycle.cold_changes")


def test_a_month_whose_rows_keep_changing_stays_where_it_is(url: str, conn: Connection, folder: Path) -> None:
    change = "update user_behavior_events set page_url = page_url || '!' where session_id = 'many'"
    ids = standing(conn, folder)
    storage = Interfering(local_storage(folder), "put", lambda: conn.execute(change), times=100)
    with pytest.raises(BusyError, match="rows were changed each of 3 times"):
        move_month(url, EVENTS, youngest(conn), storage)
    assert standing(conn, folder) == ids
    assert month(3) in months(conn, BEHAVIOR)


def test_triggers_that_somebody_switched_off_are_as_good_as_a_change(url: str, conn: Connection, folder: Path) -> None:
    def switch_off() -> None:
        run_on(conn, "alter table {} disable trigger lifecycle_cold", youngest(conn).partition)
        conn.execute("update user_behavior_events set page_url = '/unseen' where session_id = 'many'")

    storage = Interfering(local_storage(folder), "fetch", switch_off)
    move_month(url, EVENTS, youngest(conn), storage)
    assert cold_text(conn, local_storage(folder), folder.parent).count("/unseen") == MANY


def test_late_rows_of_a_cold_month_follow_in_a_file_of_their_own(url: str, conn: Connection, folder: Path) -> None:
    move_all(url, local_storage(folder))
    insert_events(conn, BEHAVIOR, month(4) + timedelta(days=20), session="late", rows=3)
    ids = standing(conn, folder)
    # Rotation makes that month alone, not all that are cold by now.
    assert done(rotate_all(conn, table=BEHAVIOR), "create") == [f"user_behavior_events_{month(4):%Y_%m}"]
    (moved,) = move_all(url, local_storage(folder))
    assert (moved.month, moved.rows) == (month(4), 3)
    assert standing(conn, folder) == ids
    restored = restore_month(url, EVENTS, month(4), local_storage(folder), keep_for=timedelta(days=1), now=now())
    assert (restored.rows, restored.files) == (4, 2)


def test_late_rows_come_with_a_month_that_is_brought_back(url: str, conn: Connection, folder: Path) -> None:
    move_all(url, local_storage(folder))
    insert_events(conn, BEHAVIOR, month(4) + timedelta(days=20), session="in the default partition")
    insert_events(conn, BEHAVIOR, month(5) + timedelta(days=20), session="in a partition")
    rotate_all(conn, table=BEHAVIOR)
    insert_events(conn, BEHAVIOR, month(4) + timedelta(days=21), session="in both")
    insert_events(conn, BEHAVIOR, month(3) + timedelta(days=21), session="in the default partition alone")
    ids = standing(conn, folder)
    for back in (3, 4, 5):
        restore_month(url, EVENTS, month(back), local_storage(folder), keep_for=timedelta(days=1), now=now())
    assert standing(conn, folder) == ids
    assert sorted(months(conn, BEHAVIOR))[:3] == [month(5), month(4), month(3)]


def test_an_empty_month_leaves_without_a_file(url: str, conn: Connection, folder: Path) -> None:
    conn.execute("delete from user_behavior_events where event_timestamp < %s", (month(3),))
    moved = move_all(url, local_storage(folder))
    assert [(each.rows, each.files) for each in moved] == [(0, 0), (0, 0), (MANY + 1, 1)]
    assert min(months(conn, BEHAVIOR)) == month(2)


@pytest.mark.parametrize("at", ["put", "fetch", "remove"])
def test_a_store_that_fails_loses_nothing_and_the_next_run_finishes(
    url: str, conn: Connection, folder: Path, at: str
) -> None:
    def fail() -> None:
        raise ColdStorageError("the store is full")

    ids = standing(conn, folder)
    with suppress(ColdStorageError):
        move_all(url, Interfering(local_storage(folder), at, fail))
    assert standing(conn, folder) == ids
    move_all(url, local_storage(folder))
    keep_up(url, EVENTS, local_storage(folder), now())
    assert standing(conn, folder) == ids
    assert min(months(conn, BEHAVIOR)) == month(2)
    assert_only_live_objects(conn, folder)


def test_a_file_that_holds_other_rows_is_found_before_the_month_leaves(
    url: str, conn: Connection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lifecycle.cold import export

    real = export.ColdFile.write
    monkeypatch.setattr(export.ColdFile, "write", lambda self, batch: real(self, batch.slice(0, batch.num_rows - 1)))
    ids = standing(conn, folder)
    with pytest.raises(VerificationError, match="stays in the database"):
        move_all(url, local_storage(folder))
    assert standing(conn, folder) == ids
    monkeypatch.undo()
    move_all(url, local_storage(folder))
    assert standing(conn, folder) == ids


def test_a_moment_that_no_file_can_hold_keeps_the_month_in_the_database(
    url: str, conn: Connection, folder: Path
) -> None:
    conn.execute("update user_behavior_events set created_at = 'infinity' where session_id = 'many'")
    with pytest.raises(RefusedError, match="created_at: holds infinity"):
        move_all(url, local_storage(folder))
    assert month(3) in months(conn, BEHAVIOR)


def test_one_session_at_a_time_moves_a_month(url: str, conn: Connection, folder: Path) -> None:
    def second() -> None:
        with pytest.raises(AlreadyRunningError):
            move_all(url, local_storage(folder))

    move_all(url, Interfering(local_storage(folder), "put", second))
    assert min(months(conn, BEHAVIOR)) == month(2)


def test_past_retention_files_go_and_the_store_is_asked(url: str, conn: Connection, folder: Path) -> None:
    move_all(url, local_storage(folder))
    set_policy(conn, BEHAVIOR, retention="4 months")
    upkeep = keep_up(url, EVENTS, local_storage(folder), now())
    assert (upkeep.expired_files, upkeep.swept.retired) == (1, 1)
    assert [name.split("/")[1] for name in objects(folder)] == [f"{month(back):%Y-%m}" for back in (4, 3)]
    assert value(conn, "select state from lifecycle.cold_files where month = %s", (month(5),)) == "removed"


def test_a_clock_that_is_ahead_lets_no_file_and_no_waiting_row_expire(url: str, conn: Connection, folder: Path) -> None:
    move_all(url, local_storage(folder))
    ids = standing(conn, folder)
    thaw(conn, local_storage(folder), manifest.live_files(conn, EVENTS.relation, month(3))[0], {0})
    upkeep = keep_up(url, EVENTS, local_storage(folder), now() + timedelta(days=4000))
    assert (upkeep.expired_files, upkeep.refrozen) == (0, 1)
    assert standing(conn, folder) == ids
    # Past retention by the server's clock, a row goes that waits as well.
    thaw(conn, local_storage(folder), manifest.live_files(conn, EVENTS.relation, month(5))[0], {0})
    set_policy(conn, BEHAVIOR, retention="4 months")
    keep_up(url, EVENTS, local_storage(folder), now())
    assert len(standing(conn, folder)) == len(ids) - 1


def test_where_nothing_is_nothing_is_done(empty_application_db: str, folder: Path) -> None:
    upgrade(empty_application_db, COLD)
    assert move_all(empty_application_db, local_storage(folder)) == []
    upkeep = keep_up(empty_application_db, EVENTS, local_storage(folder), now())
    assert (upkeep.refrozen, upkeep.expired_files, upkeep.after_actions) == (0, 0, 0)
    with connect(empty_application_db) as session:
        assert list(verify_files(session, EVENTS, local_storage(folder))) == []
        assert cold_status(session, EVENTS, now()).months == ()
        with pytest.raises(RefusedError, match="no file holds this month"):
            restore_month(
                empty_application_db, EVENTS, month(4), local_storage(folder), keep_for=timedelta(1), now=now()
            )


def test_an_object_that_nobody_knows_goes_after_two_days_and_no_other(url: str, conn: Connection, folder: Path) -> None:
    move_all(url, local_storage(folder))
    known = objects(folder)
    stray = folder / "user_behavior_events" / "2020-01" / "stray.parquet"
    other = folder / "of_another_table" / "stray.parquet"
    for path in (stray, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"whatever")
    assert sweep(conn, EVENTS, local_storage(folder), now()).unknown == 0
    assert sweep(conn, EVENTS, local_storage(folder), now() + timedelta(days=3)).unknown == 1
    assert objects(folder) == sorted([*known, "of_another_table/stray.parquet"])


@pytest.mark.every_version
@pytest.mark.timeout(280)
def test_killed_anywhere_with_writers_at_work(url: str, conn: Connection, folder: Path) -> None:
    """SIGKILL before and after each step in turn; somebody inserts and corrects rows of those months in between."""
    ids = set(standing(conn, folder))
    with writing(lambda: url) as writer, executioner() as moves:
        for place in PLACES:
            for when in WHEN:
                writer.leaves_old_months_alone.clear()
                time.sleep(0.3)
                rotate_all(conn, table=BEHAVIOR)
                # A month that changes all the time would never come to the later steps.
                writer.leaves_old_months_alone.set()
                assert moves.move(url, folder, place, when) == -signal.SIGKILL, (place, when)
    for _ in range(3):
        rotate_all(conn, table=BEHAVIOR)
        until = time.monotonic() + 20
        while True:
            try:
                move_all(url, local_storage(folder))
                break
            except AlreadyRunningError:
                assert time.monotonic() < until
                time.sleep(0.1)
    keep_up(url, EVENTS, local_storage(folder), now())
    writer.assert_kept(conn, local_storage(folder), folder.parent, ids)
    assert min(months(conn, BEHAVIOR)) == month(2)
    assert_only_live_objects(conn, folder)
