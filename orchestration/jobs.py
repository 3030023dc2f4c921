"""The jobs, each started by the timetable, from the UI or with `dg launch --job NAME`."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.checks import PARTITION_CHECKS
from assets.partitions import PARTITION_ASSETS, POOL, partitions_key
from assets.weekly_review import REVIEW_CHECKS, storage_history
from assets.weekly_review import weekly_job_review as weekly_job_review_asset
from lifecycle.database import value, without_statement_timeout
from lifecycle.partitions.convert import ConversionResult, convert_table
from lifecycle.policy import EVENT_TABLES, event_table
from resources.postgres import ApplicationDatabase, retried_when_busy

MAINTENANCE_POOL: Final = "maintenance"
RUN_DAILY_MAINTENANCE: Final = "select public.run_daily_maintenance()"
LOG_STEP: Final = 0.1


class Split(Enum):
    """When the rows of a converted table are put into months."""

    now = "now"
    later = "later"


class ConversionConfig(dg.Config):
    """Which tables to convert; `later` only attaches the table whole, and a rerun with `now` splits it."""

    tables: list[str] = Field(default=[table.name for table in EVENT_TABLES], description="bare or qualified names")
    split: Split = Field(default=Split.now, description="when the rows are put into months")


def log_progress(context: dg.OpExecutionContext) -> Callable[[str, float], None]:
    """A progress callback that writes a line for each new message and each tenth of the work."""
    last = ("", 0.0)

    def progress(message: str, fraction: float) -> None:
        nonlocal last
        if message != last[0] or fraction - last[1] >= LOG_STEP:
            last = (message, fraction)
            context.log.info(f"{message} ({fraction:.0%})")

    return progress


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
    executor_def=dg.in_process_executor,
    description="Convert the event tables to monthly partitions while the application writes to them.",
)
def convert_event_tables() -> None:
    choose_tables().map(convert)


rotate_event_partitions = dg.define_asset_job(
    "rotate_event_partitions",
    selection=dg.AssetSelection.assets(*PARTITION_ASSETS) | dg.AssetSelection.checks(*PARTITION_CHECKS),
    description="Make the months ahead, drop those past retention, empty the default partition; then check.",
    executor_def=dg.in_process_executor,
)


@dg.op(pool=MAINTENANCE_POOL)
def maintain(context: dg.OpExecutionContext, database: ApplicationDatabase) -> None:
    """Call the database function, which works without Dagster too."""
    with retried_when_busy(), database.connect() as conn, without_statement_timeout(conn):
        context.log.info(str(value(conn, RUN_DAILY_MAINTENANCE)))


@dg.job(
    executor_def=dg.in_process_executor,
    description="The application's own run_daily_maintenance(): refresh account_function_usage, ANALYZE.",
)
def run_daily_maintenance() -> None:
    maintain()


weekly_job_review = dg.define_asset_job(
    "weekly_job_review",
    selection=dg.AssetSelection.assets(weekly_job_review_asset) | dg.AssetSelection.checks(*REVIEW_CHECKS),
    description="The week of the jobs: outcomes, durations, deletions due, storage growth; to Slack once a week.",
    executor_def=dg.in_process_executor,
)

record_storage = dg.define_asset_job(
    "record_storage",
    selection=dg.AssetSelection.assets(storage_history) | dg.AssetSelection.checks(*REVIEW_CHECKS),
    description="Keep the size of every table for the review's growth; look daily at deletions due and the outbox.",
    executor_def=dg.in_process_executor,
)
