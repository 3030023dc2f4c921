"""The jobs, each started by the timetable, from the UI or with `dg launch --job NAME`."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from pydantic import Field

from assets.access import ACCESS_ASSETS, ACCESS_CHECKS
from assets.archive import CHAT_ARCHIVE_ASSETS, CHAT_ARCHIVE_CHECKS
from assets.erasure_checks import ERASURE_CHECKS
from assets.erasures import ERASURE_ASSETS
from assets.expiry import VOUCHER_ASSETS
from assets.indexes import INDEX_ASSETS, INDEX_CHECKS
from assets.partition_checks import PARTITION_CHECKS
from assets.partitions import PARTITION_ASSETS, POOL, partitions_key
from assets.progress import log_progress
from assets.review import REVIEW_CHECKS, no_overdue_deletions, storage_history
from assets.review import weekly_job_review as weekly_job_review_asset
from assets.segments import SEGMENT_ASSETS, SEGMENT_CHECKS
from assets.statistics import derived_statistics, roll_ups, statistics_reconciliation
from assets.statistics_checks import RECONCILIATION_CHECKS, STATISTICS_CHECKS, VIEW_CHECKS
from assets.views import VIEW_ASSETS
from lifecycle.database import value, without_statement_timeout
from lifecycle.partitions.convert import ConversionResult, convert_table
from lifecycle.policy import EVENT_TABLES, event_table
from orchestration.executor import living_in_process_executor
from orchestration.limits import limits
from resources.postgres import ApplicationDatabase, retried_when_busy

MAINTENANCE_POOL: Final = "maintenance"
RUN_DAILY_MAINTENANCE: Final = "select public.run_daily_maintenance()"


class Split(Enum):
    """When the rows of a converted table are put into months."""

    now = "now"
    later = "later"


class ConversionConfig(dg.Config):
    """Which tables to convert; `later` only attaches the table whole, and a rerun with `now` splits it."""

    tables: list[str] = Field(default=[table.name for table in EVENT_TABLES], description="bare or qualified names")
    split: Split = Field(default=Split.now, description="when the rows are put into months")


def conversion_event(result: ConversionResult) -> dg.AssetMaterialization | dg.AssetObservation:
    """The conversion as an event of the partitions' asset: made when months were made, else seen."""
    dependents = "\n".join(f"- `{name}`" for name in result.dependents_switched)
    metadata: dict[str, Any] = {
        "outcome": result.outcome,
        "dagster/row_count": result.rows,
        "months": result.months,
        "default_rows": result.default_rows,
        "dependents_switched": len(result.dependents_switched),
        "dependents": dg.MetadataValue.md(dependents or "none"),
        "seconds": result.seconds,
        "longest_lock_ms": result.longest_lock_ms,
    }
    key = partitions_key(result.table)
    if result.outcome == "converted":
        return dg.AssetMaterialization(key, description="converted to monthly partitions", metadata=metadata)
    return dg.AssetObservation(key, description=result.outcome.replace("_", " "), metadata=metadata)


@dg.op(out=dg.DynamicOut(dict[str, Any], description="one table and when to split it"))
def choose_tables(config: ConversionConfig) -> Iterator[dg.DynamicOutput[dict[str, Any]]]:
    """Check the names and make one step of each table, so that each is seen and retried on its own."""
    try:
        tables = [event_table(name) for name in config.tables]
    except KeyError as error:
        raise dg.Failure(str(error.args[0]), allow_retries=False) from error
    for table in tables:
        yield dg.DynamicOutput({"table": table.name, "split": config.split.value}, mapping_key=table.name)


@dg.op(pool=POOL)
def convert(context: dg.OpExecutionContext, request: dict[str, Any], database: ApplicationDatabase) -> None:
    """Convert one table online; a run that was cut off goes on where it stopped."""
    table = event_table(request["table"])
    with retried_when_busy():
        result = convert_table(
            database.required_url(),
            table,
            split_now=request["split"] == Split.now.value,
            now=datetime.now(UTC),
            progress=log_progress(context),
        )
    context.log.info(
        f"{table.qualified_name}: {result.outcome}, {result.rows:,} rows in {result.months} months, "
        f"{result.seconds:.1f} s, longest lock {result.longest_lock_ms:.0f} ms"
    )
    context.log_event(conversion_event(result))


@dg.job(
    executor_def=living_in_process_executor,
    tags=limits("convert_event_tables"),
    description="Convert the event tables to monthly partitions while the application writes to them.",
)
def convert_event_tables() -> None:
    choose_tables().map(convert)


def asset_job(
    name: str,
    assets: Sequence[dg.AssetsDefinition],
    checks: Sequence[dg.AssetChecksDefinition],
    description: str,
) -> UnresolvedAssetJobDefinition:
    """A job that makes the assets and then evaluates the checks, in one process."""
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*assets) | dg.AssetSelection.checks(*checks),
        description=description,
        executor_def=living_in_process_executor,
        tags=limits(name),
    )


rotate_event_partitions = asset_job(
    "rotate_event_partitions",
    PARTITION_ASSETS,
    PARTITION_CHECKS,
    "Make the months ahead, drop those past retention, empty the default partition; then check.",
)
refresh_analytics_hourly = asset_job(
    "refresh_analytics_hourly",
    VIEW_ASSETS,
    VIEW_CHECKS,
    "Refresh account_function_usage and the materialized views, each on its own; then check their age.",
)
refresh_derived_statistics = asset_job(
    "refresh_derived_statistics",
    [roll_ups, derived_statistics],
    STATISTICS_CHECKS,
    "Roll up what can have changed, bring the tables behind the dashboards' views up to date; then check.",
)
reconcile_statistics = asset_job(
    "reconcile_statistics",
    [statistics_reconciliation],
    RECONCILIATION_CHECKS,
    "Compare a sample of days and accounts with the application's tables, and repair what differs.",
)


refresh_account_segments = asset_job(
    "refresh_account_segments",
    SEGMENT_ASSETS,
    SEGMENT_CHECKS,
    "Compute the segments of accounts whose quiz, interactions or consent changed; then check.",
)
archive_chat_messages = asset_job(
    "archive_chat_messages",
    CHAT_ARCHIVE_ASSETS,
    CHAT_ARCHIVE_CHECKS,
    "Move chat messages past retention to the archive, their text compressed; then check.",
)
delete_expired_vouchers = asset_job(
    "delete_expired_vouchers",
    VOUCHER_ASSETS,
    [],
    "Delete vouchers and redemptions past retention, in batches.",
)
erase_personal_data = asset_job(
    "erase_personal_data",
    ERASURE_ASSETS,
    [*ERASURE_CHECKS, no_overdue_deletions],
    "Erase the most urgent batch of people who asked for it, search for what is left, write receipts; then check.",
)
compare_access = asset_job(
    "compare_access",
    ACCESS_ASSETS,
    ACCESS_CHECKS,
    "Read who may see what and compare it with what is declared and accepted. Changes nothing.",
)
build_hot_query_indexes = asset_job(
    "build_hot_query_indexes",
    INDEX_ASSETS,
    INDEX_CHECKS,
    "Build the indexes of hot queries that are missing or invalid, without stopping writers; then check all of them.",
)


@dg.op(pool=MAINTENANCE_POOL)
def maintain(context: dg.OpExecutionContext, database: ApplicationDatabase) -> None:
    """Call the database function, which works without Dagster too."""
    with retried_when_busy(), database.connect() as conn, without_statement_timeout(conn):
        context.log.info(str(value(conn, RUN_DAILY_MAINTENANCE)))


@dg.job(
    executor_def=living_in_process_executor,
    tags=limits("run_daily_maintenance"),
    description="The application's own run_daily_maintenance(): refresh account_function_usage, ANALYZE.",
)
def run_daily_maintenance() -> None:
    maintain()


weekly_job_review = asset_job(
    "weekly_job_review",
    [weekly_job_review_asset],
    REVIEW_CHECKS,
    "The week of the jobs: outcomes, durations, deletions due, storage growth; to Slack once a week.",
)
record_storage = asset_job(
    "record_storage",
    [storage_history],
    REVIEW_CHECKS,
    "Keep the size of every table for the review's growth; look daily at deletions due and the outbox.",
)


JOBS: Final[list[dg.JobDefinition | UnresolvedAssetJobDefinition]] = [
    convert_event_tables,
    rotate_event_partitions,
    refresh_analytics_hourly,
    refresh_derived_statistics,
    reconcile_statistics,
    refresh_account_segments,
    archive_chat_messages,
    delete_expired_vouchers,
    erase_personal_data,
    compare_access,
    run_daily_maintenance,
    build_hot_query_indexes,
    record_storage,
    weekly_job_review,
]
