"""Expiring rows in a migration."""

import json
from collections.abc import Iterator
from typing import Final

from psycopg import sql

from lifecycle.declarations.application import Application
from lifecycle.declarations.expiry import ExpiringRows
from lifecycle.declarations.model import interval
from lifecycle.migrating.capability import Capability, Statements

# A job that left the declarations deletes nothing any more; its tables go with it.
FORGET: Final = sql.SQL("delete from lifecycle.expiring_rows")
WRITE: Final = sql.SQL("insert into lifecycle.expiring_rows (job, keep_for, batch) values ({}, {}, {})")
WRITE_TABLE: Final = sql.SQL(
    """insert into lifecycle.expiring_tables
    (job, position, schema_name, table_name, time_columns, held_by, optional)
values ({}, {}, {}, {}, {}, {}, {})"""
)


def expiry_policies(application: Application) -> Statements:
    """Make the policy tables equal to the declarations."""
    return (FORGET, *(line for job, rows in application.expiring_rows.items() for line in _policy(job, rows)))


def _policy(job: str, rows: ExpiringRows) -> Iterator[sql.Composed]:
    yield WRITE.format(sql.Literal(job), interval(rows.keep), sql.Literal(rows.batch))
    for position, (name, table) in enumerate(rows.tables.items(), start=1):
        held_by = [
            {"schema": holder.schema, "table": holder.name, "column": column}
            for holder, column in table.unless_referenced_by.items()
        ]
        columns = sql.SQL(", ").join(map(sql.Literal, table.time))
        yield WRITE_TABLE.format(
            *map(sql.Literal, (job, position, name.schema, name.name)),
            sql.SQL("array[{}]").format(columns),
            sql.Literal(json.dumps(held_by)),
            sql.Literal(table.optional),
        )


EXPIRY: Final = Capability(
    "expiry",
    declared=lambda application: bool(application.expiring_rows),
    files=("expiry.sql",),
    policies=expiry_policies,
)
