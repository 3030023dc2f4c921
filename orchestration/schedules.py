"""The timetable, in the declared calendar; no two entries that share a pool start at the same minute.

A heavy job starts in no quiet hour: a daily start is put off to the end of them, an hourly one is skipped.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from types import MappingProxyType
from typing import Any, Final

import dagster as dg

from assets import cold
from lifecycle.archive.layout import archives_of
from lifecycle.declarations.application import Application
from lifecycle.declarations.operations import Operations
from lifecycle.pacing import quiet_now
from resources.postgres import ApplicationDatabase

LOOK_FOR_RETURNED: Final = {"ops": {"personal_data_erasures": {"config": {"look_for_returned": True}}}}


@dataclass(frozen=True)
class Start:
    """When a job starts by itself, and why then."""

    name: str
    job: str
    cron: str
    description: str
    run_config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


TIMETABLE: Final = (
    Start(
        "refresh_derived_statistics_hourly",
        "refresh_derived_statistics",
        "5 * * * *",
        "Dashboards are at most an hour behind; costs what changed.",
    ),
    Start(
        "reconcile_statistics_daily",
        "reconcile_statistics",
        "45 2 * * *",
        "A figure that differs from its definition is found within a day.",
    ),
    Start(
        "refresh_analytics_hourly_schedule",
        "refresh_analytics_hourly",
        "20 * * * *",
        "A view whose sources did not change is left alone.",
    ),
    Start(
        "refresh_account_segments_hourly",
        "refresh_account_segments",
        "40 * * * *",
        "Recommendations follow what people did within the hour; costs what changed.",
    ),
    Start(
        "apply_consents_hourly",
        "apply_consents",
        "55 * * * *",
        "A withdrawal is carried out within the hour; costs a look at those who ever decided.",
    ),
    Start(
        "rotate_event_partitions_monthly",
        "rotate_event_partitions",
        "30 0 1 * *",
        "A month's partition is made months early and dropped when retention ends.",
    ),
    Start(
        "rotate_event_partitions_daily",
        "rotate_event_partitions",
        "30 1 * * *",
        "Catches up on whatever a failed or missed rotation left; changes nothing otherwise.",
    ),
    Start(
        "move_cold_months_daily",
        "move_cold_months",
        "50 3 * * *",
        "A month that became old enough leaves the database in a run of its own; changed rows go back into files.",
    ),
    Start(
        "run_daily_maintenance_daily",
        "run_daily_maintenance",
        "10 3 * * *",
        "What the application's owners want to have run once a day.",
    ),
    Start(
        "record_storage_daily",
        "record_storage",
        "20 4 * * *",
        "Growth needs a measurement per day; a deletion that falls due is heard of within a day.",
    ),
    Start(
        "prune_dagster_storage_daily",
        "prune_dagster_storage",
        "30 4 * * *",
        "Dagster deletes no run by itself; its storage stops growing once the first run is too old.",
    ),
    Start(
        "build_hot_query_indexes_daily",
        "build_hot_query_indexes",
        "35 4 * * *",
        "Builds nothing on most days; the planner may leave an index any day that statistics change.",
    ),
    Start(
        "erase_personal_data_daily",
        "erase_personal_data",
        "10 5 * * *",
        "Finds what late beacons, old tokens or a restore brought back. New requests do not wait for it.",
        LOOK_FOR_RETURNED,
    ),
    Start(
        "compare_access_daily",
        "compare_access",
        "40 5 * * *",
        "A table that somebody opened, a policy that somebody loosened: known within a day.",
    ),
    Start(
        "check_declarations_daily",
        "check_declarations",
        "50 5 * * *",
        "A migration of the application that the declarations do not know yet: known within a day.",
    ),
    Start(
        "weekly_job_review_monday",
        "weekly_job_review",
        "0 9 * * 1",
        "The week that ended last midnight, when people start theirs.",
    ),
)


def declared_starts(application: Application) -> tuple[Start, ...]:
    """Every night: what became too old since yesterday. A backlog of an archive goes in portions."""
    archives = (
        Start(f"{archive.job}_daily", archive.job, "40 3 * * *", f"The rows of {archive.source} that became too old.")
        for archive in archives_of(application.archived_tables)
    )
    expiries = (
        Start(f"{job}_daily", job, "55 3 * * *", "What nobody needs or has to account for any more.")
        for job in application.expiring_rows
    )
    return (*archives, *expiries)


# Jobs of which a tick asks for several runs, by what is to be done.
SEVERAL_RUNS: Final[Mapping[str, Callable[[Application, ApplicationDatabase], Sequence[dg.RunRequest]]]] = {
    cold.JOB: cold.runs_by_month,
}


def build_schedules(jobs: Collection[str], application: Application) -> list[dg.ScheduleDefinition]:
    """The schedules of the jobs that exist, by the declared calendar."""
    return [_schedule(start, application) for start in (*TIMETABLE, *declared_starts(application)) if start.job in jobs]


def _schedule(start: Start, application: Application) -> dg.ScheduleDefinition:
    heavy = start.job in application.operations.heavy_jobs
    at = put_off(start, application.operations) if heavy else start
    config = dict(start.run_config)
    several = SEVERAL_RUNS.get(start.job)

    def each_its_run(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        if several is not None:
            yield from several(application, context.resources.database)

    def unless_quiet(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if quiet_now(application, datetime.now(UTC)):
            hours = ", ".join(application.operations.quiet_hours)
            return dg.SkipReason(f"{start.job} is heavy and starts in no quiet hour ({hours}, operations.yaml)")
        return dg.RunRequest(run_config=config)

    how: dict[str, Any] = {"execution_fn": unless_quiet} if heavy else {"run_config": config}
    if several:
        how = {"execution_fn": each_its_run, "required_resource_keys": {"database"}}
    return dg.ScheduleDefinition(
        name=at.name,
        job_name=at.job,
        cron_schedule=at.cron,
        execution_timezone=application.database.calendar,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=at.description,
        **how,
    )


def put_off(start: Start, operations: Operations) -> Start:
    """A start at a fixed hour, put off by as many hours as its minute stays in quiet ones; else as it is."""
    minute, hour, *days = start.cron.split()
    if not hour.isdecimal():
        return start
    later = ((int(hour) + hours) % 24 for hours in range(24))
    free = next((each for each in later if not operations.is_quiet(time(each, int(minute)))), int(hour))
    return replace(start, cron=" ".join([minute, str(free), *days]))
