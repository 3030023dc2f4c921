"""What must hold for the partitions of every event table, looked up in the database itself."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from assets.checks import Finding, checks_of_one_look, listed
from assets.keys import step_name
from lifecycle.partitions.status import PartitionStatus, partition_status
from lifecycle.partitions.tables import MonthlyTable


def _not_partitioned(status: PartitionStatus) -> Finding | None:
    name = status.table.qualified_name
    if not status.partitioned:
        return Finding(False, f"{name} is not partitioned yet: run the job convert_event_tables")
    if status.split_pending:
        return Finding(False, f"{name} is not split into months yet: run the job convert_event_tables again")
    return None


def months_ahead_exist(status: PartitionStatus) -> Finding:
    """The months that the policy wants ahead exist, without a gap."""
    if finding := _not_partitioned(status):
        return finding
    metadata = {"months_ahead": status.months_ahead, "missing": len(status.missing_months)}
    if status.missing_months:
        missing = listed(status.missing_months)
        return Finding(False, f"missing: {missing}; run the job rotate_event_partitions", metadata)
    return Finding(True, f"{status.months_ahead} months ahead, none missing", metadata)


def default_partition_empty(status: PartitionStatus) -> Finding:
    """No row stands in the default partition, where rows of no month land."""
    metadata: dict[str, int | str] = {"default_rows": status.default_rows}
    if not status.default_rows:
        return Finding(True, "empty", metadata)
    noun = "row" if status.default_rows == 1 else "rows"
    span = "at no moment that a calendar knows"
    if status.default_oldest and status.default_newest:
        oldest, newest = f"{status.default_oldest:%Y-%m-%d}", f"{status.default_newest:%Y-%m-%d}"
        metadata |= {"oldest": oldest, "newest": newest}
        span = f"{oldest} to {newest}"
    return Finding(
        False,
        f"{status.default_rows:,} {noun} of clients with a wrong clock, {span}. Nothing is lost: rotation deletes "
        "those past retention and moves the others once their month is made.",
        metadata,
    )


def nothing_past_retention(status: PartitionStatus) -> Finding:
    """No month that is wholly past retention is still there."""
    if finding := _not_partitioned(status):
        return finding
    metadata = {"expired": len(status.expired)}
    if status.expired:
        cure = "run the job rotate_event_partitions"
        if status.held:
            cure = f"{listed(status.held)}: drop that, or let it read {status.table.qualified_name}; then {cure}"
        return Finding(False, f"older than {status.table.retention}: {listed(status.expired)}; {cure}", metadata)
    return Finding(True, f"nothing wholly older than {status.table.retention}", metadata)


def partitions_not_exposed(status: PartitionStatus) -> Finding:
    """No partition can be read or written directly by anon or authenticated."""
    metadata = {"exposed": len(status.exposed)}
    if status.exposed:
        return Finding(False, f"reachable: {listed(status.exposed)}; revoke these", metadata)
    return Finding(True, "no partition is reachable by anon or authenticated", metadata)


def dependents_read_parent(status: PartitionStatus) -> Finding:
    """Every view reads the partitioned table itself, not what was left behind it."""
    metadata = {"stale": len(status.stale_dependents)}
    if status.stale_dependents:
        return Finding(
            False, f"read a part of the table: {listed(status.stale_dependents)}; recreate these views", metadata
        )
    return Finding(True, "every view reads the whole table", metadata)


CHECKS: Final[tuple[tuple[Callable[[PartitionStatus], Finding], dg.AssetCheckSeverity], ...]] = (
    (months_ahead_exist, dg.AssetCheckSeverity.ERROR),
    (default_partition_empty, dg.AssetCheckSeverity.WARN),
    (nothing_past_retention, dg.AssetCheckSeverity.ERROR),
    (partitions_not_exposed, dg.AssetCheckSeverity.ERROR),
    (dependents_read_parent, dg.AssetCheckSeverity.ERROR),
)


def partition_checks(table: MonthlyTable, asset: dg.AssetKey) -> dg.AssetChecksDefinition:
    """The checks of one table, evaluated together from one look at the catalog."""
    return checks_of_one_look(
        f"{step_name(asset)}_checks", asset, CHECKS, lambda conn: partition_status(conn, table, datetime.now(UTC))
    )
