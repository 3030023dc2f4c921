"""Rows past their time, deleted every night."""

from datetime import timedelta
from typing import Final

import dagster as dg

from assets.application import application_key
from assets.bundle import Bundle
from lifecycle.declarations.application import Application
from lifecycle.declarations.expiry import ExpiringRows
from lifecycle.expiry.delete import delete_expired
from lifecycle.pacing import pacing_of
from resources.postgres import ApplicationDatabase, retried_when_busy

POOL: Final = "chat_archive"
GROUP: Final = "retention"
OWNERS: Final = ["team:data-platform"]
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


def expiry_key(job: str) -> dg.AssetKey:
    """The asset of a job."""
    return dg.AssetKey(["expiry", job])


def expiry_asset(application: Application, job: str, declared: ExpiringRows) -> dg.AssetsDefinition:
    """The asset of one job: what it leaves behind."""
    tables = ", ".join(f"`{name}`" for name in declared.tables)

    @dg.asset(
        key=expiry_key(job),
        deps=[application_key(name) for name in declared.tables],
        group_name=GROUP,
        description=(
            f"Rows of {tables} older than {declared.keep}: deleted, at most {declared.batch:,} of a table in one "
            f"transaction. A row goes once all of its declared moments are past, and nothing holds it. {declared.why}"
        ),
        kinds={"postgres"},
        owners=OWNERS,
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version="2",
    )
    def expired(context: dg.AssetExecutionContext, database: ApplicationDatabase) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            run = delete_expired(
                conn,
                job,
                pacing=pacing_of(application, job),
                progress=lambda message, _: context.log.info(message),
            )
        return dg.MaterializeResult(
            metadata={"batches": run.batches, **{f"{name}_deleted": count for name, count in run.deleted.items()}}
        )

    return expired


def bundle(application: Application) -> Bundle:
    """An asset for each declared job."""
    return Bundle(
        assets=[expiry_asset(application, job, declared) for job, declared in application.expiring_rows.items()]
    )
