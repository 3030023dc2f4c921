"""Others hold locks: the conversion waits politely, names who is in the way, and goes on once they are gone."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

import pytest

from lifecycle.database import Connection, connect, value
from lifecycle.errors import AlreadyRunningError, BusyError
from lifecycle.partitions import attach
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.snapshots import wait_for_older_snapshots
from tests.conversion_load import (
    BEHAVIOUR,
    BUSINESS,
    FEW_MONTHS,
    at_step,
    convert,
    few_tries,
    fill,
    fingerprint,
    insert_event,
    leftovers,
    open_transaction,
    relation_kind,
)

MakeDb = Callable[..., str]
READ = "select count(*) from user_behavior_events"
SNAPSHOT = f"set transaction isolation level repeatable read; {READ}"


@pytest.fixture
def url(make_application_db: MakeDb, now: datetime) -> str:
    made = make_application_db(rows=False, migrated=True)
    fill(made, BEHAVIOUR, now, count=200, span=FEW_MONTHS, odd=False)
    return made


@contextmanager
def released_after(url: str, statement: str, seconds: float) -> Iterator[None]:
    """Another session holds what `statement` locked for some seconds, while the block runs."""
    holds = threading.Event()

    def hold() -> None:
        with open_transaction(url, statement):
            holds.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert holds.wait(10)
    yield
    thread.join(30)


# The step before which the reader comes, and what must be true of the table while it is there.
STEPS = ["autovacuum off", "attached to its new parent", "views switched", "names swapped", "capturing", "agree"]


@pytest.mark.parametrize("step", STEPS)
def test_reader_that_never_ends(url: str, now: datetime, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """BusyError names its pid; all rows stay; writers are not held up; a rerun finishes."""
    few_tries(monkeypatch)
    assert wait_for_older_snapshots.__kwdefaults__ is not None
    monkeypatch.setitem(wait_for_older_snapshots.__kwdefaults__, "tries", 3)
    before = fingerprint(url, BEHAVIOUR)
    readers: list[Connection] = []

    def read() -> None:
        if not readers:
            readers.append(connect(url, application_name="dashboard", autocommit=False))
            readers[0].execute("set transaction isolation level repeatable read")
            readers[0].execute(READ)

    with pytest.raises(BusyError) as busy:
        convert_table(url, BEHAVIOUR, now=now, progress=at_step(step, read))
    assert str(readers[0].info.backend_pid) in str(busy.value)
    assert "user_behavior_events" in str(busy.value)
    assert "run this again" in str(busy.value)
    with connect(url) as conn:
        started = time.perf_counter()
        insert_event(conn, BEHAVIOUR, now, session="meanwhile")
        assert time.perf_counter() - started < 1
        conn.execute("delete from user_behavior_events where session_id = 'meanwhile'")
    assert readers[0].execute(READ).fetchone() == (before[0],)
    readers[0].close()
    assert fingerprint(url, BEHAVIOUR) == before
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert fingerprint(url, BEHAVIOUR) == before
    assert leftovers(url) == []


@pytest.mark.parametrize("step", [None, "autovacuum off", "attached to its new parent", "names swapped", "agree"])
def test_reader_that_ends_meanwhile(url: str, now: datetime, step: str | None) -> None:
    before = fingerprint(url, BEHAVIOUR)
    stack: list[AbstractContextManager[None]] = []

    def read() -> None:
        if not stack:
            stack.append(released_after(url, READ, 0.6))
            stack[0].__enter__()

    if step is None:
        read()
    result = convert_table(url, BEHAVIOUR, now=now, progress=at_step(step or "nothing", read))
    stack[0].__exit__(None, None, None)
    assert result.outcome == "converted"
    assert result.longest_lock_ms < 5000
    assert fingerprint(url, BEHAVIOUR) == before
    assert leftovers(url) == []


def test_old_snapshot_that_reads_the_table_late(url: str, now: datetime) -> None:
    """A snapshot from before the rows were copied would see none of the copies: the exchange waits for its end."""
    expected = fingerprint(url, BEHAVIOUR)[0]
    found: list[object] = []
    threads: list[threading.Thread] = []

    def read_late() -> None:
        with connect(url, autocommit=False) as conn:
            conn.execute("set transaction isolation level repeatable read")
            conn.execute("select pg_current_snapshot()")
            ready.set()
            time.sleep(1.5)
            found.append(value(conn, READ))

    def start() -> None:
        threads.append(threading.Thread(target=read_late, daemon=True))
        threads[0].start()
        assert ready.wait(10)

    ready = threading.Event()
    assert convert_table(url, BEHAVIOUR, now=now, progress=at_step("capturing", start)).outcome == "converted"
    threads[0].join(30)
    assert found == [expected]


def test_long_transaction_elsewhere_does_not_matter(url: str, now: datetime) -> None:
    """A session that is idle in a transaction at READ COMMITTED holds no snapshot and no lock of ours."""
    with open_transaction(url, "select 1"):
        assert convert(url, BEHAVIOUR, now).outcome == "converted"


@pytest.mark.parametrize("step", ["key index built", "names swapped"])
def test_vacuum_that_ends_meanwhile(url: str, now: datetime, step: str) -> None:
    """SHARE UPDATE EXCLUSIVE, as VACUUM, ANALYZE and CREATE INDEX CONCURRENTLY take it."""
    stack: list[AbstractContextManager[None]] = []

    def hold() -> None:
        if not stack:
            table = (
                "event_partitions.user_behavior_events_legacy" if step == "names swapped" else "user_behavior_events"
            )
            stack.append(released_after(url, f"lock table only {table} in share update exclusive mode", 1.0))
            stack[0].__enter__()

    assert convert_table(url, BEHAVIOUR, now=now, progress=at_step(step, hold)).outcome == "converted"
    stack[0].__exit__(None, None, None)
    assert leftovers(url) == []


@pytest.mark.parametrize("statement", [SNAPSHOT, "lock table user_behavior_events in share update exclusive mode"])
def test_key_index_cannot_be_built(url: str, now: datetime, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """The build gives up in the end and names who is in the way; the application notices nothing."""
    monkeypatch.setattr(attach, "KEY_INDEX_PATIENCE", "400ms")
    before = fingerprint(url, BEHAVIOUR)
    with open_transaction(url, statement) as other:
        with pytest.raises(BusyError, match="user_behavior_events") as busy:
            convert(url, BEHAVIOUR, now)
        assert f"pid {other.info.backend_pid} (postgres)" in str(busy.value)
    assert relation_kind(url, "user_behavior_events") == "r"
    assert fingerprint(url, BEHAVIOUR) == before
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert leftovers(url) == []


def test_writer_of_accounts_in_the_way(url: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The foreign key's table is locked too: a session that holds it is waited for, and named."""
    few_tries(monkeypatch)
    holds = "update accounts set status = 'active' where id = md5('account1')::uuid"
    with open_transaction(url, holds), pytest.raises(BusyError, match="user_behavior_events"):
        convert(url, BEHAVIOUR, now)
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert leftovers(url) == []


def test_second_conversion_at_the_same_time(url: str, now: datetime) -> None:
    """One at a time in a database, whichever the table; the message names the first one's pid."""
    refused: list[str] = []

    def second() -> None:
        with connect(url) as conn:
            pid = value(conn, "select pid from pg_stat_activity where application_name = 'lifecycle convert'")
        for table in (BEHAVIOUR, BUSINESS):
            with pytest.raises(AlreadyRunningError, match=str(pid)) as error:
                convert(url, table, now)
            refused.append(str(error.value))

    assert convert_table(url, BEHAVIOUR, now=now, progress=at_step("capturing", second)).outcome == "converted"
    assert len(refused) == 2
    assert convert(url, BUSINESS, now).outcome == "converted"
