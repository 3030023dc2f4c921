"""How an event table stands: its partitions, their sizes, and everything that asset checks look at."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.language import Phrase
from lifecycle.partitions.catalog import table_structure
from lifecycle.partitions.held import held_partitions
from lifecycle.partitions.months import add_months, month_start, stated
from lifecycle.partitions.refusals import known, migrated
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable

PARTITIONS = """
select p.name, case when isfinite(p.lower_bound) then p.lower_bound end,
       case when isfinite(p.upper_bound) then p.upper_bound end, p.is_default, p.marker,
       greatest(c.reltuples, 0)::bigint, pg_total_relation_size(p.partition)
  from lifecycle.event_partitions_of(to_regclass(%s)) p join pg_class c on c.oid = p.partition
"""
PLAN = """
select array(select to_char(m at time zone 'UTC', 'YYYY-MM') from lifecycle.missing_event_months(p, %(now)s) m),
       array(select e.name from lifecycle.expired_event_partitions(p, %(now)s) e),
       lifecycle.first_kept_month(p, %(now)s)
  from lifecycle.event_table_policies p where p.schema_name = %(schema)s and p.table_name = %(name)s
"""
# Access through the parent needs no right on a partition, so any such right is a hole.
EXPOSED = """
select format('%%s %%s %%s', p.name, r.rolname, v.privilege)
  from lifecycle.event_partitions_of(to_regclass(%s)) p
  cross join pg_roles r
  cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) v(privilege)
 where r.rolname in ('anon', 'authenticated')
   and case when v.privilege in ('SELECT', 'INSERT', 'UPDATE')
            then has_any_column_privilege(r.oid, p.partition, v.privilege)
            else has_table_privilege(r.oid, p.partition, v.privilege) end
 union all
select format('schema %%s is open to %%s', n.nspname, r.rolname) from pg_namespace n cross join pg_roles r
 where n.nspname = %s and r.rolname in ('anon', 'authenticated') and has_schema_privilege(r.oid, n.oid, 'USAGE')
 order by 1
"""
STALE_DEPENDENTS = """
select distinct format('%%s reads %%s', r.ev_class::regclass, p.partition)
  from lifecycle.event_partitions_of(to_regclass(%s)) p
  join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = p.partition
  join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
 order by 1
"""


@dataclass(frozen=True)
class PartitionInfo:
    """One partition; `lower` and `upper` are None where it is open. `rows` is the planner's estimate."""

    name: str
    lower: datetime | None
    upper: datetime | None
    is_default: bool
    marker: str | None
    rows: int
    bytes: int


@dataclass(frozen=True)
class PartitionStatus:
    """The state of one event table. `rows` is an estimate, `default_rows` is counted."""

    table: MonthlyTable
    partitioned: bool
    split_pending: bool = False
    partitions: tuple[PartitionInfo, ...] = ()
    rows: int = 0
    bytes: int = 0
    months_ahead: int = 0
    missing_months: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    held: tuple[Phrase, ...] = ()
    first_kept: datetime | None = None
    default_rows: int = 0
    default_oldest: datetime | None = None
    default_newest: datetime | None = None
    exposed: tuple[str, ...] = ()
    stale_dependents: tuple[str, ...] = ()


def partition_status(conn: Connection, table: MonthlyTable, now: datetime) -> PartitionStatus:
    """Read the state of one event table; an absent or plain table is reported as not partitioned."""
    found = table_structure(conn, table.qualified_name)
    if found is None or not found.partitioned or not migrated(conn):
        return PartitionStatus(
            table, partitioned=False, rows=found.rows if found else 0, bytes=found.bytes if found else 0
        )
    name = table.qualified_name
    partitions = tuple(_partition_info(row) for row in rows(conn, PARTITIONS, (name,)))
    split_pending = any(partition.marker == "legacy" for partition in partitions)
    planned = {"now": now, "schema": table.schema, "name": table.name}
    missing, expired, first_kept = rows(conn, PLAN, planned)[0] if known(conn, table) else ((), (), None)
    next_month = add_months(month_start(table.clock(now)), 1)
    default_rows, oldest, newest = _default_rows(conn, table, partitions)
    return PartitionStatus(
        table=table,
        partitioned=True,
        split_pending=split_pending,
        partitions=partitions,
        rows=sum(partition.rows for partition in partitions),
        bytes=sum(partition.bytes for partition in partitions),
        months_ahead=sum(partition.lower is not None and partition.lower >= next_month for partition in partitions),
        missing_months=() if split_pending else tuple(missing),
        expired=tuple(expired),
        held=held_partitions(conn, table, now) if expired else (),
        first_kept=first_kept and first_kept.astimezone(UTC),
        default_rows=default_rows,
        default_oldest=oldest,
        default_newest=newest,
        exposed=tuple(row[0] for row in rows(conn, EXPOSED, (name, PARTITION_SCHEMA))),
        stale_dependents=tuple(row[0] for row in rows(conn, STALE_DEPENDENTS, (name,))),
    )


def _partition_info(row: tuple[Any, ...]) -> PartitionInfo:
    name, lower, upper, *rest = row
    return PartitionInfo(name, lower and lower.astimezone(UTC), upper and upper.astimezone(UTC), *rest)


def _default_rows(
    conn: Connection, table: MonthlyTable, partitions: tuple[PartitionInfo, ...]
) -> tuple[int, datetime | None, datetime | None]:
    """Rows in the default partition and their range; infinite timestamps count, but are no bound of the range."""
    default = next((partition.name for partition in partitions if partition.is_default), None)
    if default is None:
        return 0, None, None
    column = sql.Identifier(table.time_column)
    # Python's datetime ends with the year 9999; client clocks do not.
    query = sql.SQL("select count(*), min({0}) filter (where {1}), max({0}) filter (where {1}) from only {2}").format(
        column,
        sql.SQL("{} between '0002-01-01' and '9999-12-01'").format(column),
        sql.Identifier(PARTITION_SCHEMA, default),
    )
    row = conn.execute(query).fetchone()
    assert row is not None  # noqa: S101 - an aggregate returns one row
    return row[0], row[1] and stated(row[1]), row[2] and stated(row[2])
