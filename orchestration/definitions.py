"""Everything assembled, and every environment variable that a run may need.

Loading opens no connection and needs no secret: a variable is read when a run starts.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import dagster as dg

from assets import (
    access,
    archive,
    checking,
    cold,
    consent,
    dagster_storage,
    erasures,
    expiry,
    indexes,
    partitions,
    review,
    segments,
    statistics,
    views,
)
from assets.application import application_assets
from assets.bundle import Bundle
from assets.dashboards import dashboard_assets
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.language import set_language
from orchestration.executor import living_in_process_executor
from orchestration.heavy import require_known
from orchestration.jobs import build_jobs
from orchestration.schedules import build_schedules
from resources.closed import closed
from resources.cold_storage import ColdMonths
from resources.dataframes import DataFrames
from resources.postgres import ApplicationDatabase
from resources.slack import BASE_URL, UI_URL, Slack
from resources.timetable import Timetable
from resources.variables import (
    ACCESS_KEY_VARIABLE,
    APPLICATION_VARIABLE,
    BASE_URL_VARIABLE,
    CHANNEL_VARIABLE,
    COLD_URL_VARIABLE,
    ENDPOINT_VARIABLES,
    LANGUAGE_VARIABLE,
    REGION_VARIABLE,
    SECRET_KEY_VARIABLE,
    SESSION_TOKEN_VARIABLE,
    TOKEN_VARIABLE,
    UI_URL_VARIABLE,
    URL_VARIABLE,
    WATCHDOG_VARIABLE,
    WEBHOOK_VARIABLE,
)
from resources.watchdog import Watchdog
from sensors.database_outages import database_outages
from sensors.dead_runs import dead_runs
from sensors.deletion_requests import deletion_requests_sensor
from sensors.freshness import freshness
from sensors.notifications import notifications
from sensors.run_outcomes import run_outcomes
from sensors.watchdog import watchdog

# What each capability shows, by the name of its folder in lifecycle/.
BUNDLES: Final[Mapping[str, Callable[[Application], Bundle]]] = {
    "partitions": partitions.bundle,
    "cold": cold.bundle,
    "erasures": erasures.bundle,
    "consent": consent.bundle,
    "archive": archive.bundle,
    "expiry": expiry.bundle,
    "indexes": indexes.bundle,
    "access": access.bundle,
    "views": views.bundle,
    "statistics": statistics.bundle,
    "comparison": statistics.comparison_bundle,
    "segments": segments.bundle,
    "review": review.bundle,
    "checking": checking.bundle,
    "dagster_storage": dagster_storage.bundle,
}


def environment_variable(name: str) -> str:
    """The variable as an EnvVar, which keeps its value out of the UI; "" where it is not set.

    Dagster's own error about a missing variable shows no example, so the resource tells the reader instead.
    """
    return dg.EnvVar(name) if os.environ.get(name) else ""


def declared_application() -> Application:
    """The declarations of the folder that the environment names, else of this project's own."""
    return load_application(Path(os.environ.get(APPLICATION_VARIABLE) or DEFAULT_FOLDER))


def build_bundles(application: Application) -> dict[str, Bundle]:
    """What the declared capabilities show; one that is not declared is left out."""
    bundles = {name: make(application) for name, make in BUNDLES.items()}
    return {name: bundle for name, bundle in bundles.items() if bundle.assets or bundle.checks}


def build_definitions(
    application: Application | None = None,
    *,
    loggers: Mapping[str, dg.LoggerDefinition] | None = None,
    **resource_overrides: Any,
) -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors of what is declared; tests and the demo override resources by name.

    No run's configuration reaches a resource. Without `application` the declarations are those that the environment
    names.
    """
    set_language(os.environ.get(LANGUAGE_VARIABLE, ""))
    application = application or declared_application()
    bundles = build_bundles(application)
    jobs = build_jobs(application, bundles)
    require_known(application)
    schedules = build_schedules({job.name for job in jobs}, application)
    scheduled = {schedule.job_name for schedule in schedules}
    url = environment_variable(URL_VARIABLE)
    resources: dict[str, Any] = {
        "database": ApplicationDatabase(url=url),
        "dataframes": DataFrames(url=url),
        "cold_storage": ColdMonths(
            url=environment_variable(COLD_URL_VARIABLE),
            access_key=environment_variable(ACCESS_KEY_VARIABLE),
            secret_key=environment_variable(SECRET_KEY_VARIABLE),
            session_token=environment_variable(SESSION_TOKEN_VARIABLE),
            region=environment_variable(REGION_VARIABLE),
            endpoint=next(filter(None, map(environment_variable, ENDPOINT_VARIABLES)), ""),
        ),
        "timetable": Timetable(jobs=sorted(scheduled), by_hand=sorted({job.name for job in jobs} - scheduled)),
        "slack": Slack(
            token=environment_variable(TOKEN_VARIABLE),
            channel=environment_variable(CHANNEL_VARIABLE),
            webhook_url=environment_variable(WEBHOOK_VARIABLE),
            base_url=environment_variable(BASE_URL_VARIABLE) or BASE_URL,
            ui_url=environment_variable(UI_URL_VARIABLE) or UI_URL,
        ),
        "watchdog": Watchdog(url=environment_variable(WATCHDOG_VARIABLE)),
        "io_manager": dg.FilesystemIOManager(),
    } | resource_overrides
    assets = [asset for bundle in bundles.values() for asset in bundle.assets]
    made_here = {key for asset in assets for key in asset.keys}
    read_here = {key for asset in assets for key in asset.dependency_keys}
    return dg.Definitions(
        assets=[
            *application_assets(application, made_here, read_here),
            *assets,
            *dashboard_assets(application),
        ],
        asset_checks=[check for bundle in bundles.values() for check in bundle.checks],
        jobs=jobs,
        schedules=schedules,
        sensors=[
            run_outcomes,
            freshness,
            notifications,
            *([deletion_requests_sensor(application)] if "erasures" in bundles else []),
            dead_runs,
            database_outages,
            watchdog,
        ],
        resources={name: closed(resource) for name, resource in resources.items()},
        executor=living_in_process_executor,
        loggers=loggers,
    )


defs = build_definitions()
