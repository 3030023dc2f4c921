"""Everything assembled, and every environment variable that a run may need.

Loading opens no connection and needs no secret: a variable is read when a run starts.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

import dagster as dg

from assets.access import ACCESS_ASSETS, ACCESS_CHECKS
from assets.application import application_assets
from assets.archive import CHAT_ARCHIVE_ASSETS, CHAT_ARCHIVE_CHECKS
from assets.erasure_checks import ERASURE_CHECKS
from assets.erasures import ERASURE_ASSETS
from assets.expiry import VOUCHER_ASSETS
from assets.indexes import INDEX_ASSETS, INDEX_CHECKS
from assets.partition_checks import PARTITION_CHECKS
from assets.partitions import PARTITION_ASSETS
from assets.review import REVIEW_ASSETS, REVIEW_CHECKS
from assets.segments import SEGMENT_ASSETS, SEGMENT_CHECKS
from assets.statistics import STATISTICS_ASSETS
from assets.statistics_checks import RECONCILIATION_CHECKS, STATISTICS_CHECKS, VIEW_CHECKS
from assets.views import VIEW_ASSETS
from orchestration.executor import living_in_process_executor
from orchestration.jobs import JOBS
from orchestration.schedules import SCHEDULES
from resources.dataframes import DataFrames
from resources.postgres import ApplicationDatabase
from resources.slack import BASE_URL, UI_URL, Slack
from resources.timetable import Timetable
from resources.variables import (
    BASE_URL_VARIABLE,
    CHANNEL_VARIABLE,
    TOKEN_VARIABLE,
    UI_URL_VARIABLE,
    URL_VARIABLE,
)
from sensors.database_outages import database_outages
from sensors.dead_runs import dead_runs
from sensors.deletion_requests import deletion_requests
from sensors.freshness import freshness
from sensors.notifications import notifications
from sensors.run_outcomes import run_outcomes

ASSETS: Final = [
    *PARTITION_ASSETS,
    *VIEW_ASSETS,
    *STATISTICS_ASSETS,
    *SEGMENT_ASSETS,
    *CHAT_ARCHIVE_ASSETS,
    *VOUCHER_ASSETS,
    *ERASURE_ASSETS,
    *ACCESS_ASSETS,
    *INDEX_ASSETS,
    *REVIEW_ASSETS,
]
CHECKS: Final = [
    *PARTITION_CHECKS,
    *VIEW_CHECKS,
    *STATISTICS_CHECKS,
    *RECONCILIATION_CHECKS,
    *SEGMENT_CHECKS,
    *CHAT_ARCHIVE_CHECKS,
    *ERASURE_CHECKS,
    *ACCESS_CHECKS,
    *INDEX_CHECKS,
    *REVIEW_CHECKS,
]


def environment_variable(name: str) -> str:
    """The variable as an EnvVar, which keeps its value out of the UI; "" where it is not set.

    Dagster's own error about a missing variable shows no example, so the resource tells the reader instead.
    """
    return dg.EnvVar(name) if os.environ.get(name) else ""


def build_definitions(
    *, loggers: Mapping[str, dg.LoggerDefinition] | None = None, **resource_overrides: Any
) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors; tests and the demo override resources by name."""
    url = environment_variable(URL_VARIABLE)
    resources = {
        "database": ApplicationDatabase(url=url),
        "dataframes": DataFrames(url=url),
        "timetable": Timetable(jobs=sorted({schedule.job_name for schedule in SCHEDULES})),
        "slack": Slack(
            token=environment_variable(TOKEN_VARIABLE),
            channel=environment_variable(CHANNEL_VARIABLE),
            base_url=environment_variable(BASE_URL_VARIABLE) or BASE_URL,
            ui_url=environment_variable(UI_URL_VARIABLE) or UI_URL,
        ),
    } | resource_overrides
    made_here = {key for assets in ASSETS for key in assets.keys}
    return dg.Definitions(
        assets=[*application_assets(made_here), *ASSETS],
        asset_checks=CHECKS,
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=[run_outcomes, freshness, notifications, deletion_requests, dead_runs, database_outages],
        resources=resources,
        executor=living_in_process_executor,
        loggers=loggers,
    )


defs = build_definitions()
