"""Event partitions in a migration."""

from collections.abc import Iterator
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.declarations.model import interval
from lifecycle.locks import LockPolicy
from lifecycle.migrating.capability import Capability, Statements
from lifecycle.partitions.tables import UTC_ZONE, MonthlyTable, monthly_tables
from lifecycle.partitions.undo import require_plain_tables

# Rotation is one transaction, behind which an ALTER TABLE of the application would wait: about half a minute.
ROTATION_LOCKS: Final = LockPolicy(tries=30)
FORGET: Final = sql.SQL("delete from lifecycle.event_table_policies p where (p.schema_name, p.table_name) not in ({})")
FORGET_ALL: Final = sql.SQL("delete from lifecycle.event_table_policies")
WRITE: Final = sql.SQL(
    """insert into lifecycle.event_table_policies
    (schema_name, table_name, stem, time_column, retention, months_ahead, cold_after, zone,
     lock_timeout_ms, lock_tries)
values ({}, {}, {}, {}, {}, {}, {}, {}, {}, {})
on conflict (schema_name, table_name) do update set
    stem = excluded.stem, time_column = excluded.time_column, retention = excluded.retention,
    months_ahead = excluded.months_ahead,
    cold_after = excluded.cold_after, zone = excluded.zone, lock_timeout_ms = excluded.lock_timeout_ms,
    lock_tries = excluded.lock_tries"""
)
# What fails of a table that is not declared any more would never be reported well again.
CLOSE_PROBLEMS: Final = """
select p.cause, lifecycle.report_outcome(p.job, p.cause, null) from lifecycle.open_problems p
 where p.job = 'rotate_event_partitions' and p.cause <> '' and p.cause !~ '^(run of|check|stale) '
   and p.cause <> all (%s)
"""


def event_table_policies(application: Application) -> Statements:
    """Make the policy table equal to the declarations: what has no row is never acted on."""
    tables = monthly_tables(application)
    if not tables:
        return (FORGET_ALL,)
    kept = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(table.schema), sql.Literal(table.name)) for table in tables
    )
    return (FORGET.format(kept), *map(_policy, tables))


def _policy(table: MonthlyTable) -> sql.Composed:
    return WRITE.format(
        *map(sql.Literal, (table.schema, table.name, table.stem, table.time_column)),
        interval(table.retention),
        sql.Literal(table.months_ahead),
        interval(table.cold_after) if table.cold_after else sql.NULL,
        sql.Literal(table.zone or UTC_ZONE),
        sql.Literal(round(ROTATION_LOCKS.timeout * 1000)),
        sql.Literal(ROTATION_LOCKS.tries),
    )


def close_problems(conn: Connection, application: Application) -> Iterator[str]:
    """Forget what failed of tables that left the declarations."""
    declared = [table.qualified_name for table in monthly_tables(application)]
    for cause, _ in rows(conn, CLOSE_PROBLEMS, (declared,)):
        yield f"problem of {cause}: closed, it is not declared any more"


PARTITIONS: Final = Capability(
    "partitions",
    declared=lambda application: bool(application.event_tables),
    files=("catalog.sql", "building.sql", "rotation.sql", "rotate.sql"),
    policies=event_table_policies,
    objects=close_problems,
    undo=require_plain_tables,
)
