"""Everything assembled, and every environment variable that a run may need.

Loading opens no connection and needs no secret: a variable is read when a run starts.
"""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.application import application_assets
from assets.checks import PARTITION_CHECKS
from assets.partitions import PARTITION_ASSETS
from assets.weekly_review import REVIEW_ASSETS, REVIEW_CHECKS
from orchestration.jobs import (
    convert_event_tables,
    record_storage,
    rotate_event_partitions,
    run_daily_maintenance,
    weekly_job_review,
)
from orchestration.schedules import SCHEDULES
from resources.postgres import ApplicationDatabase
from resources.timetable import Timetable
from resources.variables import URL_VARIABLE
from sensors.run_outcomes import run_outcomes


def environment_variable(name: str) -> str:
    """The variable as an EnvVar, which keeps its value out of the UI; "" where it is not set.

    Dagster's own error about a missing variable shows no example, so the resource tells the reader instead.
    """
    return dg.EnvVar(name) if os.environ.get(name) else ""


def build_definitions(
    *, loggers: Mapping[str, dg.LoggerDefinition] | None = None, **resource_overrides: Any
) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors; tests and the demo override resources by name."""
    resources = {
        "database": ApplicationDatabase(url=environment_variable(URL_VARIABLE)),
        "timetable": Timetable(jobs=sorted({schedule.job_name for schedule in SCHEDULES})),
    } | resource_overrides
    return dg.Definitions(
        assets=[*application_assets(), *PARTITION_ASSETS, *REVIEW_ASSETS],
        asset_checks=[*PARTITION_CHECKS, *REVIEW_CHECKS],
        jobs=[
            convert_event_tables,
            rotate_event_partitions,
            run_daily_maintenance,
            record_storage,
            weekly_job_review,
        ],
        schedules=SCHEDULES,
        sensors=[run_outcomes],
        resources=resources,
        executor=dg.in_process_executor,
        loggers=loggers,
    )


defs = build_definitions()
