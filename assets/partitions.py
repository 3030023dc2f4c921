"""The monthly partitions of the event tables: one asset per table, made by rotation."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from assets.application import application_key
from assets.bundle import Bundle
from assets.keys import key_of
from assets.partition_checks import partition_checks
from assets.stored_once import stored_once
from assets.tables import table_metadata
from assets.units import size_text
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.errors import BusyError
from lifecycle.partitions.rotate import RotationAction, rotate
from lifecycle.partitions.status import PartitionStatus, partition_status
from lifecycle.partitions.tables import MonthlyTable, monthly_tables
from resources.postgres import ApplicationDatabase, retried_when_busy

POOL: Final = "event_partitions"
GROUP: Final = "event_partitions"
OWNERS: Final = ["team:data-platform"]
CODE_VERSION: Final = "1"
# Rotation is scheduled every day: a day and two hours late is worth a look, two days late is a fault.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))

ACTION_COLUMNS: Final = {
    "action": ("string", "create, drop, or what was done with rows of the default partition"),
    "partition": ("string", "the partition, in schema event_partitions"),
    "rows": ("int", "rows that were dropped or moved"),
    "size": ("string", "room that it took, with its indexes"),
    "outcome": ("string", "success or failure"),
    "note": ("string", "why it failed"),
}


def partitions_key(table: MonthlyTable) -> dg.AssetKey:
    """The asset of one event table's partitions."""
    return key_of("event_partitions", table.relation)


def actions_table(actions: Iterable[RotationAction]) -> dg.TableMetadataValue:
    """What rotation did, one record per action."""
    records = (
        (each.action, each.partition or "", each.rows, size_text(each.bytes), each.outcome, each.error or "")
        for each in actions
    )
    return table_metadata(ACTION_COLUMNS, records)


def status_metadata(status: PartitionStatus, now: datetime) -> dict[str, dg.MetadataValue]:
    """A table's partitions as run metadata: counts, sizes and the timeline; never a row."""
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from assets.timeline import timeline_markdown

    return {
        "picture": dg.MetadataValue.md(timeline_markdown(status, now)),
        "dagster/row_count": dg.MetadataValue.int(status.rows),
        "bytes": dg.MetadataValue.int(status.bytes),
        "size": dg.MetadataValue.text(size_text(status.bytes)),
        "months": dg.MetadataValue.int(sum(not partition.is_default for partition in status.partitions)),
        "months_ahead": dg.MetadataValue.int(status.months_ahead),
        "expired": dg.MetadataValue.int(len(status.expired)),
        "default_rows": dg.MetadataValue.int(status.default_rows),
        "kept_since": dg.MetadataValue.text(f"{status.first_kept:%Y-%m-%d}" if status.first_kept else ""),
    }


def rotate_table(conn: Connection, table: MonthlyTable, now: datetime) -> dg.MaterializeResult[None]:
    """Rotate one table and describe what it holds now.

    Raises BusyError when a lock stayed taken, and dg.Failure, which no retry cures, for any other failed action.
    """
    actions = rotate(conn, table, now)
    if failed := [action for action in actions if action.outcome == "failure"]:
        reasons = "; ".join(str(action.error) for action in failed)
        if all(action.busy for action in failed):
            raise BusyError(f"rotation of {table.qualified_name}: {reasons}")
        raise dg.Failure(
            f"rotation of {table.qualified_name}: {reasons}",
            metadata={"actions": actions_table(actions)},
            allow_retries=False,
        )
    status = partition_status(conn, table, now)
    return dg.MaterializeResult(metadata=status_metadata(status, now) | {"actions": actions_table(actions)})


def _why(table: MonthlyTable) -> str:
    return f"Kept {table.retention}: {table.reason}. " if table.reason else ""


def partitions_asset(table: MonthlyTable) -> dg.AssetsDefinition:
    """The asset of one event table's partitions."""

    @dg.asset(
        key=partitions_key(table),
        deps=[application_key(table.relation)],
        group_name=GROUP,
        description=(
            f"Monthly partitions (UTC) of `{table.qualified_name}` by `{table.time_column}`. Materializing it "
            f"rotates: makes {table.months_ahead} months ahead, drops months wholly older than "
            f"{table.retention}, empties the default partition. {_why(table)}"
            "Before the first time, run the job `convert_event_tables`."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        tags={"retention": table.retention.replace(" ", "_"), "partitioned_by": "month"},
        metadata={"dagster/table_name": table.qualified_name, "time_column": table.time_column},
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version=CODE_VERSION,
    )
    def event_partitions(
        context: dg.AssetExecutionContext, database: ApplicationDatabase
    ) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            return stored_once(context, rotate_table(conn, table, datetime.now(UTC)))

    return event_partitions


def bundle(application: Application) -> Bundle:
    """Partitions of the declared event tables, and what must hold for them."""
    tables = monthly_tables(application)
    return Bundle(
        assets=[partitions_asset(table) for table in tables],
        checks=[partition_checks(table, partitions_key(table)) for table in tables],
    )
