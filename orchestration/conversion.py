"""The job that converts event tables: a step for each table."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import dagster as dg

from assets.keys import step_name
from assets.partitions import POOL, partitions_key
from assets.progress import log_progress
from lifecycle.declarations.application import Application
from lifecycle.pacing import pacing_of
from lifecycle.partitions.convert import ConversionResult, convert_table
from lifecycle.partitions.tables import monthly_tables, named_table
from orchestration.executor import living_in_process_executor
from orchestration.limits import limits
from resources.postgres import ApplicationDatabase, retried_when_busy

JOB: Final = "convert_event_tables"


class Split(Enum):
    """When the rows of a converted table are put into months."""

    now = "now"
    later = "later"


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


def conversion_job(application: Application) -> dg.JobDefinition:
    """The job over the declared event tables."""
    declared = monthly_tables(application)

    # Not a dg.Config: its texts may name an environment variable instead, and the error about an unknown table would
    # show that variable's value to whoever launched the run.
    config = {
        "tables": dg.Field(
            [str],
            default_value=[table.qualified_name for table in declared],
            description="schema.name, or the name alone",
        ),
        "split": dg.Field(
            dg.Enum.from_python_enum(Split),
            default_value=Split.now.name,
            description="when the rows are put into months; later only attaches the table whole, and a rerun with now "
            "splits it",
        ),
    }

    @dg.op(config_schema=config, out=dg.DynamicOut(dict[str, Any], description="one table and when to split it"))
    def choose_tables(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[dict[str, Any]]]:
        """Check the names and make one step of each table, so that each is seen and retried on its own."""
        split: Split = context.op_config["split"]
        try:
            tables = [named_table(declared, name) for name in context.op_config["tables"]]
        except KeyError as error:
            raise dg.Failure(str(error.args[0]), allow_retries=False) from error
        for table in dict.fromkeys(tables):
            step = step_name(dg.AssetKey(partitions_key(table).path[1:]))
            yield dg.DynamicOutput({"table": table.qualified_name, "split": split.value}, mapping_key=step)

    @dg.op(pool=POOL)
    def convert(context: dg.OpExecutionContext, request: dict[str, Any], database: ApplicationDatabase) -> None:
        """Convert one table online; a run that was cut off goes on where it stopped."""
        table = named_table(declared, request["table"])
        with retried_when_busy():
            result = convert_table(
                database.required_url(),
                table,
                split_now=request["split"] == Split.now.value,
                now=datetime.now(UTC),
                pacing=pacing_of(application, JOB),
                progress=log_progress(context),
            )
        context.log.info(
            f"{table.qualified_name}: {result.outcome}, {result.rows:,} rows in {result.months} months, "
            f"{result.seconds:.1f} s, longest lock {result.longest_lock_ms:.0f} ms"
        )
        context.log_event(conversion_event(result))

    @dg.job(
        name=JOB,
        executor_def=living_in_process_executor,
        tags=limits(JOB),
        description="Convert the event tables to monthly partitions while the application writes to them.",
    )
    def convert_event_tables() -> None:
        choose_tables().map(convert)

    return convert_event_tables
