"""Bring a database to what this release and the declarations ask for."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy.exc import OperationalError

from lifecycle.database import Connection, connect_directly, operation_lock
from lifecycle.declarations.application import Application
from lifecycle.errors import BusyError
from lifecycle.migrating.capabilities import CAPABILITIES
from lifecycle.migrating.capability import Capability
from lifecycle.migrating.foreign import refuse_a_foreign_database
from lifecycle.migrating.functions import apply_functions, drop_leftovers, function_files
from lifecycle.migrating.revisions import LOCK_TIMEOUT, STATE_SCHEMA, run_revisions
from lifecycle.migrating.state import installed, refuse_an_older_release, write_policies

TRIES: Final = 30
CREATE_STATE_SCHEMA: Final = sql.SQL("create schema if not exists {}").format(sql.Identifier(STATE_SCHEMA))


@dataclass(frozen=True)
class Migration:
    """What a migration changed, a line each; empty when the database was as it should be."""

    changes: tuple[str, ...]


def upgrade(
    url: str,
    application: Application,
    *,
    sleep: Callable[[float], None] = time.sleep,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> Migration:
    """Run all phases of the declared capabilities; safe to repeat, and a rerun finishes what was cut off.

    A capability that is no longer declared keeps its tables until somebody takes them back, and its policy tables say
    that nothing is declared. DDL runs under a short lock timeout and is tried again while the application holds a lock.
    Raises BusyError when a lock stays taken, AlreadyRunningError when another migration runs, RefusedError when
    something stands in the way or a newer release was here.
    """
    changes: list[str] = []
    with migrating_session(url) as conn:
        refuse_an_older_release(conn)
        refuse_a_foreign_database(conn, application)
        there = installed(conn)
        kept_up = [each for each in CAPABILITIES if each.declared(application) or each.name in there]
        patiently(lambda: changes.extend(_tables(conn, url, application, kept_up)), sleep)
        for number, capability in enumerate(kept_up):
            progress(capability.name, number / len(kept_up))
            patiently(lambda made=capability: changes.extend(made.objects(conn, application)), sleep)  # type: ignore[misc]
        patiently(lambda: changes.extend(drop_leftovers(conn)), sleep)
    return Migration(tuple(changes))


@contextmanager
def migrating_session(url: str) -> Iterator[Connection]:
    """The one session that may change our objects at a time."""
    with connect_directly(url, application_name="lifecycle migrate") as conn, operation_lock(conn, "migrate"):
        yield conn


def _tables(conn: Connection, url: str, application: Application, capabilities: Sequence[Capability]) -> list[str]:
    conn.execute(CREATE_STATE_SCHEMA)
    return [
        *run_revisions(url, capabilities),
        *write_policies(conn, application, capabilities),
        *apply_functions(conn, function_files(application, capabilities), capabilities),
    ]


def patiently(phase: Callable[[], object], sleep: Callable[[float], None] = time.sleep) -> None:
    """Run a phase again while the application holds a lock that it needs; BusyError when that goes on."""
    for attempt in range(1, TRIES + 1):
        try:
            phase()
        except OperationalError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
                raise
            busy: psycopg.Error = error.orig
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            busy = error
        else:
            return
        if attempt == TRIES:
            raise BusyError(
                f"migrate: {busy.diag.message_primary or busy} in {attempt} tries of {LOCK_TIMEOUT}; what is finished "
                "stays. End the long transaction, then run the command again."
            ) from busy
        sleep(min(0.2 * attempt, 2.0))
