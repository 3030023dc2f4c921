"""Rotation beside the application: long readers, writers, two rotations, a killed session."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta

import psycopg
import pytest

from lifecycle.database import Connection, connect, value
from lifecycle.partitions.months import add_months, month_start, partition_name
from lifecycle.partitions.rotate import RotationAction, rotate
from tests.declared import EVENT_TABLES
from tests.partitioned import (
    BEHAVIOR,
    BUSINESS,
    REPLAYS,
    audit_rows,
    done,
    insert_events,
    months,
    partition_tables,
    plain_session,
    rotate_all,
    server_clock,
    set_policy,
)

pytest_plugins = ("tests.partitioned_fixtures",)
pytestmark = pytest.mark.timeout(60)

LOCK_TIMEOUT_MS = 50
# Several times the lock timeout, for two busy cores. A writer behind a retrying rotation would wait for seconds.
SANE_STALL_MS = 800.0

WRITE = {
    BEHAVIOR: "insert into user_behavior_events (session_id, page_url) values ('writer', '/')",
    BUSINESS: "insert into business_metrics_events (account_id, session_id, page_url)"
    " select id, 'writer', '/' from accounts limit 1",
    REPLAYS: "insert into session_replay_events (session_id, event_type, event_data) values ('writer', 'x', '{}')",
}
WAITING = "select count(*) from pg_stat_activity where application_name = %s and state = 'active'"


@contextmanager
def held(url: str, *statements: str) -> Iterator[Connection]:
    """A transaction that has run `statements` and stays open."""
    with psycopg.connect(url) as holder:
        for statement in statements:
            holder.execute(statement.encode())
        yield holder
        holder.rollback()


@contextmanager
def repeating(url: str, work: Callable[[Connection], object]) -> Iterator[list[float]]:
    """Run `work` again and again in a session of its own; the list holds each call's milliseconds."""
    milliseconds: list[float] = []
    stop = threading.Event()

    def run() -> None:
        with plain_session(url) as conn:
            while not stop.is_set():
                started = time.perf_counter()
                work(conn)
                milliseconds.append((time.perf_counter() - started) * 1000)
                stop.wait(0.003)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield milliseconds
        finally:
            stop.set()
            running.result()


def report_stall(record_property: Callable[[str, object], None], milliseconds: list[float]) -> None:
    """Write the longest stall into the test report, and check that nobody waited for rotation's retries."""
    longest = max(milliseconds)
    record_property("longest_stall_ms", round(longest, 1))
    print(f"longest stall {longest:.1f} ms in {len(milliseconds)} calls")  # noqa: T201 - shown by pytest -rP
    assert longest < SANE_STALL_MS


def next_month(conn: Connection) -> datetime:
    """The first instant of next month: rotation as of then makes one month and finds nothing else to do."""
    return add_months(month_start(server_clock(conn)), 1)


@pytest.mark.parametrize("holds", ["a reader of every partition", "a writer of the referenced table"])
def test_a_long_transaction_is_a_failure_row_and_stalls_no_writer(
    partitioned: Connection, partitioned_db: str, record_property: Callable[[str, object], None], holds: str
) -> None:
    set_policy(partitioned, BEHAVIOR, lock_tries=6)
    before = partition_tables(partitioned)
    statement = (
        "select count(*) from user_behavior_events"
        if "reader" in holds
        else "update accounts set onboarding_state = '{}'"
    )
    with (
        held(partitioned_db, statement),
        repeating(partitioned_db, lambda conn: conn.execute(WRITE[BEHAVIOR].encode())) as stalls,
    ):
        actions = rotate(partitioned, BEHAVIOR, next_month(partitioned))
    assert [(a.action, a.outcome) for a in actions] == [("skipped", "failure")]
    assert "no lock on public.user_behavior_events" in (actions[0].error or "")
    assert "nothing was changed" in (actions[0].error or "")
    assert partition_tables(partitioned) == before
    assert [(event, payload["action"]) for event, payload in audit_rows(partitioned)] == [("job_failure", "skipped")]
    report_stall(record_property, stalls)
    assert done(rotate_all(partitioned, next_month(partitioned), BEHAVIOR), "create")


def test_rotation_is_done_once_the_long_reader_ends(
    partitioned: Connection, partitioned_db: str, record_property: Callable[[str, object], None]
) -> None:
    expired = min(months(partitioned, BEHAVIOR))
    set_policy(partitioned, BEHAVIOR, retention="4 months")
    with (
        repeating(partitioned_db, lambda conn: conn.execute(WRITE[BEHAVIOR].encode())) as stalls,
        held(partitioned_db, "select count(*) from user_behavior_events") as holder,
    ):
        threading.Timer(1.5, holder.rollback).start()
        started = time.perf_counter()
        actions = rotate(partitioned, BEHAVIOR, next_month(partitioned))
        assert time.perf_counter() - started > 1
    assert [(a.action, a.outcome) for a in actions] == [("create", "success"), ("drop", "success")]
    assert expired not in months(partitioned, BEHAVIOR)
    report_stall(record_property, stalls)


def test_one_busy_table_does_not_make_writers_of_the_others_wait(
    partitioned: Connection, partitioned_db: str, record_property: Callable[[str, object], None]
) -> None:
    """All tables in one call: locks of the tables done stay until its transaction ends."""
    for table in EVENT_TABLES:
        set_policy(partitioned, table, lock_tries=20)
    assert sorted(table.name for table in EVENT_TABLES)[-1] == BEHAVIOR.name
    with (
        held(partitioned_db, "select count(*) from user_behavior_events"),
        repeating(partitioned_db, lambda conn: conn.execute(WRITE[BUSINESS].encode())) as stalls,
    ):
        actions = rotate_all(partitioned, next_month(partitioned))
    assert [(a.table_name, a.outcome) for a in actions] == [
        (BUSINESS.qualified_name, "success"),
        (REPLAYS.qualified_name, "success"),
        (BEHAVIOR.qualified_name, "failure"),
    ]
    report_stall(record_property, stalls)


def test_retries_end_before_the_callers_statement_timeout(partitioned: Connection, partitioned_db: str) -> None:
    with held(partitioned_db, "select count(*) from user_behavior_events"), plain_session(partitioned_db) as impatient:
        impatient.execute("set statement_timeout = '3s'")
        done = impatient.execute(
            "select action, outcome from rotate_event_partitions(%s, %s)", (next_month(partitioned), BEHAVIOR.name)
        ).fetchall()
    assert done == [("skipped", "failure")]
    assert [event_type for event_type, _ in audit_rows(partitioned)] == ["job_failure"]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_moved_rows_are_visible_at_every_moment(
    partitioned: Connection, partitioned_db: str, record_property: Callable[[str, object], None], isolation: str
) -> None:
    this = month_start(server_clock(partitioned))
    expected = 0
    for offset in range(4, 9):
        insert_events(partitioned, BEHAVIOR, add_months(this, offset), session="moving", rows=40)
        expected += 40
    query = "select count(*), count(distinct id) from user_behavior_events where session_id = 'moving'"
    seen: list[tuple[int, int]] = []

    def read(conn: Connection) -> None:
        with conn.transaction():
            conn.execute(f"set transaction isolation level {isolation}".encode())
            for _ in range(2):
                row = conn.execute(query.encode(), prepare=True).fetchone()
                assert row is not None
                seen.append(row)

    def update(conn: Connection) -> None:
        conn.execute(
            "update user_behavior_events set page_url = '/moved' where session_id = 'moving' and random() < 0.1"
        )

    with repeating(partitioned_db, read) as reads, repeating(partitioned_db, read), repeating(partitioned_db, update):
        for offset in range(1, 6):
            actions: tuple[RotationAction, ...] = rotate(partitioned, BEHAVIOR, add_months(this, offset))
            assert [(a.action, a.rows, a.outcome) for a in actions] == [
                ("create", 40, "success"),
                ("move", 40, "success"),
            ]
    assert set(seen) == {(expected, expected)}
    report_stall(record_property, reads)


def test_no_row_is_refused_or_lost_while_its_month_is_made(partitioned: Connection, partitioned_db: str) -> None:
    this = month_start(server_clock(partitioned))
    moment = add_months(this, 4) + timedelta(days=1)
    name = partition_name(BEHAVIOR.name, add_months(this, 4))
    with repeating(partitioned_db, lambda conn: insert_events(conn, BEHAVIOR, moment, session="during")) as inserts:
        while len(inserts) < 20:
            time.sleep(0.01)
        assert done(list(rotate(partitioned, BEHAVIOR, add_months(this, 1))), "create") == [name]
        enough = len(inserts) + 20
        while len(inserts) < enough:
            time.sleep(0.01)
    placed = "select count(*) from user_behavior_events where session_id = 'during' and tableoid = to_regclass(%s)"
    assert value(partitioned, placed, (f"event_partitions.{name}",)) == len(inserts)


def test_a_second_rotation_is_told_of_the_first(partitioned: Connection, partitioned_db: str) -> None:
    with plain_session(partitioned_db) as first:
        with first.transaction():
            created = done(rotate_all(first, next_month(partitioned)), "create")
            with pytest.raises(psycopg.errors.LockNotAvailable, match="already runs in another session"):
                rotate(partitioned, BEHAVIOR)
        assert len(created) == len(EVENT_TABLES)
    assert rotate(partitioned, BEHAVIOR)[0].action == "unchanged"


def test_a_killed_rotation_leaves_nothing_behind(partitioned: Connection, partitioned_db: str) -> None:
    this = month_start(server_clock(partitioned))
    insert_events(partitioned, BEHAVIOR, add_months(this, 4), session="moving")
    before = partition_tables(partitioned)
    with (
        held(partitioned_db, "select count(*) from user_behavior_events"),
        ThreadPoolExecutor(1) as pool,
        connect(partitioned_db, application_name="doomed") as doomed,
    ):
        running = pool.submit(rotate, doomed, BEHAVIOR, next_month(partitioned))
        while not value(partitioned, WAITING, ("doomed",)):
            time.sleep(0.01)
        time.sleep(0.4)
        partitioned.execute("select pg_terminate_backend(%s)", (doomed.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            running.result(timeout=20)
    assert partition_tables(partitioned) == before
    assert audit_rows(partitioned) == []
    actions = rotate(partitioned, BEHAVIOR, next_month(partitioned))
    assert [(a.action, a.rows, a.outcome) for a in actions] == [("create", 1, "success"), ("move", 1, "success")]


def test_a_reader_of_an_expired_partition_delays_the_drop_only(
    partitioned: Connection, partitioned_db: str, record_property: Callable[[str, object], None]
) -> None:
    oldest = partition_name(BEHAVIOR.name, min(months(partitioned, BEHAVIOR)))
    set_policy(partitioned, BEHAVIOR, retention="1 month", lock_tries=5)
    before = partition_tables(partitioned)
    with (
        held(partitioned_db, f"table event_partitions.{oldest}"),
        repeating(partitioned_db, lambda conn: conn.execute(WRITE[BEHAVIOR].encode())) as stalls,
    ):
        (action,) = rotate(partitioned, BEHAVIOR)
    assert (action.action, action.outcome) == ("skipped", "failure")
    assert partition_tables(partitioned) == before
    report_stall(record_property, stalls)
    assert oldest in done(rotate_all(partitioned, table=BEHAVIOR), "drop")
