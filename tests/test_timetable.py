"""The timetable: explicit, on by default, without two starts in one minute of a pool, and fast enough to stay fresh."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile

import dagster as dg
import pytest

from orchestration.definitions import build_definitions
from resources.dagster_private import TimeWindowFreshnessPolicy, schedule_execution_time_iterator
from tests.declared import APPLICATION

defs = build_definitions(APPLICATION)
SCHEDULES = [schedule for schedule in defs.schedules or () if isinstance(schedule, dg.ScheduleDefinition)]
TIMEZONE = APPLICATION.database.calendar
# A leap year, so that every date there can be has its turn.
FIRST, LAST = datetime(2028, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)


def starts(schedule: dg.ScheduleDefinition) -> list[datetime]:
    """Every start within the year, as Dagster's scheduler counts them."""
    ticks = schedule_execution_time_iterator(
        FIRST.timestamp(), schedule.cron_schedule, schedule.execution_timezone or "UTC", ascending=True
    )
    return [tick.astimezone(UTC) for tick in takewhile(lambda tick: tick < LAST, ticks)]


def pools(job_name: str) -> set[str]:
    """The pools of all steps of a job."""
    nodes = defs.resolve_job_def(job_name).all_node_defs
    return {node.pool for node in nodes if isinstance(node, dg.OpDefinition) and node.pool}


def longest_gap(schedules: list[dg.ScheduleDefinition]) -> timedelta:
    moments = sorted(moment for schedule in schedules for moment in starts(schedule))
    return max((later - earlier for earlier, later in pairwise(moments)), default=LAST - FIRST)


def collisions(schedules: list[dg.ScheduleDefinition]) -> list[tuple[str, datetime, list[str]]]:
    """Pool, minute and schedules of every minute in which more than one schedule starts on a pool."""
    taken: dict[tuple[str, datetime], list[str]] = defaultdict(list)
    for schedule in schedules:
        for pool in pools(schedule.job_name):
            for moment in starts(schedule):
                taken[pool, moment.replace(second=0, microsecond=0)].append(schedule.name)
    return [(pool, moment, names) for (pool, moment), names in sorted(taken.items()) if len(names) > 1]


def test_every_schedule_runs_by_default_in_tokyo() -> None:
    assert len({schedule.name for schedule in SCHEDULES}) == len(SCHEDULES)
    for schedule in SCHEDULES:
        assert schedule.execution_timezone == TIMEZONE == "Asia/Tokyo"
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.description, schedule.name


def test_every_sensor_runs_by_default() -> None:
    for sensor in defs.sensors or ():
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING, sensor.name


def test_no_two_schedules_start_in_the_same_minute_on_one_pool() -> None:
    assert {pool for schedule in SCHEDULES for pool in pools(schedule.job_name)} >= {"event_partitions", "operations"}
    assert collisions(list(SCHEDULES)) == []


def test_a_collision_once_a_year_is_found() -> None:
    (review,) = [schedule for schedule in SCHEDULES if schedule.name == "weekly_job_review_monday"]
    leap_day = dg.ScheduleDefinition(
        name="leap_day", job_name="record_storage", cron_schedule="20 4 29 2 *", execution_timezone=TIMEZONE
    )
    (found,) = collisions([*SCHEDULES, leap_day])
    assert (found[0], sorted(found[2])) == ("operations", ["leap_day", "record_storage_daily"])
    assert found[1] == datetime(2028, 2, 28, 19, 20, tzinfo=UTC)
    assert {moment.astimezone(UTC).strftime("%a %H:%M") for moment in starts(review)} == {"Mon 00:00"}


def asset_schedules() -> dict[dg.AssetKey, list[dg.ScheduleDefinition]]:
    """Which schedules make which asset."""
    made: dict[dg.AssetKey, list[dg.ScheduleDefinition]] = defaultdict(list)
    for schedule in SCHEDULES:
        for key in defs.resolve_job_def(schedule.job_name).asset_layer.executable_asset_keys:
            made[key].append(schedule)
    return made


# Sorted: the workers must agree on the order of the tests.
FRESH = sorted(
    (spec for spec in defs.resolve_all_asset_specs() if spec.freshness_policy is not None), key=lambda spec: spec.key
)


@pytest.mark.parametrize("spec", FRESH, ids=lambda spec: spec.key.to_user_string())
def test_a_fresh_asset_is_made_more_often_than_it_may_grow_old(spec: dg.AssetSpec) -> None:
    schedules = asset_schedules()[spec.key]
    assert schedules, f"{spec.key.to_user_string()} has a freshness policy and no schedule"
    policy = spec.freshness_policy
    assert isinstance(policy, TimeWindowFreshnessPolicy)
    allowed = policy.fail_window.to_timedelta()
    assert longest_gap(schedules) < allowed
    # A warning in a week in which everything went well would be ignored ever after.
    assert policy.warn_window is None or longest_gap(schedules) < policy.warn_window.to_timedelta()


def test_every_asset_that_is_made_has_a_freshness_policy() -> None:
    """Nothing that a schedule makes may stop without anyone hearing of it."""
    without = {key.to_user_string() for key in asset_schedules()} - {spec.key.to_user_string() for spec in FRESH}
    assert without == set()
