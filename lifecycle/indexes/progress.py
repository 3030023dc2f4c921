"""How far CREATE INDEX CONCURRENTLY is, asked from a second connection while the first one builds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from lifecycle.database import Connection, rows

Progress = Callable[[str, float], None]

PAUSE_SECONDS: Final = 1.0
PHASE: Final = """
select p.phase,
       coalesce(p.blocks_done::float / nullif(p.blocks_total, 0), p.tuples_done::float / nullif(p.tuples_total, 0), 0),
       (select format(' (pid %%s, %%s)', a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'))
          from pg_stat_activity a where a.pid = nullif(p.current_locker_pid, 0))
  from pg_stat_progress_create_index p where p.pid = %s
"""
# Roughly what part of the whole lies before a phase and in it: the build reads and sorts, the validation reads again.
SHARES: Final = (
    ("initializing", 0.0, 0.0),
    ("waiting for writers before build", 0.0, 0.0),
    ("building index", 0.0, 0.6),
    ("waiting for writers before validation", 0.6, 0.0),
    ("index validation", 0.6, 0.35),
    ("waiting", 0.95, 0.05),
)


def no_progress(_message: str, _fraction: float) -> None:
    """For callers that show none."""


def share_done(phase: str, within: float) -> float:
    """The part of a build that is done, by its phase and how far this one is."""
    start, length = next(((start, length) for name, start, length in SHARES if phase.startswith(name)), (0.0, 0.0))
    return start + length * min(within, 1.0)


def _second_session(dsn: str, password: str) -> Connection:
    return psycopg.connect(dsn, password=password, autocommit=True, prepare_threshold=None)


@contextmanager
def watched_build(conn: Connection, name: str, progress: Progress) -> Iterator[None]:
    """While the block builds an index on `conn`, report its phase, how far it is, and which session it waits for."""
    done = threading.Event()
    pid, dsn, password = conn.info.backend_pid, conn.info.dsn, conn.info.password

    def watch() -> None:
        # Progress is worth no failure: without a second connection the build goes on unseen.
        with suppress(psycopg.Error), _second_session(dsn, password) as watcher:
            while not done.wait(PAUSE_SECONDS):
                for phase, within, blocker in rows(watcher, PHASE, (pid,)):
                    progress(f"{name}: {phase}{blocker or ''}", share_done(phase, within))

    thread = threading.Thread(target=watch, name=f"progress of {name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
