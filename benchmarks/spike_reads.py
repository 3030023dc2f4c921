"""The reads of a spike: dashboards by the names of their views, and what the API asks for a person, on a timetable."""

import multiprocessing
import queue
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from typing import Any, Final, Self
from uuid import UUID

import psycopg
from psycopg import sql

from lifecycle.errors import SandboxError

DASHBOARDS: Final = "dashboards"
# What a page shows at most.
PAGE: Final = sql.SQL("select * from {} limit 200")
API: Final = {
    "chat messages": """
        select id, role, content, created_at from public.chat_messages where session_id = %s order by sequence""",
    "events of an account": """
        select id, page_url, event_timestamp from public.user_behavior_events
         where account_id = %s order by event_timestamp desc limit 50""",
    "recommendations": "select * from public.recommend_activities(%s, 10)",
}
KINDS: Final = (DASHBOARDS, *API)
# Of each kind so many clients, as many connections of the application.
CLIENTS: Final = 2
KNOWN: Final = 500
SESSIONS: Final = "select id from public.chat_sessions order by md5(id::text) limit %s"
ACCOUNTS: Final = """
select account_id from public.user_behavior_events where account_id is not null
 group by 1 order by md5(account_id::text) limit %s
"""
# To start, where the machine is busy.
PATIENCE: Final = 180.0


@dataclass(frozen=True)
class Asked:
    """What the clients ask for: names of views, ids of sessions and accounts."""

    views: tuple[str, ...]
    sessions: tuple[UUID, ...]
    accounts: tuple[UUID, ...]


@dataclass(frozen=True)
class TimedRead:
    """One read. Seconds of the monotonic clock, from the moment it was due."""

    kind: str
    due: float
    done: float
    error: str | None


@dataclass(frozen=True)
class Felt:
    """What the reads of one kind felt: how many, how many failed, and the p95 in milliseconds."""

    reads: int
    errors: int
    p95_ms: float


def asked_of(url: str) -> Asked:
    """What is in the database to ask for."""
    from lifecycle.database import connect_directly, rows
    from lifecycle.views.statistics import statistics_status

    with connect_directly(url, application_name="benchmark") as conn:
        views = tuple(str(status.name) for status in statistics_status(conn))
        sessions = tuple(found for (found,) in rows(conn, SESSIONS, (KNOWN,)))
        accounts = tuple(found for (found,) in rows(conn, ACCOUNTS, (KNOWN,)))
    assert views, "no view is kept, so no dashboard would be measured"
    assert sessions and accounts, "nobody to read for"  # noqa: PT018 - both come from the same rows
    return Asked(views, sessions, accounts)


def _read(
    url: str, kind: str, number: int, rate: float, asked: Asked, ready: Barrier, stop: Event, records: "Queue[Any]"
) -> None:
    """The life of one client: `rate` reads a second until told to stop."""
    chance = random.Random(number)
    conn = psycopg.connect(url, autocommit=True, application_name="benchmark reader")
    pages = [PAGE.format(sql.SQL(view)) for view in asked.views]
    known = asked.sessions if kind == "chat messages" else asked.accounts
    found: list[TimedRead] = []
    ready.wait(PATIENCE)
    start = time.monotonic() + chance.random() / rate
    for turn in range(1 << 31):
        due = start + turn / rate
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        if stop.is_set():
            break
        error = None
        try:
            if kind == DASHBOARDS:
                conn.execute(pages[(turn * CLIENTS + number) % len(pages)]).fetchall()
            else:
                conn.execute(API[kind].encode(), (chance.choice(known),)).fetchall()
        except psycopg.Error as failure:
            error = f"{type(failure).__name__}: {str(failure).splitlines()[0][:100]}"
            if conn.broken:
                conn = psycopg.connect(url, autocommit=True, application_name="benchmark reader")
        found.append(TimedRead(kind, due, time.monotonic(), error))
    records.put(found)


class Readers:
    """Clients of every kind, each in a process of its own, from `with` to `finish()`."""

    def __init__(self, url: str, rate: float, asked: Asked) -> None:
        """`rate` is of each kind, all its clients together."""
        context = multiprocessing.get_context("spawn")
        lives = [(kind, number) for kind in KINDS for number in range(CLIENTS)]
        self._ready, self._stop = context.Barrier(len(lives) + 1), context.Event()
        self._records: Queue[list[TimedRead]] = context.Queue()
        self._processes = [
            context.Process(
                target=_read,
                args=(url, kind, number, rate / CLIENTS, asked, self._ready, self._stop, self._records),
                daemon=True,
            )
            for kind, number in lives
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        self._ready.wait(PATIENCE)
        # Plans and caches of the connections are filled.
        time.sleep(2.0)
        return self

    def finish(self) -> list[TimedRead]:
        """Stop the clients and collect what they read."""
        self._stop.set()
        found: list[TimedRead] = []
        for _ in self._processes:
            found += self._next()
        return found

    def _next(self) -> list[TimedRead]:
        while True:
            try:
                return self._records.get(timeout=1.0)
            except queue.Empty:
                if any(process.exitcode for process in self._processes):
                    raise SandboxError("a client of the spike died; its traceback is above") from None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self._processes:
            if kind is not None:
                process.terminate()
            process.join()


def felt(reads: Sequence[TimedRead], kind: str, first: float, last: float) -> Felt:
    """What was due between two moments; AssertionError where that is too little to speak of a p95."""
    chosen = [read for read in reads if read.kind == kind and first <= read.due <= last]
    waits = sorted((read.done - read.due) * 1000 for read in chosen)
    assert len(waits) >= 20, f"{len(waits)} reads of {kind}: let it take longer"
    errors = sum(read.error is not None for read in chosen)
    return Felt(len(chosen), errors, round(waits[int(0.95 * (len(waits) - 1))], 2))
