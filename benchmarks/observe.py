"""What an operation costs the server: its locks as others feel them, disk and write-ahead log."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import psycopg

from lifecycle.database import Connection, connect_directly, value

SAMPLE_SECONDS: Final = 0.05
SAMPLES_PER_SIZE: Final = 20
LONGEST_WAIT: Final = """
select coalesce(max(extract(epoch from clock_timestamp() - l.waitstart)) * 1000, 0)::float8
  from pg_locks l join pg_stat_activity a using (pid)
 where not l.granted and a.datname = current_database() and a.application_name = 'benchmark writer'
"""
SIZE: Final = "select pg_database_size(current_database())"
WAL_POSITION: Final = "select pg_current_wal_insert_lsn()::text"
WAL_SINCE: Final = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)::bigint"


@dataclass(frozen=True)
class Cost:
    """Bytes beyond the size before: at the peak (sampled each second) and left at the end; WAL includes the load's.

    `lock_wait_ms` is the longest wait of a writer for a lock that was seen in 20 samples a second. `first` and `last`
    are the operation's moments on the monotonic clock.
    """

    first: float
    last: float
    wal_bytes: int = 0
    disk_peak: int = 0
    disk_left: int = 0
    lock_wait_ms: float = 0.0

    @property
    def seconds(self) -> float:
        return self.last - self.first


class Observer:
    """Watches one database while an operation runs; `cost` is complete when the `with` block has ended."""

    def __init__(self) -> None:
        now = time.monotonic()
        self.cost = Cost(now, now)


def _sample(conn: Connection, stop: threading.Event, waits: list[float], sizes: list[int]) -> None:
    turn = 0
    while not stop.wait(SAMPLE_SECONDS):
        try:
            waits.append(value(conn, LONGEST_WAIT))
            if turn % SAMPLES_PER_SIZE == 0:
                sizes.append(value(conn, SIZE))
        except psycopg.errors.UndefinedFile:
            pass  # a table was dropped while its files were counted
        turn += 1


@contextmanager
def observed(url: str) -> Iterator[Observer]:
    """Measure what happens to the database at `url` inside the block."""
    observer, stop = Observer(), threading.Event()
    waits: list[float] = [0.0]
    sizes: list[int] = []
    with connect_directly(url, application_name="benchmark observer") as conn:
        before, position = value(conn, SIZE), value(conn, WAL_POSITION)
        sampler = threading.Thread(target=_sample, args=(conn, stop, waits, sizes), daemon=True)
        sampler.start()
        first = time.monotonic()
        try:
            yield observer
        finally:
            last = time.monotonic()
            stop.set()
            sampler.join()
        after = value(conn, SIZE)
        observer.cost = replace(
            observer.cost,
            first=first,
            last=last,
            wal_bytes=value(conn, WAL_SINCE, (position,)),
            disk_peak=max(*sizes, after) - before if sizes else max(after - before, 0),
            disk_left=after - before,
            lock_wait_ms=round(max(waits), 1),
        )
