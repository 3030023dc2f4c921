"""The timetable, in the declared calendar; no two entries that share a pool start at the same minute."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import dagster as dg

from lifecycle.archive.layout import archives_of
from lifecycle.declarations.application import Application

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


def build_schedules(jobs: Collection[str], application: Application) -> list[dg.ScheduleDefinition]:
    """The schedules of the jobs that exist, by the declared calendar."""
    return [
        dg.ScheduleDefinition(
            name=start.name,
            job_name=start.job,
            cron_schedule=start.cron,
            execution_timezone=application.database.calendar,
            run_config=dict(start.run_config),
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=start.description,
        )
        for start in (*TIMETABLE, *declared_starts(application))
        if start.job in jobs
    ]
