"""The views that the seed asks to refresh every hour: one asset each, refreshed on its own."""

from typing import Final

import dagster as dg

from assets.application import application_key, snapshot_column_schema
from assets.refreshing import HOURLY, OWNERS, POOL, outcome_metadata
from lifecycle.policy import MATERIALIZED_VIEWS, MaterializedView
from lifecycle.statistics import relation_facts
from lifecycle.views.materialized import ROLLED_UP_VIEW, refresh_view
from resources.postgres import ApplicationDatabase, retried_when_busy

GROUP: Final = "materialized_views"
CODE_VERSION: Final = "1"


def view_asset(name: str, deps: list[dg.AssetKey], kind: str, description: str) -> dg.AssetsDefinition:
    """The asset of one refreshed view."""

    @dg.asset(
        key=application_key(name),
        deps=deps,
        group_name=GROUP,
        description=description,
        kinds={"postgres", "view"},
        owners=OWNERS,
        tags={"relation": kind},
        metadata={
            "dagster/table_name": f"public.{name}",
            "dagster/column_schema": snapshot_column_schema(name),
        },
        freshness_policy=HOURLY,
        pool=POOL,
        code_version=CODE_VERSION,
        io_manager_key="dataframes",
    )
    def refreshed_view(database: ApplicationDatabase) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            outcome = refresh_view(conn, name)
            # The outcome of a view over a roll-up counts what changed, not what stands there.
            standing = relation_facts(conn, "public", name).rows
        return dg.MaterializeResult(metadata=outcome_metadata(outcome) | {"dagster/row_count": standing})

    return refreshed_view


def _materialized(view: MaterializedView) -> dg.AssetsDefinition:
    return view_asset(
        view.name,
        [application_key(source.removeprefix("public.")) for source in view.sources],
        "materialized_view",
        f"Materialized view of the application: {view.reason}. Refreshed CONCURRENTLY, so that readers never wait; "
        f"left alone while its sources do not change, for {view.max_age} at most.",
    )


VIEW_ASSETS: Final = [
    view_asset(
        ROLLED_UP_VIEW,
        [dg.AssetKey(["lifecycle", "function_usage_hourly"])],
        "view",
        "Uses of each tool per account, all time. A view over a roll-up since the application's materialized view "
        "gave way: each hour only the hours that can have changed are counted again.",
    ),
    *map(_materialized, MATERIALIZED_VIEWS),
]
