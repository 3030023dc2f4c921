"""Erasing people who asked for it: one batch of deletion requests per run, with its proof.

What is told here are counts, names of tables and columns, and ids of requests: never an account or a value.
"""

from datetime import timedelta
from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.application import application_key
from assets.bundle import Bundle
from assets.erasure_checks import erasure_checks
from assets.progress import log_progress
from assets.stored_once import stored_once
from assets.tables import table_metadata
from lifecycle.cold.storage import ColdStorage
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.erasures.data_map import mapped_tables
from lifecycle.erasures.proof import ReturnedData, find_returned, newest_receipt_hash
from lifecycle.erasures.queue import QueueStatus, enqueue, queue_status
from lifecycle.erasures.run import BatchResult, Residue, erase_batch
from lifecycle.erasures.status import OpenRequests, open_requests
from lifecycle.pacing import pacing_of
from resources.cold_storage import ColdMonths
from resources.postgres import ApplicationDatabase, retried_when_busy

KEY: Final = dg.AssetKey(["personal_data_erasures"])
JOB: Final = "erase_personal_data"
GROUP: Final = "erasure"
OWNERS: Final = ["team:data-platform"]
CODE_VERSION: Final = "1"
# A run a day looks for what came back, whether or not anybody asked to be erased.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))

FINDING_COLUMNS: Final = {
    "column": ("string", "table and column in which something was found"),
    "rows": ("int", "rows that hold it"),
    "reason": ("string", "why it stays, or what is to be done"),
}
ROW_COLUMNS: Final = {
    "table": ("string", "table of the map of personal data"),
    "action": ("string", "what was done: delete, scrub, detach"),
    "rows": ("int", "rows that were deleted or changed"),
}
FAILURE_COLUMNS: Final = {
    "request": ("string", "id of the deletion request"),
    "attempts": ("int", "how often it was tried"),
    "error": ("string", "table and column, never a value"),
}
SEARCH_COLUMNS: Final = {
    "relations": ("int", "tables and materialized views that were searched"),
    "columns": ("int", "columns of them"),
    "rows": ("int", "rows that were read"),
    "seconds": ("float", "how long it took"),
}
UNPACKED_COLUMNS: Final = {
    "columns": ("int", "columns of compressed text"),
    "values": ("int", "texts that were unpacked and searched"),
    "bytes": ("int", "their length once unpacked"),
    "unreadable": ("int", "texts that could not be unpacked"),
    "seconds": ("float", "how long it took"),
}
COLD_COLUMNS: Final = {
    "files": ("int", "files of cold months that were searched"),
    "rows": ("int", "rows that were taken out of them to be changed"),
    "rewritten": ("int", "files that were written anew without those"),
    "removed": ("int", "objects that were removed from the store, and seen to be gone"),
    "seconds": ("float", "how long it took"),
}
STEP_COLUMNS: Final = {"step": ("string", "step of the batch"), "seconds": ("float", "how long it took")}
RECEIPT_COLUMNS: Final = {
    "receipt": ("int", "number of the receipt in the chain"),
    "request": ("string", "id of the deletion request"),
    "seconds_from_request": ("float", "from the request to its receipt"),
    "sign_in_user": ("string", "what became of the sign-in user"),
}
RETURNED_COLUMNS: Final = {
    "request": ("string", "id of the request that was carried out before"),
    "table": ("string", "where something of the person is again"),
    "rows": ("int", "rows that came back"),
}


class ErasureConfig(dg.Config):
    """What a run does before its batch."""

    look_for_returned: bool = Field(
        default=False, description="look for data of erased people that came back, and queue their requests again"
    )


def _findings(findings: tuple[Residue, ...]) -> dg.TableMetadataValue:
    return table_metadata(FINDING_COLUMNS, [(found.column, found.rows, found.reason) for found in findings])


def _cold(batch: BatchResult) -> tuple[int, int, int, int, float]:
    cold = batch.cold
    return (cold.files, cold.rows, cold.rewritten, cold.removed, cold.milliseconds / 1000)


def batch_metadata(batch: BatchResult) -> dict[str, Any]:
    """What a batch did and how it was proved."""
    waits = sorted(proof.seconds for proof in batch.proofs)
    search = (batch.searched_relations, batch.searched_columns, batch.searched_rows, batch.search_milliseconds / 1000)
    unpacked = batch.compressed
    return {
        "requests": batch.requests,
        "verified": batch.verified,
        "failed": len(batch.failed),
        "taken_over": batch.taken_over,
        "rows_changed": sum(batch.rows.values()),
        "rows": table_metadata(
            ROW_COLUMNS,
            [(table, action, count) for (table, action), count in batch.rows.items()],
        ),
        "exemptions": _findings(batch.of_treatment("exempt")),
        "redacted": _findings(batch.of_treatment("redacted")),
        "residual": _findings(batch.of_treatment("residual")),
        "failures": table_metadata(
            FAILURE_COLUMNS,
            [(failed.request_id, failed.attempts, failed.error) for failed in batch.failed],
        ),
        "search": table_metadata(
            SEARCH_COLUMNS,
            [search],
        ),
        "unpacked": table_metadata(
            UNPACKED_COLUMNS,
            [
                (
                    unpacked.columns,
                    unpacked.values,
                    unpacked.bytes,
                    unpacked.unreadable,
                    unpacked.milliseconds / 1000,
                )
            ],
        ),
        **({"cold": table_metadata(COLD_COLUMNS, [_cold(batch)])} if batch.cold.files else {}),
        "steps": table_metadata(STEP_COLUMNS, [(step, round(spent, 3)) for step, spent in batch.seconds.items()]),
        "receipts": table_metadata(
            RECEIPT_COLUMNS,
            [(proof.receipt, proof.request_id, round(proof.seconds, 1), proof.sign_in_user) for proof in batch.proofs],
        ),
        **({"longest_wait_seconds": round(waits[-1], 1)} if waits else {}),
    }


def queue_metadata(status: QueueStatus, requests: tuple[OpenRequests, ...]) -> dict[str, Any]:
    """How the queue stands after the run."""
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from assets.erasure_chart import erasures_chart_markdown

    return {
        "picture": dg.MetadataValue.md(erasures_chart_markdown(requests)),
        "dagster/row_count": status.states.get("verified", 0),
        "waiting": status.waiting,
        "held": status.held,
    }


def returned_metadata(returned: tuple[ReturnedData, ...]) -> dict[str, Any]:
    """What came back, and will be erased again."""
    return {
        "returned_rows": sum(found.rows for found in returned),
        "returned": table_metadata(
            RETURNED_COLUMNS, [(found.request_id, found.table, found.rows) for found in returned]
        ),
    }


def erase_and_describe(
    context: dg.AssetExecutionContext,
    conn: Connection,
    application: Application,
    storage: ColdStorage | None,
    look_for_returned: bool,
) -> dg.MaterializeResult[None]:
    """Enqueue, erase one batch, describe it; errors as in `erase_batch`."""
    metadata = returned_metadata(find_returned(conn)) if look_for_returned else {}
    enqueue(conn)
    batch = erase_batch(conn, storage=storage, pacing=pacing_of(application, JOB), progress=log_progress(context))
    if batch is not None:
        metadata |= batch_metadata(batch)
        for failed in batch.failed:
            context.log.warning(f"request {failed.request_id} failed, attempt {failed.attempts}: {failed.error}")
    standing = queue_metadata(queue_status(conn, application), open_requests(conn))
    return dg.MaterializeResult(metadata=standing | metadata | {"newest_receipt_hash": newest_receipt_hash(conn)})


def bundle(application: Application) -> Bundle:
    """The erasures with their checks; nothing when no personal data is declared."""
    if application.personal_data is None:
        return Bundle()
    asked = application.personal_data.requests.table
    changed = dict.fromkeys(table.name for table in mapped_tables(application) if table.steps)
    known = {relation.name for relation in application.relations}

    @dg.asset(
        key=KEY,
        deps=[application_key(name) for name in changed if name in known],
        group_name=GROUP,
        description=(
            f"People who asked to be erased. A run claims the most urgent batch of `{asked}`, takes the people out of "
            "every table of the map of personal data, searches all columns for what is left, and writes a receipt per "
            "request. A request that fails is tried again by itself."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        metadata={"dagster/table_name": "lifecycle.erasure_receipts"},
        freshness_policy=FRESHNESS,
        code_version=CODE_VERSION,
    )
    def personal_data_erasures(
        context: dg.AssetExecutionContext,
        config: ErasureConfig,
        database: ApplicationDatabase,
        cold_storage: ColdMonths,
    ) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            made = erase_and_describe(context, conn, application, cold_storage.open(), config.look_for_returned)
            return stored_once(context, made)

    return Bundle(assets=[personal_data_erasures], checks=[erasure_checks(KEY)])
