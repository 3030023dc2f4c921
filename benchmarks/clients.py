"""What the application does meanwhile: writers on a timetable, readers that know what they must see.

Each function is the whole life of one process. Latency counts from the moment a statement was due: the statements
queued behind a stall count too.
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[tuple[Any, ...]]

WRITES_PER_SECOND: Final = 50
READS_PER_SECOND: Final = 4
UPDATE_SHARE: Final = 0.1
ACCOUNTS: Final = 20_000
# Marks the rows that the load wrote.
USER_AGENT: Final = "lifecycle-benchmark"
# On a busy machine each client takes long to load.
START_PATIENCE: Final = 180.0

INSERT: Final = """
insert into user_behavior_events (id, account_id, session_id, event_timestamp, page_url, user_agent, screen_resolution,
                                  viewport_size, language, timezone, actions, performance, engagement)
values (%s, %s, %s, now(), %s, %s, '1920x1080', '1280x800', 'ja-JP', 'Asia/Tokyo',
        '[{"t": 120, "type": "click", "target": "#button-7"}]', '{"load_ms": 812, "ttfb_ms": 71}', '{"version": 0}')
"""
UPDATE: Final = "update user_behavior_events set engagement = %s where id = %s"
COUNT: Final = "select count(*) from user_behavior_events where event_timestamp >= %s and event_timestamp < %s"
# A dependent view that nobody keeps: kept views answer from a table, as of their last refresh.
CREATE_VIEW: Final = """
create view events_of_a_day as
select count(*) as events from user_behavior_events where event_timestamp >= now() - interval '24 hours'
"""
# Both sides in one statement, so in one snapshot: they differ only when the view reads another table.
VIEW_AND_TABLE: Final = """
select (select events from events_of_a_day),
       (select count(*) from user_behavior_events where event_timestamp >= now() - interval '24 hours')
"""


@dataclass(frozen=True)
class Signals:
    """How the processes of a load start together and end together."""

    ready: Barrier
    stop: Event
    records: "Queue[Sequence[Write | Read]]"


@dataclass(frozen=True)
class Write:
    """One statement of a writer. Times in seconds of the monotonic clock; `version` is what an update wrote."""

    kind: Literal["insert", "update"]
    id: UUID
    version: int
    due: float
    sent: float
    done: float
    rows: int
    error: str | None


@dataclass(frozen=True)
class Read:
    """One read of the table or of a dependent view; `short` is by how many rows it fell short or was off."""

    kind: Literal["table", "view"]
    due: float
    done: float
    short: int
    error: str | None


@dataclass(frozen=True)
class KnownHour:
    """An hour of past events and how many rows it holds; the load adds none to it."""

    start: datetime
    rows: int


def _connect(url: str, name: str) -> Connection:
    conn = psycopg.connect(url, autocommit=True, application_name=name)
    # A stall is measured to its end, and the disk's own pauses stay out of it.
    conn.execute("set statement_timeout = 0")
    conn.execute("set synchronous_commit = off")
    return conn


def _wait_until(due: float) -> None:
    if (left := due - time.monotonic()) > 0:
        time.sleep(left)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"


def write(url: str, number: int, signals: Signals) -> None:
    """Insert, and now and then update a row inserted earlier, on a fixed timetable until told to stop."""
    chance = random.Random(number)
    conn = _connect(url, "benchmark writer")
    records: list[Write] = []
    mine: list[tuple[UUID, float]] = []
    signals.ready.wait(START_PATIENCE)
    start = time.monotonic() + chance.random() / WRITES_PER_SECOND
    for turn in range(1 << 31):
        due = start + turn / WRITES_PER_SECOND
        _wait_until(due)
        if signals.stop.is_set():
            break
        settled = [row for row, inserted in mine[-400:] if due - inserted > 1.0]
        updating = bool(settled) and chance.random() < UPDATE_SHARE
        row = chance.choice(settled) if updating else uuid4()
        sent, rows, error = time.monotonic(), 0, None
        try:
            if updating:
                rows = conn.execute(UPDATE, (Jsonb({"version": turn}), row)).rowcount
            else:
                account = UUID(int=chance.randrange(1, ACCOUNTS + 1))
                page = f"https://app.example.com/chat/{turn % 300}"
                values = (row, account, f"session_{number}_{turn // 10}", page, USER_AGENT)
                rows = conn.execute(INSERT, values).rowcount
        except psycopg.Error as failure:
            error = _reason(failure)
            if conn.broken:
                conn = _connect(url, "benchmark writer")
        done = time.monotonic()
        records.append(Write("update" if updating else "insert", row, turn, due, sent, done, rows, error))
        if not updating and error is None:
            mine.append((row, done))
    signals.records.put(records)


def _read(
    url: str, kind: Literal["table", "view"], signals: Signals, read_once: Callable[[Connection, int], int]
) -> None:
    conn = _connect(url, "benchmark reader")
    records: list[Read] = []
    signals.ready.wait(START_PATIENCE)
    start = time.monotonic()
    for turn in range(1 << 31):
        due = start + turn / READS_PER_SECOND
        _wait_until(due)
        if signals.stop.is_set():
            break
        short, error = 0, None
        try:
            short = read_once(conn, turn)
        except psycopg.Error as failure:
            error = _reason(failure)
            if conn.broken:
                with suppress(psycopg.OperationalError):
                    conn = _connect(url, "benchmark reader")
        records.append(Read(kind, due, time.monotonic(), short, error))
    signals.records.put(records)


def read_table(url: str, hours: Sequence[KnownHour], signals: Signals) -> None:
    """Count the rows of known hours, in turn, until told to stop."""

    def read_once(conn: Connection, turn: int) -> int:
        hour = hours[turn % len(hours)]
        found = conn.execute(COUNT, (hour.start, hour.start + timedelta(hours=1))).fetchone()
        return hour.rows - (found[0] if found else 0)

    _read(url, "table", signals, read_once)


def read_view(url: str, signals: Signals) -> None:
    """Compare a dependent view with the table, in one snapshot, until told to stop."""

    def read_once(conn: Connection, _: int) -> int:
        found = conn.execute(VIEW_AND_TABLE).fetchone()
        return abs(int(found[0]) - found[1]) if found else 0

    _read(url, "view", signals, read_once)
