"""The timetable. Times are Asia/Tokyo; no two entries that share a pool start at the same minute.

| when                    | what                                                                       |
|-------------------------|----------------------------------------------------------------------------|
| every hour, :05         | roll up what changed, bring the dashboards' tables up to date              |
| every hour, :20         | refresh account_function_usage and the materialized views                  |
| every hour, :40         | segments of accounts that changed                                          |
| 1st of the month, 00:30 | rotate the event partitions: the month ahead exists before anyone needs it |
| every day, 01:30        | the same, so that a missed month never matters                             |
| every day, 02:45        | compare the statistics with the application's tables                       |
| every day, 03:10        | the application's daily maintenance                                        |
| every day, 03:40        | chat messages past retention move to the archive                           |
| every day, 03:55        | vouchers past retention                                                    |
| every day, 04:20        | the size of every table; deletions due and the outbox are looked at        |
| every day, 04:35        | indexes of hot queries: build what is missing, see that they are used      |
| every day, 05:10        | look for erased people whose data came back, erase what waits              |
| every day, 05:40         | compare who may see what with what is declared                             |
| Monday, 09:00           | the weekly review                                                          |
"""

from datetime import UTC
from typing import Final

import dagster as dg

from assets.statistics import DAYS, Recompute
from orchestration.jobs import (
    archive_chat_messages,
    build_hot_query_indexes,
    compare_access,
    delete_expired_vouchers,
    erase_personal_data,
    reconcile_statistics,
    record_storage,
    refresh_account_segments,
    refresh_analytics_hourly,
    refresh_derived_statistics,
    rotate_event_partitions,
    run_daily_maintenance,
    weekly_job_review,
)

TIMEZONE: Final = "Asia/Tokyo"
RUNNING: Final = dg.DefaultScheduleStatus.RUNNING

ROLL_UP_CHANGES: Final = {"ops": {"roll_ups": {"config": {"recompute": Recompute.changes.value}}}}
LOOK_FOR_RETURNED: Final = {"ops": {"personal_data_erasures": {"config": {"look_for_returned": True}}}}


@dg.schedule(
    job=refresh_derived_statistics,
    cron_schedule="5 * * * *",
    execution_timezone=TIMEZONE,
    default_status=RUNNING,
    description="What came, changed or went since the last run, however old it is.",
)
def refresh_derived_statistics_hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """A run for today's partition; the changes of earlier days are rolled up with it."""
    today = context.scheduled_execution_time.astimezone(UTC)
    return dg.RunRequest(partition_key=today.strftime(DAYS.fmt), run_config=ROLL_UP_CHANGES)


SCHEDULES: Final = [
    refresh_derived_statistics_hourly,
    dg.ScheduleDefinition(
        name="refresh_analytics_hourly_schedule",
        job=refresh_analytics_hourly,
        cron_schedule="20 * * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="A view whose sources did not change is left alone.",
    ),
    dg.ScheduleDefinition(
        name="reconcile_statistics_daily",
        job=reconcile_statistics,
        cron_schedule="45 2 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="Finds what no trigger sees, and repairs it.",
    ),
    dg.ScheduleDefinition(
        name="rotate_event_partitions_monthly",
        job=rotate_event_partitions,
        cron_schedule="30 0 1 * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="A month's partition is made three months early and dropped when retention ends.",
    ),
    dg.ScheduleDefinition(
        name="rotate_event_partitions_daily",
        job=rotate_event_partitions,
        cron_schedule="30 1 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="Catches up on whatever a failed or missed rotation left; changes nothing otherwise.",
    ),
    dg.ScheduleDefinition(
        name="run_daily_maintenance_daily",
        job=run_daily_maintenance,
        cron_schedule="10 3 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="Renews the planner's statistics; cleans event tables that are not partitioned yet.",
    ),
    dg.ScheduleDefinition(
        name="refresh_account_segments_hourly",
        job=refresh_account_segments,
        cron_schedule="40 * * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="Recommendations follow what people did within the hour; costs what changed.",
    ),
    dg.ScheduleDefinition(
        name="archive_chat_messages_daily",
        job=archive_chat_messages,
        cron_schedule="40 3 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="The messages that became too old since yesterday; a backlog goes in portions.",
    ),
    dg.ScheduleDefinition(
        name="delete_expired_vouchers_daily",
        job=delete_expired_vouchers,
        cron_schedule="55 3 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="What nobody can redeem or account for any more.",
    ),
    dg.ScheduleDefinition(
        name="record_storage_daily",
        job=record_storage,
        cron_schedule="20 4 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="Growth needs a measurement per day; a deletion that falls due is heard of within a day.",
    ),
    dg.ScheduleDefinition(
        name="build_hot_query_indexes_daily",
        job=build_hot_query_indexes,
        cron_schedule="35 4 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="Builds nothing on most days; the planner may leave an index any day that statistics change.",
    ),
    dg.ScheduleDefinition(
        name="erase_personal_data_daily",
        job=erase_personal_data,
        cron_schedule="10 5 * * *",
        execution_timezone=TIMEZONE,
        run_config=LOOK_FOR_RETURNED,
        default_status=RUNNING,
        description="Finds what late beacons, old tokens or a restore brought back. New requests do not wait for it.",
    ),
    dg.ScheduleDefinition(
        name="compare_access_daily",
        job=compare_access,
        cron_schedule="40 5 * * *",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="A table that somebody opened, a policy that somebody loosened: known within a day.",
    ),
    dg.ScheduleDefinition(
        name="weekly_job_review_monday",
        job=weekly_job_review,
        cron_schedule="0 9 * * 1",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="The week that ended last midnight, when people start theirs.",
    ),
]
