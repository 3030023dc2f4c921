"""What conversion and rotation would do now, and why they would refuse. Reads only."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from lifecycle.database import Connection, rows, value
from lifecycle.language import Phrase, translatable
from lifecycle.names import QualifiedName
from lifecycle.partitions.catalog import Names, TableStructure, is_partition_of_ours, table_structure
from lifecycle.partitions.dependents import affected_dependents
from lifecycle.partitions.held import held_partitions
from lifecycle.partitions.refusals import known, migrated, refusals
from lifecycle.partitions.space import bytes_needed, space_warning
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable
from lifecycle.partitions.warnings import warnings

# Copying, indexing, checking and exchanging on two cores: measured by benchmarks/partition_conversion.py.
BYTES_PER_SECOND = 60_000_000

State = Literal["missing", "refused", "not_migrated", "ready", "resumable", "attached", "done"]

MONTHS = """
select lifecycle.first_kept_month(p, %(now)s) from lifecycle.event_table_policies p
 where p.schema_name = %(schema)s and p.table_name = %(name)s
"""
STARTED = "select exists (select from lifecycle.partition_conversions where schema_name = %s and table_name = %s)"
UNFINISHED = """
select exists (select from lifecycle.partition_conversions
                where schema_name = %s and table_name = %s and finished_at is null)
"""
DEFAULT = """
select p.partition::text from lifecycle.event_partitions_of(to_regclass(%s)) p where p.is_default
"""
ROTATION = """
select array(select to_char(m at time zone 'UTC', 'YYYY-MM') from lifecycle.missing_event_months(p, %(now)s) m),
       array(select e.name from lifecycle.expired_event_partitions(p, %(now)s) e)
  from lifecycle.event_table_policies p where p.schema_name = %(schema)s and p.table_name = %(name)s
"""


NEXT_STEP: dict[State, str] = {
    "refused": translatable("nothing until the refusals are solved"),
    "not_migrated": translatable("run `lifecycle migrate`, then the job convert_event_tables"),
    "ready": translatable("run the job convert_event_tables"),
    "resumable": translatable("run the job convert_event_tables; it goes on where it stopped"),
}


@dataclass(frozen=True)
class ConversionPlan:
    """What `convert_event_tables` would do to one table now. `rows` is an estimate; times in seconds.

    `bytes_needed`: the free disk that it takes for a while.
    """

    table: MonthlyTable
    state: State
    next_step: str
    refusals: tuple[Phrase, ...] = ()
    warnings: tuple[Phrase, ...] = ()
    rows: int = 0
    bytes: int = 0
    bytes_needed: int = 0
    months: int = 0
    dependents: tuple[str, ...] = ()
    locks: tuple[str, ...] = field(default=())
    estimated_seconds: float = 0.0


@dataclass(frozen=True)
class RotationPlan:
    """What `rotate_event_partitions` would do to one table now: months to create, partitions to drop.

    `held`: what keeps some of those from being dropped.
    """

    table: MonthlyTable
    create: tuple[str, ...]
    drop: tuple[str, ...]
    default_rows: int
    held: tuple[Phrase, ...] = ()


def plan_conversion(conn: Connection, table: MonthlyTable, now: datetime) -> ConversionPlan:
    """Inspect one table; never raises for what it finds, says it."""
    old = table_structure(conn, table.qualified_name)
    if old is None:
        return ConversionPlan(
            table, "missing", translatable("nothing: the table does not exist"), (Phrase("the table does not exist"),)
        )
    if old.partitioned:
        return _plan_of_partitioned(conn, table, old)
    attached = is_partition_of_ours(conn, table)
    reasons = [] if attached else refusals(conn, table, old)
    state: State = "refused" if reasons else "ready" if known(conn, table) else "not_migrated"
    if state == "ready" and value(conn, STARTED, (table.schema, table.name)):
        state = "resumable"
    affected = affected_dependents(conn, old.oid)
    needed = bytes_needed(conn, old.bytes, [view.oid for view in affected])
    months_of = {"now": now, "schema": table.schema, "name": table.name}
    first = value(conn, MONTHS, months_of) if known(conn, table) else None
    first = first and first.astimezone(UTC)
    months = (now.year - first.year) * 12 + now.month - first.month + 1 + table.months_ahead if first else 0
    return ConversionPlan(
        table,
        state=state,
        next_step=NEXT_STEP[state],
        refusals=tuple(reasons),
        warnings=(*warnings(conn, table, old), space_warning(needed)),
        rows=old.rows,
        bytes=old.bytes,
        bytes_needed=needed,
        months=months,
        dependents=tuple(view.qualified_name for view in affected),
        locks=(
            translatable("CREATE INDEX CONCURRENTLY: blocks no reader or writer"),
            translatable(
                "attach, swap of names, exchange: ACCESS EXCLUSIVE, asked for 50 ms at a time, held for milliseconds"
            ),
            translatable("tables its foreign keys point at: the same, in the same transactions"),
        ),
        estimated_seconds=round(old.bytes / BYTES_PER_SECOND + 2, 1),
    )


def _plan_of_partitioned(conn: Connection, table: MonthlyTable, old: TableStructure) -> ConversionPlan:
    if not migrated(conn):
        reason = Phrase("it is partitioned already, and not by this project (schema lifecycle is missing)")
        return ConversionPlan(
            table, "refused", translatable("nothing: rotate it with the tool that made it"), (reason,)
        )
    markers = [row[0] for row in rows(conn, "select marker from lifecycle.event_partitions_of(%s)", (old.oid,))]
    size = value(
        conn, "select coalesce(sum(pg_total_relation_size(relid)), 0)::bigint from pg_partition_tree(%s)", (old.oid,)
    )
    if "legacy" in markers:
        needed = bytes_needed(conn, size, ())
        return ConversionPlan(
            table,
            "attached",
            translatable("run the job convert_event_tables to split it into months"),
            warnings=(space_warning(needed),),
            bytes=size,
            bytes_needed=needed,
            estimated_seconds=round(size / BYTES_PER_SECOND + 2, 1),
        )
    if markers and all(marker is None for marker in markers):
        reason = Phrase("it is partitioned already, and not by this project; only partitions we made are ever dropped")
        return ConversionPlan(
            table, "refused", translatable("nothing: rotate it with the tool that made it"), (reason,)
        )
    if not known(conn, table):
        return ConversionPlan(
            table, "not_migrated", translatable("run `lifecycle migrate`"), bytes=size, months=len(markers)
        )
    # Until its last step is noted, a killed run may have left the old table, the capture or autovacuum switched off.
    unfinished = value(conn, UNFINISHED, (table.schema, table.name))
    legacy = str(QualifiedName(PARTITION_SCHEMA, Names(table).legacy_name))
    if unfinished or value(conn, "select to_regclass(%s)", (legacy,)):
        return ConversionPlan(
            table, "resumable", translatable("run the job convert_event_tables to finish it"), bytes=size
        )
    return ConversionPlan(table, "done", translatable("nothing to do"), bytes=size, months=len(markers))


def plan_rotation(conn: Connection, table: MonthlyTable, now: datetime) -> RotationPlan:
    """What rotation would do now; empty for a table that is not partitioned by this project yet."""
    state = plan_conversion(conn, table, now).state
    if state != "done":
        return RotationPlan(table, (), (), 0)
    create, drop = rows(conn, ROTATION, {"now": now, "schema": table.schema, "name": table.name})[0]
    default = value(conn, DEFAULT, (table.qualified_name,))
    default_rows = value(conn, f"select count(*) from only {default}") if default else 0  # noqa: S608 - a regclass, quoted by the server
    held = held_partitions(conn, table, now) if drop else ()
    return RotationPlan(table, tuple(create), tuple(drop), default_rows, held)
