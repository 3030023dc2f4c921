"""Derived statistics: daily partitioned roll-ups, and the tables behind the dashboards' views that rest on them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.application import application_key, snapshot_column_schema
from assets.refreshing import HOURLY, OWNERS, POOL, outcome_metadata, raise_failures
from lifecycle.database import Connection
from lifecycle.statistics import (
    ROLL_UPS,
    STATISTICS,
    reconcile_statistics,
    refresh_roll_ups,
    refresh_statistics,
    relation_facts,
)
from lifecycle.views.refreshing import RefreshOutcome
from resources.postgres import ApplicationDatabase, retried_when_busy

GROUP: Final = "statistics"
CODE_VERSION: Final = "1"
RECONCILIATION_KEY: Final = dg.AssetKey(["lifecycle", "statistics_reconciliation"])
# Today counts too: its partition exists as soon as the day has begun.
DAYS: Final = dg.DailyPartitionsDefinition(start_date="2024-01-01", timezone="UTC", end_offset=1)


class Recompute(Enum):
    """Which buckets a run of the roll-ups recomputes."""

    changes = "changes"
    partitions = "partitions"


class RollUpConfig(dg.Config):
    """`changes`: what can have changed since the last run; `partitions`: besides, every bucket of the run's days."""

    recompute: Recompute = Field(default=Recompute.partitions, description="which buckets to recompute")


def roll_up_key(name: str) -> dg.AssetKey:
    return dg.AssetKey(["lifecycle", name])


def relation_metadata(conn: Connection, schema: str, name: str) -> dict[str, Any]:
    """Rows, size and columns of a table as they are now. `rows` of a roll-up is the planner's estimate."""
    facts = relation_facts(conn, schema, name)
    columns = [dg.TableColumn(column, kind) for column, kind in facts.columns]
    return {
        "dagster/row_count": facts.rows,
        "bytes": facts.bytes,
        "dagster/column_schema": dg.TableSchema(columns=columns),
    }


@dg.multi_asset(
    name="roll_ups",
    specs=[
        dg.AssetSpec(
            roll_up_key(roll_up.name),
            deps=[application_key(source) for source in roll_up.sources],
            description=roll_up.description,
            group_name=GROUP,
            owners=OWNERS,
            kinds={"postgres", "table"},
            code_version=CODE_VERSION,
            freshness_policy=HOURLY,
            metadata={"dagster/table_name": f"lifecycle.{roll_up.name}", "time_column": roll_up.time_column},
        ).with_io_manager_key("dataframes")
        for roll_up in ROLL_UPS
    ],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=POOL,
)
def roll_ups(
    context: dg.AssetExecutionContext, config: RollUpConfig, database: ApplicationDatabase
) -> Iterator[dg.MaterializeResult[None]]:
    """Recompute the buckets that can have changed, or whole days, from the application's tables."""
    window = context.partition_time_window
    wanted = (window.start, window.end) if config.recompute is Recompute.partitions else None
    with retried_when_busy(), database.connect() as conn:
        outcomes = refresh_roll_ups(conn, wanted)
        described = {o.name: relation_metadata(conn, "lifecycle", o.name) for o in outcomes}
    for outcome in outcomes:
        if not outcome.failed:
            yield dg.MaterializeResult(
                asset_key=roll_up_key(outcome.name), metadata=outcome_metadata(outcome) | described[outcome.name]
            )
    raise_failures(outcomes)


def statistic_metadata(conn: Connection, outcome: RefreshOutcome) -> dict[str, Any]:
    """Numbers and the picture of one statistic."""
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from assets.charts import chart_markdown

    facts = relation_facts(conn, "lifecycle", outcome.name)
    chart = dg.MetadataValue.md(chart_markdown(conn, outcome.name))
    return outcome_metadata(outcome) | {"dagster/row_count": facts.rows, "bytes": facts.bytes, "chart": chart}


@dg.multi_asset(
    name="derived_statistics",
    specs=[
        dg.AssetSpec(
            application_key(statistic.name),
            deps=[roll_up_key(source) for source in statistic.sources],
            description=f"{statistic.description} Table behind the application's view of the same name.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"postgres", "table"},
            code_version=CODE_VERSION,
            freshness_policy=HOURLY,
            skippable=True,
            metadata={
                "dagster/table_name": f"public.{statistic.name}",
                "dagster/column_schema": snapshot_column_schema(statistic.name),
            },
        ).with_io_manager_key("dataframes")
        for statistic in STATISTICS
    ],
    can_subset=True,
    pool=POOL,
)
def derived_statistics(
    context: dg.AssetExecutionContext, database: ApplicationDatabase
) -> Iterator[dg.MaterializeResult[None]]:
    """Bring the chosen tables to what the application's views would return now."""
    names = [key.path[-1] for key in context.selected_asset_keys]
    with retried_when_busy(), database.connect() as conn:
        outcomes = refresh_statistics(conn, names)
        results = [
            dg.MaterializeResult[None](asset_key=application_key(o.name), metadata=statistic_metadata(conn, o))
            for o in outcomes
            if not o.failed
        ]
    yield from results
    raise_failures(outcomes)


@dg.asset(
    key=RECONCILIATION_KEY,
    deps=[roll_up_key(roll_up.name) for roll_up in ROLL_UPS],
    group_name=GROUP,
    description=(
        "Each night a sample of days and accounts is counted anew from the application's tables, and every sum over "
        "roll-ups is summed up again. What differs is repaired and reported; nothing should."
    ),
    owners=OWNERS,
    kinds={"postgres"},
    code_version=CODE_VERSION,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)),
    pool=POOL,
)
def statistics_reconciliation(database: ApplicationDatabase) -> dg.MaterializeResult[None]:
    with retried_when_busy(), database.connect() as conn:
        found = reconcile_statistics(conn)
    return dg.MaterializeResult(
        metadata={
            "repaired": sum(item.repaired for item in found),
            "compared_at": dg.MetadataValue.timestamp(datetime.now(UTC)),
            "comparison": dg.MetadataValue.table(
                [dg.TableRecord({"name": i.name, "checked": i.checked, "repaired": i.repaired}) for i in found],
                schema=dg.TableSchema(
                    columns=[
                        dg.TableColumn("name"),
                        dg.TableColumn("checked", "int"),
                        dg.TableColumn("repaired", "int"),
                    ]
                ),
            ),
        }
    )


STATISTICS_ASSETS: Final = [roll_ups, derived_statistics, statistics_reconciliation]
