"""Kept views: one asset each, brought up to its own definition; their comparison; whether they are fresh and proved."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg

from assets.application import application_key, known_columns
from assets.bundle import Bundle
from assets.stored_once import last_picture, stored_once
from assets.tables import table_metadata
from assets.views import POOL
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.declarations.views import KeptView
from lifecycle.errors import LifecycleError
from lifecycle.names import QualifiedName
from lifecycle.pacing import pacing_of
from lifecycle.views.archived import blind_views, rows_elsewhere
from lifecycle.views.statistics import (
    StatisticOutcome,
    StatisticStatus,
    compare_statistics,
    figures,
    refresh_statistic,
    statistics_status,
)
from resources.postgres import ApplicationDatabase, retried_when_busy

JOB: Final = "refresh_derived_statistics"
GROUP: Final = "statistics"
PICTURE: Final = "picture"
# Compared every night: a day and two hours late is worth a look, two days late is a fault.
COMPARED_DAILY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
OWNERS: Final = ["team:data-platform"]
CODE_VERSION: Final = "3"
HOURLY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=6), warn_window=timedelta(hours=3))
# A run that a person starts refreshes at once; one of the timetable only what is due.
SCHEDULE_TAG: Final = "dagster/schedule_name"
COMPARISON_KEY: Final = dg.AssetKey(["lifecycle", "statistics_comparison"])
COMPARISON_COLUMNS: Final = {
    "view": ("string", "schema and name"),
    "outcome": ("string", "equal, repaired, or why it was not compared"),
    "milliseconds": ("int", "the comparison's duration"),
}
CHECKS: Final = {
    "fresh": "It answers from its table, which was refreshed in time.",
    "proved": "The last comparison found no row that differs from the view's own definition.",
}


def outcome_metadata(outcome: StatisticOutcome, status: StatisticStatus) -> dict[str, Any]:
    """What a refresh did, and what computing the view itself would have cost."""
    metadata: dict[str, Any] = {
        "outcome": outcome.outcome,
        "rows_written": outcome.rows,
        "duration_ms": outcome.duration_ms,
        "refreshed_by": status.key or "all rows",
    }
    if status.definition_ms is not None:
        metadata["definition_ms"] = status.definition_ms
    return metadata


def _picture(conn: Connection, application: Application, status: StatisticStatus) -> dict[str, Any]:
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from assets.pictures import markdown_image
    from assets.statistics_chart import MOST_POINTS, drawing_of, statistics_figure

    columns = next((relation.columns for relation in application.relations if relation.name == status.name), ())
    drawing = drawing_of(columns)
    if drawing is None:
        return {}
    found = figures(conn, status.table, drawing.columns, MOST_POINTS)
    title = status.name.name.replace("_", " ")
    figure = statistics_figure(title, drawing, found, datetime.now(UTC))
    return {PICTURE: dg.MetadataValue.md(markdown_image(figure, title))}


def _statistic_asset(application: Application, name: QualifiedName, view: KeptView) -> dg.AssetsDefinition:
    relation = next((relation for relation in application.relations if relation.name == name), None)
    key = application_key(name)

    @dg.asset(
        key=key,
        deps=[application_key(source) for source in (relation.reads if relation else ())],
        group_name=GROUP,
        description=(
            f"{(relation and relation.comment) or view.why or 'View of the application'}\n\nAnswers from a table that "
            f"is brought up to the view's own definition every {view.every}."
        ),
        kinds={"postgres", "view"},
        owners=OWNERS,
        tags={"relation": "kept_view"},
        metadata={"dagster/table_name": str(name), "dagster/column_schema": known_columns(application, name)},
        freshness_policy=HOURLY,
        pool=POOL,
        code_version=CODE_VERSION,
        io_manager_key="dataframes",
        output_required=False,
        # Evaluated with it, since a check of its own would be left out where a view is not due.
        check_specs=[dg.AssetCheckSpec(check, asset=key, description=told) for check, told in CHECKS.items()],
    )
    def statistic(
        context: dg.AssetExecutionContext, database: ApplicationDatabase
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        with retried_when_busy(), database.connect() as conn:
            made = _refreshed(context, conn, application, name)
            if made is None:
                context.log.info(f"{name} was not refreshed: it is not due, or its check says what it is instead")
            else:
                yield stored_once(context, dg.MaterializeResult(metadata=made))
            status = next(iter(statistics_status(conn, name)), None)
            blind = _blind(conn, application, name) if status and status.state != "kept" else ""
        yield fresh_result(key, "fresh", status, optional=view.optional, blind=blind)
        yield proved_result(key, "proved", status)

    return statistic


def _refreshed(
    context: dg.AssetExecutionContext, conn: Connection, application: Application, name: QualifiedName
) -> dict[str, Any] | None:
    """Refresh one view; metadata, or None when there was nothing to do or nothing that a refresh could do."""
    only_if_due = SCHEDULE_TAG in context.run.tags
    before = next(iter(statistics_status(conn, name)), None)
    if before is None or before.state != "kept" or (only_if_due and not before.due):
        return None
    with pacing_of(application, JOB).work():
        outcome = refresh_statistic(conn, name)
    (status,) = statistics_status(conn, name)
    metadata = outcome_metadata(outcome, status)
    # Pictures are stored by Dagster for good: one only where it shows something new.
    shown = None if outcome.rows else last_picture(context.instance, context.asset_key, PICTURE)
    return ({PICTURE: shown} if shown else _picture(conn, application, status)) | metadata


def _blind(conn: Connection, application: Application, name: QualifiedName) -> str:
    """What the text of a view misses of archived rows; empty where it misses nothing."""
    found = blind_views(conn, rows_elsewhere(conn, application))
    return next((blind.told for blind in found if blind.view == name), "")


def _comparison_asset(application: Application) -> dg.AssetsDefinition:
    @dg.asset(
        key=COMPARISON_KEY,
        deps=[application_key(name) for name in application.views.kept],
        group_name=GROUP,
        description=(
            "Every kept view against its own definition, as of one moment. Rows that differ although nothing changed "
            "them are a fault: they are repaired, and the run fails."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        freshness_policy=COMPARED_DAILY,
        pool=POOL,
        code_version=CODE_VERSION,
    )
    def statistics_comparison(database: ApplicationDatabase) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            found = compare_statistics(conn)
        failed = [f"{each.name}: {each.error}" for each in found if each.outcome in ("failure", "repaired")]
        if failed:
            raise LifecycleError("; ".join(failed))
        return dg.MaterializeResult(
            metadata={
                "views": len(found),
                "comparison": table_metadata(COMPARISON_COLUMNS, [(e.name, e.outcome, e.duration_ms) for e in found]),
            }
        )

    return statistics_comparison


def fresh_result(
    key: dg.AssetKey, check: str, found: StatisticStatus | None, *, optional: bool, blind: str = ""
) -> dg.AssetCheckResult:
    """Whether a view answers from its table, and not from one that is late; `blind` is what another text misses."""
    told, passed = "", True
    if found is None or (found.state == "gone" and optional):
        passed = optional
        told = "the application does not have it" if optional else "it is not kept; lifecycle migrate says why"
    elif found.state != "kept":
        passed = optional and found.state == "gone"
        told = f"{found.state}{f': it now {blind}' if blind else ''}; run lifecycle migrate"
    elif found.age is None or found.late:
        passed = False
        when = found.refreshed_at or "never"
        told = f"refreshed {when}; start the job refresh_derived_statistics, and read its last run"
    else:
        told = f"{found.age.total_seconds() / 60:,.0f} minutes old"
    return dg.AssetCheckResult(
        asset_key=key, check_name=check, passed=passed, severity=dg.AssetCheckSeverity.ERROR, description=told
    )


def proved_result(key: dg.AssetKey, check: str, found: StatisticStatus | None) -> dg.AssetCheckResult:
    """Whether the last comparison found the table to be what the definition says."""
    passed = found is None or not found.differing
    told = (
        "not compared yet" if found is None or found.compared_at is None else f"compared {found.compared_at:%F %H:%M}"
    )
    if found is not None and found.differing:
        told = f"{told}: {found.differing:,} rows differed and were repaired; read docs/explanation/kept-views.md"
    if found is not None and found.unstable:
        told += f"; left out, as their value depends on the order of rows: {', '.join(found.unstable)}"
    return dg.AssetCheckResult(
        asset_key=key, check_name=check, passed=passed, severity=dg.AssetCheckSeverity.ERROR, description=told
    )


def bundle(application: Application) -> Bundle:
    """An asset and two checks per kept view."""
    kept = application.views.kept
    if not kept:
        return Bundle()
    return Bundle(assets=[_statistic_asset(application, name, view) for name, view in kept.items()])


def comparison_bundle(application: Application) -> Bundle:
    """The asset of the nightly comparison."""
    return Bundle(assets=[_comparison_asset(application)]) if application.views.kept else Bundle()
