"""The real definitions under a timetable that a test can wait for: one real job, started every minute."""

import dagster as dg

from orchestration.definitions import build_definitions

JOB = "record_storage"
SCHEDULE = "every_minute"


def every_minute() -> dg.Definitions:
    """Everything of `build_definitions()` but its schedules."""
    real = build_definitions()
    return dg.Definitions(
        assets=real.assets,
        asset_checks=real.asset_checks,
        jobs=real.jobs,
        sensors=real.sensors,
        resources=real.resources,
        executor=real.executor,
        schedules=[
            dg.ScheduleDefinition(
                name=SCHEDULE,
                job_name=JOB,
                cron_schedule="* * * * *",
                execution_timezone="Asia/Tokyo",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
    )


defs = every_minute()
