"""Bring a database to what this release and the declarations ask for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy.exc import OperationalError

from lifecycle.database import Connection, connect_directly, operation_lock
from lifecycle.declarations.application import Application
from lifecycle.errors import BusyError
from lifecycle.migrating.capabilities import declared_capabilities
from lifecycle.migrating.capability import Capability
from lifecycle.migrating.functions import apply_functions, function_files
from lifecycle.migrating.revisions import LOCK_TIMEOUT, STATE_SCHEMA, run_revisions

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

    DDL runs under a short lock timeout and is tried again while the application holds a lock. Raises BusyError when a
    lock stays taken, AlreadyRunningError when another migration runs, RefusedError when something stands in the way.
    """
    capabilities = declared_capabilities(application)
    changes: list[str] = []
    with connect_directly(url, application_name="lifecycle migrate") as conn, operation_lock(conn, "migrate"):
        _patiently(lambda: changes.extend(_tables(conn, url, application, capabilities)), sleep)
        for number, capability in enumerate(capabilities):
            progress(capability.name, number / len(capabilities))
            _patiently(lambda made=capability: changes.extend(made.objects(conn, application)), sleep)  # type: ignore[misc]
    return Migration(tuple(changes))


def _tables(conn: Connection, url: str, application: Application, capabilities: Sequence[Capability]) -> list[str]:
    conn.execute(CREATE_STATE_SCHEMA)
    changes = list(run_revisions(url, capabilities))
    with conn.transaction():
        for capability in capabilities:
            for statement in capability.policies(application):
                conn.execute(statement)
    changes.extend(apply_functions(conn, function_files(application, capabilities), capabilities))
    return changes


def _patiently(phase: Callable[[], object], sleep: Callable[[float], None]) -> None:
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
                "stays. End the long transaction, then run `lifecycle migrate` again."
            ) from busy
        sleep(min(0.2 * attempt, 2.0))
