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
from psycopg.types.json import Jsonb
from sqlalchemy import create_engine, pool
from sqlalchemy.exc import OperationalError

from lifecycle.database import Connection, connect_directly, operation_lock, sqlalchemy_url
from lifecycle.errors import BusyError
from lifecycle.policy import EVENT_TABLES, ROTATION_LOCKS, SEGMENTS, STATE_SCHEMA

# DDL of a migration may wait this long behind the application, then gives way and tries again.
MIGRATION_LOCK_TIMEOUT = "500ms"
MIGRATION_TRIES = 30

CREATE_STATE_SCHEMA = sql.SQL("create schema if not exists {schema}").format(schema=sql.Identifier(STATE_SCHEMA))
WRITE_POLICY = sql.SQL(
    """insert into lifecycle.event_table_policies
    (schema_name, table_name, time_column, retention, months_ahead, lock_timeout_ms, lock_tries)
values ({schema}, {name}, {time_column}, {retention}, {months_ahead}, {lock_timeout_ms}, {lock_tries})
on conflict (schema_name, table_name) do update set
    time_column = excluded.time_column, retention = excluded.retention, months_ahead = excluded.months_ahead,
    lock_timeout_ms = excluded.lock_timeout_ms, lock_tries = excluded.lock_tries"""
)

# A policy that is already there is not written again: writing it asks for everybody's segments anew.
WRITE_SEGMENT_POLICY = sql.SQL(
    """insert into lifecycle.segment_policy as held
    (version, questions, interaction_weights, half_life, quiz_weight, interaction_weight)
values ({version}, {questions}, {interaction_weights}, {half_life}, {quiz_weight}, {interaction_weight})
on conflict (singleton) do update set
    version = excluded.version, questions = excluded.questions, interaction_weights = excluded.interaction_weights,
    half_life = excluded.half_life, quiz_weight = excluded.quiz_weight,
    interaction_weight = excluded.interaction_weight
where held is distinct from excluded"""
)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%"))
    return config


def _policy_statements() -> list[sql.Composed]:
    return [
        WRITE_POLICY.format(
            schema=sql.Literal(table.schema),
            name=sql.Literal(table.name),
            time_column=sql.Literal(table.time_column),
            retention=sql.SQL("interval {}").format(sql.Literal(table.retention)),
            months_ahead=sql.Literal(table.months_ahead),
            lock_timeout_ms=sql.Literal(round(ROTATION_LOCKS.timeout * 1000)),
            lock_tries=sql.Literal(ROTATION_LOCKS.tries),
        )
        for table in EVENT_TABLES
    ] + [
        WRITE_SEGMENT_POLICY.format(
            version=sql.Literal(SEGMENTS.version),
            questions=sql.Literal(list(SEGMENTS.questions)),
            interaction_weights=sql.Literal(Jsonb(dict(SEGMENTS.interaction_weights))),
            half_life=sql.SQL("interval {}").format(sql.Literal(SEGMENTS.half_life)),
            quiz_weight=sql.Literal(SEGMENTS.quiz_weight),
            interaction_weight=sql.Literal(SEGMENTS.interaction_weight),
        )
    ]


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
        for statement in _policy_statements():
            conn.execute(statement)


def upgrade(url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Run all missing revisions and write the policy table; safe to repeat.

    Each revision is one transaction under a lock timeout, retried while the application holds a lock.
    Raises BusyError when a lock stays taken, AlreadyRunningError when another migration runs.
    """
    with connect_directly(url, application_name="lifecycle migrate") as conn, operation_lock(conn, "migrate"):
        for attempt in range(1, MIGRATION_TRIES + 1):
            try:
                return _upgrade_once(conn, url)
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


def migration_sql() -> str:
    """What `upgrade` runs on a database that has none of it, for a reviewer to read."""
    script = io.StringIO()
    config = _config()
    config.output_buffer = script
    with redirect_stdout(io.StringIO()):
        command.upgrade(config, "head", sql=True)
    policies = ";\n\n".join(statement.as_string(None) for statement in _policy_statements())
    return f"{CREATE_STATE_SCHEMA.as_string(None)};\n\n{script.getvalue()}\n{policies};\n"
