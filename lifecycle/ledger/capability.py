"""The ledger in a migration. Every other capability reports to it, so it is always made."""

from psycopg import sql

from lifecycle.declarations.application import Application
from lifecycle.declarations.database import Ledger
from lifecycle.migrating.capability import Capability, Statements
from lifecycle.names import QualifiedName

FORGET = sql.SQL("delete from lifecycle.ledger_policy")
WRITE = sql.SQL(
    """insert into lifecycle.ledger_policy
    (schema_name, table_name, kind_column, subject_column, event_column, payload_column, at_column)
values ({}, {}, {}, {}, {}, {}, {})"""
)


# Where the application declares none.
OUR_LEDGER = Ledger(
    table=QualifiedName("lifecycle", "job_history"),
    kind="kind",
    subject="subject",
    event="event",
    payload="payload",
    at="at",
)


def ledger_policy(application: Application) -> Statements:
    """Which table is the ledger: the application's, or ours where it has none."""
    ledger = application.database.ledger or OUR_LEDGER
    columns = (ledger.kind, ledger.subject, ledger.event, ledger.payload, ledger.at)
    return FORGET, WRITE.format(*map(sql.Literal, (ledger.table.schema, ledger.table.name, *columns)))


LEDGER = Capability("ledger", declared=lambda _: True, files=("ledger.sql",), policies=ledger_policy)
