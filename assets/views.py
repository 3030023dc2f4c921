"""Materialized views of the application: one asset each, refreshed on its own; and whether they are fresh."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import dagster as dg

from assets.application import application_key, known_columns
from assets.bundle import Bundle
from lifecycle.declarations.application import Application
from lifecycle.declarations.views import MaterializedView
from lifecycle.names import QualifiedName
from lifecycle.views.archived import blind_views, rows_elsewhere
from lifecycle.views.plan import ViewAge, view_ages
from lifecycle.views.refreshing import RefreshOutcome, refresh_view
from resources.postgres import ApplicationDatabase, retried_when_busy

# One refresh at a time: they would only wait for each other's locks.
POOL: Final = "analytics"
GROUP: Final = "materialized_views"
OWNERS: Final = ["team:data-platform"]
CODE_VERSION: Final = "2"
# Refreshed every hour: one missed run is worth a look, two are a fault.
HOURLY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(minutes=130))
# The schedules run every hour; two misses in a row are a fault.
OLDEST: Final = timedelta(hours=2, minutes=30)


def outcome_metadata(outcome: RefreshOutcome) -> dict[str, Any]:
    """Outcome, duration and number of rows of one refresh."""
    metadata: dict[str, Any] = {
        "outcome": outcome.outcome,
        "duration_ms": outcome.duration_ms,
        "dagster/row_count": outcome.rows,
    }
    return metadata | ({"note": outcome.error} if outcome.error else {})


def _view_asset(application: Application, name: QualifiedName, view: MaterializedView) -> dg.AssetsDefinition:
    reads = next((relation.reads for relation in application.relations if relation.name == name), ())

    @dg.asset(
        key=application_key(name),
        deps=[application_key(source) for source in reads],
        group_name=GROUP,
        description=(
            f"Materialized view of the application: {view.why or 'refreshed by its own definition'}. Refreshed "
            "CONCURRENTLY where it has a unique index, so that readers never wait; left alone while nothing that it "
            f"reads has changed, for {view.max_age} at most."
        ),
        kinds={"postgres", "view"},
        owners=OWNERS,
        tags={"relation": "materialized_view"},
        metadata={
            "dagster/table_name": str(name),
            "dagster/column_schema": known_columns(application, name),
        },
        freshness_policy=HOURLY,
        pool=POOL,
        code_version=CODE_VERSION,
        io_manager_key="dataframes",
    )
    def refreshed_view(database: ApplicationDatabase) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            return dg.MaterializeResult(metadata=outcome_metadata(refresh_view(conn, name)))

    return refreshed_view


def freshness_result(key: dg.AssetKey, check: str, found: ViewAge | None, *, blind: str = "") -> dg.AssetCheckResult:
    """Whether a view was found to be right a short while ago; one that the application lacks is not missed.

    `blind` is what it misses of archived rows, however often it is refreshed.
    """
    age = found.age if found else None
    absent = found is not None and found.absent
    fresh = age is not None and age <= OLDEST
    told = "never refreshed" if age is None else f"found to be right {age.total_seconds() / 60:,.0f} minutes ago"
    if absent:
        told = "the application does not have it"
    elif not fresh:
        told = f"{told}; start the job refresh_analytics_hourly, and read its last run"
    elif blind:
        told = f"{told}, but it {blind}; run lifecycle migrate"
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=(fresh and not blind) or absent,
        severity=dg.AssetCheckSeverity.ERROR,
        description=told,
        metadata={"minutes": -1 if age is None else round(age.total_seconds() / 60)},
    )


def _freshness_check(application: Application) -> dg.AssetChecksDefinition:
    names = {application_key(name): name for name in application.views.materialized}

    @dg.multi_asset_check(
        name="views_refreshed_recently",
        specs=[
            dg.AssetCheckSpec(
                "refreshed_recently",
                asset=key,
                description=f"Refreshed, or found to be right, within {OLDEST}; never counts as stale.",
            )
            for key in names
        ],
        can_subset=True,
    )
    def evaluate(
        context: dg.AssetCheckExecutionContext, database: ApplicationDatabase
    ) -> Iterator[dg.AssetCheckResult]:
        with retried_when_busy(), database.transaction() as conn:
            ages = view_ages(conn)
            blind = {str(found.view): found.told for found in blind_views(conn, rows_elsewhere(conn, application))}
        for key in sorted(context.selected_asset_check_keys):
            name = str(names[key.asset_key])
            yield freshness_result(key.asset_key, key.name, ages.get(name), blind=blind.get(name, ""))

    return evaluate


def bundle(application: Application) -> Bundle:
    """An asset and a check per declared materialized view."""
    views = application.views.materialized
    if not views:
        return Bundle()
    return Bundle(
        assets=[_view_asset(application, name, view) for name, view in views.items()],
        checks=[_freshness_check(application)],
    )
