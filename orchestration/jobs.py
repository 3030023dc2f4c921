"""The jobs, each started by the timetable, from the UI or with `dg launch --job NAME`.

A job exists where the declarations ask for something that it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg

from assets.archive import archive_key
from assets.bundle import Bundle
from lifecycle.archive.layout import archives_of
from lifecycle.declarations.application import Application
from orchestration.conversion import conversion_job
from orchestration.executor import living_in_process_executor
from orchestration.limits import limits
from orchestration.maintenance import maintenance_job

# Dagster keeps the type of a job over assets to itself until the assets are known.
Job = dg.JobDefinition | Any


@dataclass(frozen=True)
class AssetJob:
    """A job that makes assets of a capability (`only` one, where it is named), then evaluates its checks."""

    name: str
    capability: str
    description: str
    only: str = ""


# Each of their jobs looks at its own asset only.
ONE_JOB_A_DECLARATION: Final = ("archive", "expiry")
ASSET_JOBS: Final = (
    AssetJob(
        "rotate_event_partitions",
        "partitions",
        "Make the months ahead, drop those past retention, empty the default partition; then check.",
    ),
    AssetJob(
        "move_cold_months",
        "cold",
        "Move months past `cold_after` into files, put changed rows back, remove what is past retention; then check.",
    ),
    AssetJob(
        "refresh_analytics_hourly",
        "views",
        "Refresh the materialized views, each on its own; then check their age.",
    ),
    AssetJob(
        "refresh_derived_statistics",
        "statistics",
        "Bring every kept view up to its own definition, by what changed; then check their age.",
    ),
    AssetJob(
        "reconcile_statistics",
        "comparison",
        "Compare every kept view with its own definition, and repair what differs.",
    ),
    AssetJob(
        "refresh_account_segments",
        "segments",
        "Compute the segments of accounts whose tastes, interactions or consent changed; then check.",
    ),
    AssetJob(
        "erase_personal_data",
        "erasures",
        "Erase the most urgent batch of people who asked for it, search for what is left, write receipts; then check.",
    ),
    AssetJob(
        "apply_consents",
        "consent",
        "Carry out what people consented to or took back, by purpose; then count the rows that stand against it.",
    ),
    AssetJob(
        "compare_access",
        "access",
        "Read who may see what and compare it with what is declared and accepted. Changes nothing.",
    ),
    AssetJob(
        "build_hot_query_indexes",
        "indexes",
        "Build the indexes of hot queries that are missing or invalid, without stopping writers; then check all.",
    ),
    AssetJob(
        "check_declarations",
        "checking",
        "Compare the declarations with the database, as `lifecycle check` does. Changes nothing.",
    ),
    AssetJob(
        "prune_dagster_storage",
        "dagster_storage",
        "Delete runs from Dagster's own storage that ended longer ago than declared; the newest of everything stays.",
    ),
    AssetJob(
        "record_storage",
        "review",
        "Keep the size of every table for the review's growth; look daily at deletions due and the outbox.",
        only="storage_history",
    ),
    AssetJob(
        "weekly_job_review",
        "review",
        "The week of the jobs: outcomes, durations, deletions due, storage growth; to Slack once a week.",
        only="weekly_job_review",
    ),
)


def declared_jobs(application: Application) -> tuple[AssetJob, ...]:
    """The jobs that the declarations name: one for each archive, one for each entry of expiry.yaml."""
    archives = (
        AssetJob(
            archive.job,
            "archive",
            f"Move rows of {archive.source} past their time to {archive.declared.archive}; then check.",
            only=archive_key(archive).path[-1],
        )
        for archive in archives_of(application.archived_tables)
    )
    expiries = (
        AssetJob(
            job,
            "expiry",
            f"Delete rows older than {declared.keep} of {', '.join(map(str, declared.tables))}, in batches.",
            only=job,
        )
        for job, declared in application.expiring_rows.items()
    )
    return (*archives, *expiries)


def _asset_job(row: AssetJob, bundle: Bundle) -> Job:
    chosen = [asset for asset in bundle.assets if not row.only or any(key.path[-1] == row.only for key in asset.keys)]
    made = {key for asset in chosen for key in asset.keys}
    checks = [
        check
        for check in bundle.checks
        if row.capability not in ONE_JOB_A_DECLARATION or made & {key.asset_key for key in check.check_keys}
    ]
    return dg.define_asset_job(
        row.name,
        selection=dg.AssetSelection.assets(*chosen) | dg.AssetSelection.checks(*checks),
        description=row.description,
        executor_def=living_in_process_executor,
        tags=limits(row.name),
    )


def build_jobs(application: Application, bundles: Mapping[str, Bundle]) -> list[Job]:
    """The jobs of what is declared."""
    jobs: list[Job] = [conversion_job(application)] if application.event_tables else []
    asset_jobs = (*ASSET_JOBS, *declared_jobs(application))
    jobs += [_asset_job(row, bundles[row.capability]) for row in asset_jobs if row.capability in bundles]
    if application.database.maintenance:
        jobs.append(maintenance_job(application.database.maintenance))
    return jobs
