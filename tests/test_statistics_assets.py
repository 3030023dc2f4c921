"""The assets of statistics and materialized views on a real database: hourly runs, backfills, failures, checks."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest

from lifecycle.database import connect, value
from lifecycle.statistics import ROLL_UPS, STATISTICS
from orchestration.definitions import build_definitions
from orchestration.schedules import refresh_derived_statistics_hourly
from resources.postgres import ApplicationDatabase
from tests.conftest import MakeApplicationDb
from tests.statistics_agreement import contents, disagreements
from tests.statistics_changes import CHANGES

pytestmark = pytest.mark.one_server

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


def run(
    url: str,
    instance: dg.DagsterInstance,
    job: str = "refresh_derived_statistics",
    *,
    config: dict[str, object] | None = None,
    partition_key: str | None = None,
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(database=ApplicationDatabase(url=url))
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={**QUIET, **(config or {})},
        partition_key=partition_key,
        tags=tags,
    )


def hourly(url: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """What the schedule asks for now."""
    request = refresh_derived_statistics_hourly(dg.build_schedule_context(scheduled_execution_time=datetime.now(UTC)))
    assert isinstance(request, dg.RunRequest)
    return run(url, instance, config=dict(request.run_config), partition_key=request.partition_key)


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key is not None
    }


def failed_checks(result: dg.ExecuteInProcessResult) -> set[tuple[str, str]]:
    return {
        (evaluation.asset_key.path[-1], evaluation.check_name)
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
    }


def test_the_hourly_run_takes_up_what_is_late_and_makes_every_asset(url: str, instance: dg.DagsterInstance) -> None:
    with connect(url) as conn:
        for change in ("a message of a year ago arrives", "events arrive late", "a session changes hands"):
            conn.execute(CHANGES[change].encode())
        before = contents(conn)
        result = hourly(url, instance)
        assert result.success
        assert made(result) == {item.name for item in (*ROLL_UPS, *STATISTICS)}
        assert failed_checks(result) == set()
        after = contents(conn)
        assert after != before
        assert disagreements(conn) == {}
        assert contents(conn) == after
    for event in result.get_asset_materialization_events():
        metadata = event.step_materialization_data.materialization.metadata
        assert "dagster/row_count" in metadata
        text = str({key: entry.value for key, entry in metadata.items()})
        assert "@" not in text.replace("data:image/png;base64", "")[:2000], "no personal data"


def test_a_backfill_of_days_gives_the_rows_of_the_hourly_runs(url: str, instance: dg.DagsterInstance) -> None:
    today = datetime.now(UTC).date()
    first, last = today - timedelta(days=30), today - timedelta(days=10)
    with connect(url) as conn:
        hourly(url, instance)
        expected = contents(conn)
        for roll_up in ROLL_UPS:
            conn.execute(
                f"delete from lifecycle.{roll_up.name} where {roll_up.time_column} >= %s "
                f"and {roll_up.time_column} < %s".encode(),
                (first, last + timedelta(days=1)),
            )
        assert contents(conn) != expected
        result = run(
            url,
            instance,
            tags={
                "dagster/asset_partition_range_start": first.isoformat(),
                "dagster/asset_partition_range_end": last.isoformat(),
            },
        )
        assert result.success
        assert contents(conn) == expected
        assert disagreements(conn) == {}
    events = result.get_asset_materialization_events()
    days = {event.partition for event in events if event.asset_key and event.asset_key.path[-1] == "chat_session_hours"}
    assert days == {(first + timedelta(days=number)).isoformat() for number in range(21)}


def test_a_statistic_that_fails_fails_the_run_and_lets_the_others_be_made(
    url: str, instance: dg.DagsterInstance
) -> None:
    with connect(url) as conn:
        conn.execute("drop table lifecycle.hourly_usage_patterns cascade")
    result = hourly(url, instance)
    assert not result.success
    assert made(result) == {item.name for item in (*ROLL_UPS, *STATISTICS)} - {"hourly_usage_patterns"}


def test_age_and_gaps_are_seen_in_the_rows(url: str, instance: dg.DagsterInstance) -> None:
    with connect(url) as conn:
        conn.execute("update lifecycle.refresh_states set refreshed_at = refreshed_at - interval '3 hours'")
        conn.execute("delete from lifecycle.refresh_states where name = 'daily_active_users'")
        conn.execute(
            "delete from lifecycle.data_quality_hourly where hour >= now() - interval '20 hours' "
            "and hour < now() - interval '2 hours'"
        )
        conn.execute(
            "update lifecycle.data_quality_metrics set status = 'warning' where metric_name = 'chat_sessions_24h'"
        )
        assert value(
            conn, "select count(*) from user_behavior_events where event_timestamp > now() - interval '19 hours'"
        )
    definitions = build_definitions(database=ApplicationDatabase(url=url))
    checks = dg.define_asset_job(
        "checks",
        selection=dg.AssetSelection.all_asset_checks() - dg.AssetSelection.checks_for_assets(*_others(definitions)),
    )
    result = (
        dg.Definitions.merge(definitions, dg.Definitions(jobs=[checks]))
        .resolve_job_def("checks")
        .execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
    )
    failed = failed_checks(result)
    assert {name for name, check in failed if check == "refreshed_recently"} >= {item.name for item in STATISTICS}
    assert ("data_quality_hourly", "last_hour_present") in failed
    told = {e.check_name: e for e in result.get_asset_check_evaluations() if not e.passed}
    assert "chat_sessions_24h" in str(told["data_quality_healthy"].description)


def _others(definitions: dg.Definitions) -> list[dg.AssetKey]:
    """Assets of other groups, whose checks need what this test does not make."""
    ours = {"statistics", "materialized_views"}
    return [spec.key for spec in definitions.resolve_all_asset_specs() if spec.group_name not in ours]


def test_one_broken_view_fails_its_step_alone(url: str, instance: dg.DagsterInstance) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("drop index top_search_keywords_search_query_idx")
    result = run(url, instance, "refresh_analytics_hourly")
    assert not result.success
    assert made(result) == {"account_function_usage", "daily_user_behavior_summary"}
    with connect(url) as owner:
        owner.execute("create unique index on top_search_keywords (search_query)")
    result = run(url, instance, "refresh_analytics_hourly")
    assert result.success
    assert made(result) == {"account_function_usage", "daily_user_behavior_summary", "top_search_keywords"}
    assert failed_checks(result) == set()


def test_the_nightly_comparison_repairs_and_warns(url: str, instance: dg.DagsterInstance) -> None:
    assert run(url, instance, "reconcile_statistics").success
    with connect(url) as conn:
        conn.execute("update lifecycle.function_usage_totals set uses = uses + 1")
    result = run(url, instance, "reconcile_statistics")
    assert result.success
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    with connect(url) as conn:
        assert disagreements(conn) == {}
    (evaluation,) = run(url, instance, "reconcile_statistics").get_asset_check_evaluations()
    assert evaluation.passed
