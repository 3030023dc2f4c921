"""The policy, written into the tables where the database functions read it."""

from psycopg import sql

from lifecycle.policy import (
    CHAT_ARCHIVE,
    EVENT_TABLES,
    ROTATION_LOCKS,
    VOUCHERS,
)

WRITE_POLICY = sql.SQL(
    """insert into lifecycle.event_table_policies
    (schema_name, table_name, time_column, retention, months_ahead, lock_timeout_ms, lock_tries)
values ({schema}, {name}, {time_column}, {retention}, {months_ahead}, {lock_timeout_ms}, {lock_tries})
on conflict (schema_name, table_name) do update set
    time_column = excluded.time_column, retention = excluded.retention, months_ahead = excluded.months_ahead,
    lock_timeout_ms = excluded.lock_timeout_ms, lock_tries = excluded.lock_tries"""
)

WRITE_RETENTION = sql.SQL(
    """insert into lifecycle.retention_policies (name, keep_for, batch_size) values ({}, {}, {})
on conflict (name) do update set keep_for = excluded.keep_for, batch_size = excluded.batch_size"""
)


def policy_statements() -> list[sql.SQL | sql.Composed]:
    """Fill the policy tables from lifecycle/policy.py, in one transaction."""
    return [
        *event_table_statements(),
        *_retention(),
    ]


def event_table_statements() -> list[sql.SQL | sql.Composed]:
    """Retention and patience of each event table."""
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
    ]


def _retention() -> list[sql.Composed]:
    kept = {
        "chat_messages": (f"{CHAT_ARCHIVE.keep_for.days} days", CHAT_ARCHIVE.batch_size),
        "vouchers": (VOUCHERS.keep_for, VOUCHERS.batch_size),
    }
    return [
        WRITE_RETENTION.format(
            sql.Literal(name), sql.SQL("interval {}").format(sql.Literal(keep_for)), sql.Literal(batch_size)
        )
        for name, (keep_for, batch_size) in kept.items()
    ]
