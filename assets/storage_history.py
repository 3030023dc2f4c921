"""The size of every table, kept day by day."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

import dagster as dg

from assets.tables import table_metadata, table_schema
from assets.units import size_text
from lifecycle.review.storage import RelationSize, record_storage
from resources.postgres import ApplicationDatabase, retried_when_busy

POOL: Final = "operations"
GROUP: Final = "operations"
OWNERS: Final = ["team:data-platform"]
STORAGE_KEY: Final = dg.AssetKey(["lifecycle", "storage_history"])
# Measured every day: a day and two hours late is worth a look, two days late is a gap in the review.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
COLUMNS: Final = table_schema(
    {
        "measured_on": ("date", "day in UTC"),
        "relation": ("text", "schema and name"),
        "bytes": ("bigint", "with indexes and TOAST, partitions summed"),
        "row_estimate": ("bigint", "the planner's estimate"),
    }
)
SIZE_COLUMNS: Final = {
    "relation": ("string", "schema and name"),
    "size": ("string", "with indexes and TOAST, partitions summed"),
    "rows": ("int", "the planner's estimate"),
}


def sizes_table(sizes: Iterable[RelationSize]) -> dg.TableMetadataValue:
    """One record per relation."""
    return table_metadata(SIZE_COLUMNS, ((s.relation, size_text(s.bytes), s.rows) for s in sizes))


@dg.asset(
    key=STORAGE_KEY,
    group_name=GROUP,
    description=(
        "Size of every table and materialized view of the application and of this project, one row per day (UTC) and "
        "relation, partitions summed, kept 400 days. What the weekly review's growth is computed from."
    ),
    kinds={"postgres", "table"},
    owners=OWNERS,
    metadata={"dagster/table_name": "lifecycle.storage_history", "dagster/column_schema": COLUMNS},
    freshness_policy=FRESHNESS,
    pool=POOL,
    code_version="1",
    io_manager_key="dataframes",
)
def storage_history(database: ApplicationDatabase) -> dg.MaterializeResult[None]:
    with retried_when_busy(), database.connect() as conn:
        sizes = record_storage(conn)
    total = sum(size.bytes for size in sizes)
    return dg.MaterializeResult(
        metadata={
            "relations": len(sizes),
            "bytes": dg.MetadataValue.int(total),
            "size": size_text(total),
            "sizes": sizes_table(sizes),
        }
    )
