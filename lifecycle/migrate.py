"""Bring a database to the newest schema revision, or print what that would run."""

import io
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import OperationalError

from lifecycle.access_policies.apply import apply_access
from lifecycle.access_policies.script import access_statements
from lifecycle.database import Connection, connect_directly, operation_lock, sqlalchemy_url
from lifecycle.errors import BusyError
from lifecycle.index_progress import Progress, no_progress
from lifecycle.indexes import IndexBuild, build_indexes, index_statements
from lifecycle.policy import STATE_SCHEMA
from lifecycle.policy_tables import policy_statements

# DDL of a migration may wait this long behind the application, then gives way and tries again.
MIGRATION_LOCK_TIMEOUT = "500ms"
MIGRATION_TRIES = 30

# CREATE INDEX CONCURRENTLY is refused in a transaction and in a string of several statements.
INDEXES_FOLLOW = "-- Outside of any transaction, one statement at a time:"

CREATE_STATE_SCHEMA = sql.SQL("create schema if not exists {schema}").format(schema=sql.Identifier(STATE_SCHEMA))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
    return config


def _upgrade_once(conn: Connection, url: str) -> None:
    conn.execute(CREATE_STATE_SCHEMA)
    config = _config()
    engine = create_engine(
        sqlalchemy_url(url),
        poolclass=pool.NullPool,
        connect_args={
            "prepare_threshold": None,
            "application_name": "lifecycle migrate",
        },
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"set lock_timeout = '{MIGRATION_LOCK_TIMEOUT}'")
        connection.exec_driver_sql("set statement_timeout = 0")
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()
    with conn.transaction():
        for statement in policy_statements():
            conn.execute(statement)


def upgrade(url: str, *, sleep: Callable[[float], None] = time.sleep, progress: Progress = no_progress) -> IndexBuild:
    """Run all missing revisions, write the policy tables, build indexes, make access as declared; safe to repeat.

    Each revision is one transaction under a lock timeout, retried while the application holds a lock. Returns what
    was done about indexes. Raises BusyError when a lock stays taken, AlreadyRunningError when another migration runs,
    RefusedError when an index or an object whose access is declared belongs to somebody else.
    """
    with connect_directly(url, application_name="lifecycle migrate") as conn, operation_lock(conn, "migrate"):
        for attempt in range(1, MIGRATION_TRIES + 1):
            try:
                _upgrade_once(conn, url)
                break
            except OperationalError as error:
                if not isinstance(error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
                    raise
                busy = error.orig
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                busy = error
            if attempt == MIGRATION_TRIES:
                raise BusyError(
                    f"migrate: {busy.diag.message_primary or busy} in {attempt} tries of {MIGRATION_LOCK_TIMEOUT}; "
                    "finished revisions stay. End the long transaction, then run `lifecycle migrate` again."
                ) from busy
            sleep(min(0.2 * attempt, 2.0))
        built = build_indexes(conn, progress=progress)
        apply_access(conn)
        return built


def migration_sql() -> str:
    """What `upgrade` runs on a database that has none of it, for a reviewer to read."""
    script = io.StringIO()
    config = _config()
    config.output_buffer = script
    with redirect_stdout(io.StringIO()):
        command.upgrade(config, "head", sql=True)
    policies = ";\n\n".join(statement.as_string(None) for statement in policy_statements())
    indexes = "".join(f"{statement.as_string(None)};\n" for statement in index_statements())
    access = ";\n".join(statement.as_string(None) for statement in access_statements())
    return (
        f"{CREATE_STATE_SCHEMA.as_string(None)};\n\n{script.getvalue()}\n{policies};\n\n{access};\n\n"
        f"{INDEXES_FOLLOW}\n{indexes}"
    )
