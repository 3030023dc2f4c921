"""What must hold for the partitions of every event table, looked up in the database itself."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import dagster as dg

from assets.partitions import partitions_key
from lifecycle.database import Connection
from lifecycle.partitions.status import PartitionStatus, partition_status
from lifecycle.policy import EVENT_TABLES, EventTable
from resources.postgres import ApplicationDatabase, retried_when_busy

LISTED: Final = 20
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Finding:
    """Whether a check passed, why, and the counts to keep with it."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def result(
        self, asset: dg.AssetKey, check: str, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    ) -> dg.AssetCheckResult:
        """As the outcome of an asset's check."""
        return dg.AssetCheckResult(
            asset_key=asset,
            check_name=check,
            passed=self.passed,
            severity=severity,
            description=self.description,
            metadata=self.metadata,
        )


def listed(names: Sequence[str]) -> str:
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def checks_of_one_look(
    name: str,
    asset: dg.AssetKey,
    checks: Sequence[tuple[Callable[[Seen], Finding], dg.AssetCheckSeverity]],
    look: Callable[[Connection], Seen],
) -> dg.AssetChecksDefinition:
    """The checks of an asset, evaluated together from one look at the database; each is described by its docstring."""

    @dg.multi_asset_check(
        name=name,
        specs=[dg.AssetCheckSpec(check.__name__, asset=asset, description=check.__doc__) for check, _ in checks],
    )
    def evaluate(database: ApplicationDatabase) -> Iterable[dg.AssetCheckResult]:
        with retried_when_busy(), database.connect() as conn:
            seen = look(conn)
        for check, severity in checks:
            yield check(seen).result(asset, check.__name__, severity)

    return evaluate


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
        expired = listed(status.expired)
        return Finding(
            False, f"older than {status.table.retention}: {expired}; run the job rotate_event_partitions", metadata
        )
    return Finding(True, f"nothing wholly older than {status.table.retention}", metadata)


def partitions_not_exposed(status: PartitionStatus) -> Finding:
    """No partition can be read or written directly by anon or authenticated."""
    metadata = {"exposed": len(status.exposed)}
    if status.exposed:
        return Finding(
            False, f"reachable: {listed(status.exposed)}; revoke these and enable row-level security", metadata
        )
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


def check_results(status: PartitionStatus) -> Iterator[dg.AssetCheckResult]:
    """The outcome of every check for one table."""
    for check, severity in CHECKS:
        yield check(status).result(partitions_key(status.table), check.__name__, severity)


def partition_checks(table: EventTable) -> dg.AssetChecksDefinition:
    """The checks of one table, evaluated together from one look at the catalog."""

    @dg.multi_asset_check(
        name=f"{table.name}_partition_checks",
        specs=[
            dg.AssetCheckSpec(check.__name__, asset=partitions_key(table), description=check.__doc__)
            for check, _ in CHECKS
        ],
    )
    def evaluate(database: ApplicationDatabase) -> Iterable[dg.AssetCheckResult]:
        with retried_when_busy(), database.connect() as conn:
            status = partition_status(conn, table, datetime.now(UTC))
        yield from check_results(status)

    return evaluate


PARTITION_CHECKS: Final = [partition_checks(table) for table in EVENT_TABLES]
