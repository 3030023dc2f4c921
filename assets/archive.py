"""The chat archive: messages past retention, their text compressed; moved every night."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg

from assets.application import application_key
from assets.partition_checks import Finding
from assets.progress import log_progress
from assets.units import size_text
from lifecycle.archive.access import AccessDifference, access_differences
from lifecycle.archive.archive import ArchiveRun, archive_messages
from lifecycle.archive.status import Sample, Sizes, overdue_messages, sample_archive, table_sizes
from lifecycle.database import Connection
from lifecycle.policy import CHAT_ARCHIVE
from resources.postgres import ApplicationDatabase, retried_when_busy

KEY: Final = application_key("chat_messages_archive")
POOL: Final = "chat_archive"
GROUP: Final = "chat_archive"
OWNERS: Final = ["team:data-platform"]
# Moved every night: a day and two hours late is worth a look, two days late breaks a promise.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
SPACE: Final = (
    "Moving gives no space back by itself. VACUUM (autovacuum runs it) lets chat_messages reuse the room for new "
    "messages; only VACUUM (FULL), which locks the table while it runs, returns it to the system."
)
COLUMNS: Final = dg.TableSchema(
    columns=[
        dg.TableColumn("id", "uuid", description="as in chat_messages"),
        dg.TableColumn("session_id", "uuid", description="the session; gone with it"),
        dg.TableColumn("role", "text", description="user, assistant or tool"),
        dg.TableColumn("tool_calls", "jsonb", description="as it was; statistics read it"),
        dg.TableColumn("latency_ms", "integer", description="as it was; statistics read it"),
        dg.TableColumn("created_at", "timestamptz", description="when the message was written"),
        dg.TableColumn("content_gzip", "bytea", description="the text in UTF-8, in gzip format"),
        dg.TableColumn("content_sha256", "bytea", description="SHA-256 of the text"),
        dg.TableColumn("archived_at", "timestamptz", description="when the message was moved"),
    ]
)


def archive_metadata(run: ArchiveRun, before: Sizes, after: Sizes, chart: str, seconds: float) -> dict[str, Any]:
    """What a run moved and what it is worth: counts and bytes, never a text."""
    ratio = run.text_bytes / run.gzip_bytes if run.gzip_bytes else 0.0
    return {
        "rows_moved": run.moved,
        "left_for_the_next_run": run.left,
        "remaining": run.remaining,
        "batches": run.batches,
        "busy_days": run.busy_days,
        "text_bytes": dg.MetadataValue.int(run.text_bytes),
        "gzip_bytes": dg.MetadataValue.int(run.gzip_bytes),
        "compression_ratio": round(ratio, 2),
        "chat_messages_size": f"{size_text(before.live)} before, {size_text(after.live)} after",
        "archive_size": f"{size_text(before.archive)} before, {size_text(after.archive)} after",
        "space": SPACE,
        "seconds": round(seconds, 3),
        "chart": dg.MetadataValue.md(chart),
    }


def archive_and_describe(
    context: dg.AssetExecutionContext, conn: Connection, claims: Connection
) -> dg.MaterializeResult[None]:
    """Archive what is due and describe both tables; errors as in `archive_messages`."""
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from assets.charts import chart_markdown

    started, before = time.perf_counter(), table_sizes(conn)
    run = archive_messages(conn, claims, now=datetime.now(UTC), progress=log_progress(context))
    seconds = time.perf_counter() - started
    chart = chart_markdown(conn, "chat_messages_archive")
    return dg.MaterializeResult(metadata=archive_metadata(run, before, table_sizes(conn), chart, seconds))


@dg.asset(
    key=KEY,
    deps=[application_key("chat_messages"), application_key("chat_sessions")],
    group_name=GROUP,
    description=(
        f"Chat messages older than {CHAT_ARCHIVE.keep_for.days} days: the text as gzip with its checksum, everything "
        f"else as it was. A run moves at most {CHAT_ARCHIVE.run_limit:,} messages out of `public.chat_messages`; "
        "statistics do not change. Read a past conversation with `lifecycle chat read`."
    ),
    kinds={"postgres", "table"},
    owners=OWNERS,
    metadata={"dagster/table_name": "public.chat_messages_archive", "dagster/column_schema": COLUMNS},
    freshness_policy=FRESHNESS,
    pool=POOL,
    code_version="1",
)
def chat_messages_archive(
    context: dg.AssetExecutionContext, database: ApplicationDatabase
) -> dg.MaterializeResult[None]:
    with retried_when_busy(), database.connect() as conn, database.connect() as claims:
        return archive_and_describe(context, conn, claims)


def nothing_overdue(overdue: int) -> Finding:
    """No message is left in chat_messages a day longer than it is kept; restored sessions do not count."""
    metadata = {"overdue": overdue}
    if overdue:
        return Finding(
            False,
            f"{overdue:,} messages are older than {(CHAT_ARCHIVE.keep_for + CHAT_ARCHIVE.grace).days} days; run the "
            "job archive_chat_messages until none remain. One that stays is held by a transaction, or has an id that "
            "the archive holds already",
            metadata,
        )
    return Finding(True, "none", metadata)


def archive_readable(sample: Sample) -> Finding:
    """Texts of the archive, chosen by chance, unpack to their checksum."""
    metadata = {"read": sample.read, "damaged": sample.damaged}
    if sample.damaged:
        return Finding(
            False,
            f"{sample.damaged:,} of {sample.read:,} texts are damaged: somebody wrote to chat_messages_archive; stop "
            "that, and bring these messages back from a backup",
            metadata,
        )
    return Finding(True, f"{sample.read:,} texts unpacked to their checksum", metadata)


def archive_read_like_messages(differences: tuple[AccessDifference, ...]) -> Finding:
    """The archive is open to nobody who may not read chat_messages, and by the same policies."""
    metadata = {"differences": len(differences)}
    if differences:
        told = "; ".join(f"{difference.what} {difference.name}: {difference.told}" for difference in differences)
        return Finding(False, f"{told}. Change the archive alike: docs/how-to/past-conversations.md", metadata)
    return Finding(True, "same readers, same policies", metadata)


@dg.multi_asset_check(
    name="chat_archive_checks",
    specs=[
        dg.AssetCheckSpec(check.__name__, asset=KEY, description=check.__doc__)
        for check in (nothing_overdue, archive_readable, archive_read_like_messages)
    ],
)
def chat_archive_checks(database: ApplicationDatabase) -> Iterable[dg.AssetCheckResult]:
    with retried_when_busy(), database.connect() as conn:
        findings = {
            nothing_overdue.__name__: nothing_overdue(overdue_messages(conn, datetime.now(UTC))),
            archive_readable.__name__: archive_readable(sample_archive(conn)),
            archive_read_like_messages.__name__: archive_read_like_messages(access_differences(conn)),
        }
    for name, finding in findings.items():
        yield finding.result(KEY, name)


CHAT_ARCHIVE_ASSETS: Final = [chat_messages_archive]
CHAT_ARCHIVE_CHECKS: Final = [chat_archive_checks]
