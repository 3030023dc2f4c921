"""The timetable. Times are Asia/Tokyo; no two entries that share a pool start within the same half hour.

| when                    | what                                                                       |
|-------------------------|----------------------------------------------------------------------------|
| 1st of the month, 00:30 | rotate the event partitions: the month ahead exists before anyone needs it |
| every day, 01:30        | the same, so that a missed month never matters                             |
| every day, 03:10        | the application's daily maintenance                                        |
| every day, 04:20        | the size of every table; deletions due and the outbox are looked at        |
| Monday, 09:00           | the weekly review                                                          |
"""

from typing import Final

import dagster as dg

from orchestration.jobs import record_storage, rotate_event_partitions, run_daily_maintenance, weekly_job_review

TIMEZONE: Final = "Asia/Tokyo"
RUNNING: Final = dg.DefaultScheduleStatus.RUNNING

SCHEDULES: Final = [
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
        description="Refreshes account_function_usage and renews the planner's statistics.",
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
        name="weekly_job_review_monday",
        job=weekly_job_review,
        cron_schedule="0 9 * * 1",
        execution_timezone=TIMEZONE,
        default_status=RUNNING,
        description="The week that ended last midnight, when people start theirs.",
    ),
]
