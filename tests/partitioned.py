"""Helpers for tests that start from event tables that are partitioned already; fixtures: partitioned_fixtures.py."""

from datetime import UTC, datetime
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start
from lifecycle.partitions.rotate import RotationAction
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable
from tests.declared import EVENT_TABLES, event_table

BEHAVIOR = event_table("user_behavior_events")
BUSINESS = event_table("business_metrics_events")
REPLAYS = event_table("session_replay_events")

# The template's rows reach back this far, one a month.
MONTHS_BACK = 5

PAGE_VIEW = """
insert into {} (account_id, session_id, event_timestamp, page_url)
select (select min(id::text)::uuid from accounts), %(session)s, %(moment)s::timestamptz, '/'
  from generate_series(1, %(rows)s)
"""
REPLAY = """
insert into {} (session_id, "timestamp", event_type, event_data)
select %(session)s, %(moment)s::timestamptz, 'click', '{{}}' from generate_series(1, %(rows)s)
"""
BOUNDS = """
select p.name, case when isfinite(p.lower_bound) then p.lower_bound end,
       case when isfinite(p.upper_bound) then p.upper_bound end
  from lifecycle.event_partitions_of(to_regclass(%s)) p
"""
ALL_PARTITION_TABLES = "select relname::text from pg_class where relnamespace = %s::regnamespace and relkind = 'r'"
ROTATE = """
select table_name, action, partition_name, row_count, bytes, outcome, error
  from rotate_event_partitions(coalesce(%s::timestamptz, now()), %s)
"""
AUDIT = """
select event_type, payload from audit_events
 where entity_type = 'job' and entity_id = 'rotate_event_partitions' order by created_at
"""


class MakePartitionedDb(Protocol):
    """The fixture `make_partitioned_db`: URL of a fresh database with all event tables partitioned, as postgres."""

    def __call__(self, auto_grant: bool = True) -> str: ...


def insert_events(
    conn: Connection, table: MonthlyTable, moment: datetime | str, *, session: str, rows: int = 1
) -> None:
    """Insert events through the parent, as the application does."""
    query = sql.SQL(REPLAY if table is REPLAYS else PAGE_VIEW).format(sql.Identifier(table.schema, table.name))
    conn.execute(query, {"session": session, "moment": moment, "rows": rows})


def partition(url: str, now: datetime) -> None:
    """Put an event into each of the last months and convert every event table."""
    with connect(url) as conn:
        conn.execute("insert into accounts (id) select gen_random_uuid() from generate_series(1, 3)")
        for table in EVENT_TABLES:
            for back in range(MONTHS_BACK if table is not REPLAYS else 2, -1, -1):
                insert_events(conn, table, add_months(month_start(now), -back), session="template")
    for table in EVENT_TABLES:
        convert_table(url, table, now=now, progress=lambda _message, _fraction: None)


def rotate_all(
    conn: Connection, as_of: datetime | str | None = None, table: MonthlyTable | None = None
) -> list[RotationAction]:
    """Call the function as a psql user does, for one table or all."""
    return [RotationAction(*row) for row in rows(conn, ROTATE, (as_of, table.qualified_name if table else None))]


def done(actions: list[RotationAction], action: str) -> list[str | None]:
    """Names of the partitions that `action` was done to."""
    return [found.partition for found in actions if found.action == action]


def bounds(conn: Connection, table: MonthlyTable) -> dict[str, tuple[datetime | None, datetime | None]]:
    """Partitions by name with their bounds in UTC; the default partition has none."""
    return {
        name: (lower and lower.astimezone(UTC), upper and upper.astimezone(UTC))
        for name, lower, upper in rows(conn, BOUNDS, (table.qualified_name,))
    }


def months(conn: Connection, table: MonthlyTable) -> set[datetime]:
    """First instants of the months that have a partition."""
    return {lower for lower, upper in bounds(conn, table).values() if lower and upper}


def partition_tables(conn: Connection) -> set[str]:
    """Every table in the partition schema, attached or not."""
    return {row[0] for row in rows(conn, ALL_PARTITION_TABLES, (PARTITION_SCHEMA,))}


def count_rows(conn: Connection, partition: str, session: str | None = None) -> int:
    """Rows of one partition read by its own name."""
    query = sql.SQL("select count(*) from only {} where %(session)s::text is null or session_id = %(session)s").format(
        sql.Identifier(PARTITION_SCHEMA, partition)
    )
    row = conn.execute(query, {"session": session}).fetchone()
    assert row is not None
    return int(row[0])


def run_on(conn: Connection, statement: LiteralString, *partitions: str) -> psycopg.Cursor[tuple[Any, ...]]:
    """Execute `statement` with the qualified name of a table in the partition schema for each pair of braces."""
    names = (sql.Identifier(PARTITION_SCHEMA, partition) for partition in partitions)
    return conn.execute(sql.SQL(statement).format(*names))


def set_policy(conn: Connection, table: MonthlyTable, **changes: Any) -> None:
    """Change a table's row of lifecycle.event_table_policies."""
    for column, changed in changes.items():
        conn.execute(
            sql.SQL("update lifecycle.event_table_policies set {} = %s where table_name = %s").format(
                sql.Identifier(column)
            ),
            (changed, table.name),
        )


def audit_rows(conn: Connection) -> list[tuple[str, dict[str, Any]]]:
    """Event type and payload of every row that rotation wrote to the ledger."""
    return [(event_type, payload) for event_type, payload in rows(conn, AUDIT)]


def server_clock(conn: Connection) -> datetime:
    """now() of the server, in UTC."""
    moment: datetime = value(conn, "select now()")
    return moment.astimezone(UTC)


def plain_session(url: str) -> Connection:
    """A session with the role's and the database's own settings, as psql opens it."""
    return psycopg.connect(url, autocommit=True)
