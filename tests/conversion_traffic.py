"""The application at work during a conversion: writers that know what they wrote, readers that know what must be there.

Each worker is a thread with its own session. A writer notes a row only after its transaction is committed, so what
the table must hold at the end is exact.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from lifecycle.database import Connection
from lifecycle.partitions.tables import MonthlyTable
from tests.conversion_load import insert_event

PAUSE = 0.004


@dataclass
class Traffic:
    """What happened. `written`: the text of each row that the writers left behind, by id."""

    url: str
    table: MonthlyTable
    now: datetime
    written: dict[uuid.UUID, str] = field(default_factory=dict)
    deleted_accounts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    longest_write: float = 0.0
    longest_read: float = 0.0
    writes: int = 0
    reads: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def text_column(self) -> sql.Identifier:
        return sql.Identifier("event_type" if self.table.time_column == "timestamp" else "page_url")

    @property
    def relation(self) -> sql.Identifier:
        return sql.Identifier(self.table.name)

    def wrote(self, started: float) -> None:
        with self.lock:
            self.writes += 1
            self.longest_write = max(self.longest_write, time.perf_counter() - started)

    def has_read(self, started: float) -> None:
        with self.lock:
            self.reads += 1
            self.longest_read = max(self.longest_read, time.perf_counter() - started)


def _run(traffic: Traffic, url: str, work: Callable[[Traffic, Connection], Iterator[None]]) -> None:
    try:
        with psycopg.connect(url, autocommit=True, application_name=work.__name__) as conn:
            steps = work(traffic, conn)
            while not traffic.stopped.is_set():
                next(steps)
                time.sleep(PAUSE)
    except Exception as error:
        traffic.errors.append(f"{work.__name__}: {type(error).__name__}: {error}")


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)


@contextmanager
def running(traffic: Traffic, *workers: Callable[[Traffic, Connection], Iterator[None]]) -> Iterator[None]:
    """Let `workers` run side by side during the block; those whose name starts with `api` log in as authenticator."""
    api = make_url(traffic.url).set(drivername="postgresql", username="authenticator")
    threads: list[threading.Thread] = []
    with ExitStack() as stack:
        stack.callback(_join, threads)
        stack.callback(traffic.stopped.set)
        for work in workers:
            url = api.render_as_string(hide_password=False) if work.__name__.startswith("api") else traffic.url
            threads.append(threading.Thread(target=_run, args=(traffic, url, work), daemon=True))
            threads[-1].start()
        time.sleep(0.2)
        yield
        time.sleep(0.2)


def some_moment(traffic: Traffic, chance: random.Random) -> datetime:
    """Mostly now, sometimes any month within or past retention, sometimes a clock that is ahead."""
    kind = chance.random()
    if kind < 0.5:
        return traffic.now
    return traffic.now - timedelta(seconds=chance.uniform(-200, 900) * 86400)


def insert_update_delete(traffic: Traffic, conn: Connection) -> Iterator[None]:
    """Insert; update by id alone, sometimes into another month; delete by id alone."""
    chance = random.Random(7)
    mine: list[uuid.UUID] = []
    change = sql.SQL("update {} set {} = %s where id = %s").format(traffic.relation, traffic.text_column)
    move = sql.SQL("update {} set {} = %s where id = %s").format(
        traffic.relation, sql.Identifier(traffic.table.time_column)
    )
    remove = sql.SQL("delete from {} where id = %s").format(traffic.relation)
    while True:
        started = time.perf_counter()
        new = insert_event(conn, traffic.table, some_moment(traffic, chance), session="traffic")
        traffic.wrote(started)
        mine.append(new)
        traffic.written[new] = "input" if traffic.table.time_column == "timestamp" else "/"
        row = chance.choice(mine)
        started = time.perf_counter()
        kind = chance.random()
        if kind < 0.5:
            text = f"/changed/{traffic.writes}"
            touched = conn.execute(change, (text, row)).rowcount
            traffic.written[row] = text
        elif kind < 0.8:
            touched = conn.execute(move, (some_moment(traffic, chance), row)).rowcount
        else:
            touched = conn.execute(remove, (row,)).rowcount
            mine.remove(row)
            del traffic.written[row]
        traffic.wrote(started)
        if touched != 1:
            traffic.errors.append(f"a statement by id touched {touched} rows")
        yield


def api_insert(traffic: Traffic, conn: Connection) -> Iterator[None]:
    """Insert as PostgREST does: log in as authenticator, take the role for one transaction."""
    chance = random.Random(8)
    while True:
        started = time.perf_counter()
        with conn.transaction():
            conn.execute("select set_config('role', 'service_role', true)")
            new = insert_event(conn, traffic.table, some_moment(traffic, chance), session="traffic")
        traffic.wrote(started)
        traffic.written[new] = "input" if traffic.table.time_column == "timestamp" else "/"
        yield


def long_transactions(traffic: Traffic, conn: Connection) -> Iterator[None]:
    """Write, hold the transaction open for a while, write again, and undo every third of them."""
    chance = random.Random(9)
    text = "input" if traffic.table.time_column == "timestamp" else "/"
    rounds = 0
    while True:
        rounds += 1
        with conn.transaction(force_rollback=rounds % 3 == 0):
            first = insert_event(conn, traffic.table, some_moment(traffic, chance), session="traffic")
            time.sleep(0.1)
            second = insert_event(conn, traffic.table, some_moment(traffic, chance), session="traffic")
        if rounds % 3:
            traffic.written |= {first: text, second: text}
        for _ in range(20):
            yield


def delete_accounts(traffic: Traffic, conn: Connection) -> Iterator[None]:
    """Delete an account whose events stay (ON DELETE SET NULL)."""
    for number in range(1, 51):
        started = time.perf_counter()
        deleted = conn.execute(
            "delete from accounts where id = md5('account' || %s)::uuid returning id::text", (str(number),)
        ).fetchone()
        traffic.wrote(started)
        if deleted is None:
            traffic.errors.append(f"account {number} was not there")
        else:
            traffic.deleted_accounts.append(deleted[0])
        for _ in range(10):
            yield
    while True:
        yield


def read_known_rows(traffic: Traffic, conn: Connection) -> Iterator[None]:
    """Known rows through the table, its view and its materialized view; a prepared statement keeps its plan."""
    query = sql.SQL(
        "select (select count(*) from {0} where session_id = 'known'), (select count(*) from known_view),"
        " (select count(*) from known_matview)"
    ).format(traffic.relation)
    expected = conn.execute(query).fetchone()
    while True:
        started = time.perf_counter()
        found = conn.execute(query, prepare=True).fetchone()
        traffic.has_read(started)
        if found != expected:
            traffic.errors.append(f"known rows (table, view, matview): {found} instead of {expected}")
        yield


def read_in_one_snapshot(traffic: Traffic, conn: Connection) -> Iterator[None]:
    """A REPEATABLE READ transaction that takes its snapshot long before it reads the table, and reads it twice."""
    query = sql.SQL("select count(*) from {0} where session_id = 'known'").format(traffic.relation)
    expected = conn.execute(query).fetchone()
    while True:
        with conn.transaction():
            conn.execute("set transaction isolation level repeatable read")
            conn.execute("select pg_current_snapshot()")
            time.sleep(0.3)
            for _ in range(2):
                time.sleep(0.05)
                found = conn.execute(query).fetchone()
                if found != expected:
                    traffic.errors.append(f"known rows in an older snapshot: {found} instead of {expected}")
        yield
