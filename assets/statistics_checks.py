"""Whether the figures that people read are fresh and right, looked up in the rows themselves."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import dagster as dg

from assets.application import application_key
from assets.statistics import RECONCILIATION_KEY, roll_up_key
from lifecycle.statistics import STATISTICS, data_quality_warnings, hours_behind, last_reconciliation, refresh_ages
from lifecycle.views.materialized import REFRESHED_VIEWS
from resources.postgres import ApplicationDatabase, retried_when_busy

# The schedules run every hour; two misses in a row are a fault.
OLDEST: Final = timedelta(hours=2, minutes=30)
REFRESHED: Final = (*REFRESHED_VIEWS, *(statistic.name for statistic in STATISTICS))
# Roll-ups with a row for every hour in which their source has one.
HOURLY_ROLL_UPS: Final = ("chat_session_hours", "data_quality_hourly")
PROBLEM: Final = dg.AssetCheckSeverity.ERROR


def _refreshed_recently(names: tuple[str, ...], check_name: str) -> dg.AssetChecksDefinition:
    """One check per statistic or view: when it was last brought up to date; never counts as stale."""

    @dg.multi_asset_check(
        name=check_name,
        specs=[
            dg.AssetCheckSpec(
                "refreshed_recently",
                asset=application_key(name),
                description=f"Brought up to date within {OLDEST}; never counts as stale.",
            )
            for name in names
        ],
        can_subset=True,
    )
    def evaluate(
        context: dg.AssetCheckExecutionContext, database: ApplicationDatabase
    ) -> Iterator[dg.AssetCheckResult]:
        with retried_when_busy(), database.connect() as conn:
            ages = refresh_ages(conn)
        for key in sorted(context.selected_asset_check_keys):
            age = ages.get(key.asset_key.path[-1])
            fresh = age is not None and age <= OLDEST
            told = "never refreshed" if age is None else f"refreshed {age.total_seconds() / 60:,.0f} minutes ago"
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=fresh,
                severity=PROBLEM,
                description=told if fresh else f"{told}; start the job that makes it, and read its last run",
                metadata={"minutes": -1 if age is None else round(age.total_seconds() / 60)},
            )

    return evaluate


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "last_hour_present",
            asset=roll_up_key(name),
            description="Every hour of the last day in which the source has rows stands in the roll-up.",
        )
        for name in HOURLY_ROLL_UPS
    ]
)
def roll_ups_complete(database: ApplicationDatabase) -> Iterator[dg.AssetCheckResult]:
    """Compare the hours of the last day with the source."""
    with retried_when_busy(), database.connect() as conn:
        missing = {name: hours_behind(conn, name) for name in HOURLY_ROLL_UPS}
    for name, hours in missing.items():
        listed = ", ".join(f"{hour:%Y-%m-%d %H:%M} UTC" for hour in hours)
        yield dg.AssetCheckResult(
            asset_key=roll_up_key(name),
            check_name="last_hour_present",
            passed=not hours,
            severity=PROBLEM,
            description=f"missing: {listed}; run the job refresh_derived_statistics" if hours else "no hour is missing",
            metadata={"missing": len(hours)},
        )


@dg.asset_check(
    asset=application_key("data_quality_metrics"), description="Each figure is on the right side of its threshold."
)
def data_quality_healthy(database: ApplicationDatabase) -> dg.AssetCheckResult:
    with retried_when_busy(), database.connect() as conn:
        warnings = data_quality_warnings(conn)
    told = "; ".join(f"{w.metric_name} is {w.value:,g}, threshold {w.threshold:,g}" for w in warnings)
    return dg.AssetCheckResult(
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        description=told or "all healthy",
        metadata={w.metric_name: float(w.value) for w in warnings},
    )


@dg.asset_check(
    asset=RECONCILIATION_KEY, description="The comparison with the application's tables found nothing to repair."
)
def statistics_agree_with_sources(
    context: dg.AssetCheckExecutionContext, database: ApplicationDatabase
) -> dg.AssetCheckResult:
    with retried_when_busy(), database.connect() as conn:
        repaired = last_reconciliation(conn)
    context.log.info(f"last comparison: {repaired}")
    return dg.AssetCheckResult(
        passed=repaired == 0,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            "never compared: run the job reconcile_statistics"
            if repaired is None
            else f"{repaired:,} rows differed and were repaired; something wrote past the triggers (TRUNCATE, a "
            "replica role), or a trigger is missing"
            if repaired
            else "nothing differed"
        ),
        metadata={"repaired": -1 if repaired is None else repaired},
    )


VIEW_CHECKS: Final = [_refreshed_recently(REFRESHED_VIEWS, "views_refreshed_recently")]
STATISTICS_CHECKS: Final = [
    _refreshed_recently(tuple(s.name for s in STATISTICS), "statistics_refreshed_recently"),
    roll_ups_complete,
    data_quality_healthy,
]
RECONCILIATION_CHECKS: Final = [statistics_agree_with_sources]
