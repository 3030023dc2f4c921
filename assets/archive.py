"""Archives: rows past their time, their long texts compressed; moved every night."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
from pydantic import Field

from assets.application import application_key
from assets.bundle import Bundle
from assets.checks import Finding, listed
from assets.progress import log_progress
from assets.stored_once import stored_once
from assets.units import size_text
from lifecycle.archive.access import AccessDifference, access_differences
from lifecycle.archive.layout import Archive, archives_of, read_layout
from lifecycle.archive.move import ArchiveRun, archive_rows
from lifecycle.archive.pace import PACE
from lifecycle.archive.readers import Reader, readers_in_the_way
from lifecycle.archive.status import Sample, Sizes, months, overdue_rows, sample_archive, table_sizes
from lifecycle.archive.structure import bring_in_step
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.pacing import Pacing, pacing_of
from resources.postgres import ApplicationDatabase, retried_when_busy

POOL: Final = "chat_archive"
GROUP: Final = "chat_archive"
OWNERS: Final = ["team:data-platform"]
# Moved every night: a day and two hours late is worth a look, two days late breaks a promise.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
SPACE: Final = (
    "Moving gives no space back by itself. VACUUM (autovacuum runs it) lets the table reuse the room for new rows; "
    "only VACUUM (FULL), which locks the table while it runs, returns it to the system."
)


class ArchiveConfig(dg.Config):
    """Whether this run may change what reads the table; archive.yaml says it for every run."""

    accept_changed_views: bool = Field(
        default=False, description="move rows although views, functions and policies would answer otherwise"
    )


def archive_key(archive: Archive) -> dg.AssetKey:
    """The asset of an archive."""
    return application_key(archive.declared.archive)


def waiting_for(
    conn: Connection, application: Application, archive: Archive, accepted: bool = False
) -> tuple[Reader, ...]:
    """The readers that would change, and that nobody has accepted to change; no row moves while there are any."""
    if accepted or archive.declared.accept_changed_views:
        return ()
    return readers_in_the_way(conn, archive, application.database.managed_schemas)


def archive_metadata(run: ArchiveRun, before: Sizes, after: Sizes, chart: str, seconds: float) -> dict[str, Any]:
    """What a run moved and what it is worth: counts and bytes, never a text."""
    ratio = run.text_bytes / run.stored_bytes if run.stored_bytes else 0.0
    return {
        "picture": dg.MetadataValue.md(chart),
        "rows_moved": run.moved,
        "left_for_the_next_run": run.left,
        "remaining": run.remaining,
        "batches": run.batches,
        "busy_days": run.busy_days,
        "rows_of_deleted_groups": run.orphans,
        "text_bytes": dg.MetadataValue.int(run.text_bytes),
        "stored_bytes": dg.MetadataValue.int(run.stored_bytes),
        "texts_kept_as_they_are": dg.MetadataValue.int(run.plain),
        "compression_ratio": round(ratio, 2),
        "table_size": f"{size_text(before.live)} before, {size_text(after.live)} after",
        "archive_size": f"{size_text(before.archive)} before, {size_text(after.archive)} after",
        "space": SPACE,
        "seconds": round(seconds, 3),
    }


def archive_and_describe(
    context: dg.AssetExecutionContext, conn: Connection, claims: Connection, archive: Archive, pacing: Pacing
) -> dg.MaterializeResult[None]:
    """Archive what is due and describe both tables; errors as in `archive_rows`."""
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from assets.archive_chart import months_markdown

    now = datetime.now(UTC)
    started, before = time.perf_counter(), table_sizes(conn, archive)
    run = archive_rows(conn, claims, archive, now=now, pacing=pacing, progress=log_progress(context))
    seconds = time.perf_counter() - started
    chart = months_markdown(archive.declared.archive.name, months(conn, read_layout(conn, archive), now))
    return dg.MaterializeResult(metadata=archive_metadata(run, before, table_sizes(conn, archive), chart, seconds))


def nothing_moved(
    context: dg.AssetExecutionContext, conn: Connection, archive: Archive, waiting: tuple[Reader, ...]
) -> dg.MaterializeResult[None]:
    """A run that waits for somebody's word: the archive takes up new columns, and no row moves."""
    bring_in_step(conn, archive)
    told = ", ".join(map(str, waiting))
    context.log.warning(
        f"{archive.source}: nothing was moved. Without its old rows {len(waiting)} readers would answer otherwise: "
        f"{told}. If that may be, set accept_changed_views in archive.yaml, or in the configuration of one run"
    )
    return dg.MaterializeResult(
        metadata={"rows_moved": 0, "waits_for": f"accept_changed_views: {told}", "readers_that_change": len(waiting)}
    )


def archive_asset(application: Application, archive: Archive) -> dg.AssetsDefinition:
    """The asset of one archive."""
    declared = archive.declared

    @dg.asset(
        key=archive_key(archive),
        deps=[application_key(archive.source), application_key(declared.groups.table)],
        group_name=GROUP,
        description=(
            f"Rows of `{archive.source}` older than {declared.after}, each whole; "
            f"{', '.join(declared.compress) or 'nothing'} as gzip where that is smaller. A run moves at most "
            f"{PACE.run_limit:,} rows, and none while views, functions or policies would answer otherwise, unless "
            "`accept_changed_views` says that they may. Read a past group with `lifecycle chat read`. "
            f"{declared.why}"
        ),
        kinds={"postgres", "table"},
        owners=OWNERS,
        metadata={"dagster/table_name": str(declared.archive)},
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version="2",
    )
    def archived(
        context: dg.AssetExecutionContext, config: ArchiveConfig, database: ApplicationDatabase
    ) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn, database.connect() as claims:
            if waiting := waiting_for(conn, application, archive, config.accept_changed_views):
                return nothing_moved(context, conn, archive, waiting)
            made = archive_and_describe(context, conn, claims, archive, pacing_of(application, archive.job))
            return stored_once(context, made)

    return archived


@dataclass(frozen=True)
class Look:
    """What the checks of an archive are about, seen at once."""

    archive: Archive
    overdue: int
    sample: Sample
    differences: tuple[AccessDifference, ...]
    waiting: tuple[Reader, ...]


def no_figure_changes(look: Look) -> Finding:
    """Nothing that reads the table would answer otherwise without its old rows, or that was accepted."""
    metadata = {"readers": len(look.waiting)}
    if look.waiting:
        return Finding(
            False,
            f"{listed([str(reader) for reader in look.waiting])} would answer otherwise, so the archive waits: say "
            "accept_changed_views: true in archive.yaml if they may",
            metadata,
        )
    return Finding(True, "nothing, or it was accepted", metadata)


def nothing_overdue(look: Look) -> Finding:
    """No row is left in the table a day longer than it is kept; groups that were brought back do not count."""
    metadata = {"overdue": look.overdue}
    days = (look.archive.keep_for + PACE.grace).days
    if look.overdue and look.waiting:
        return Finding(True, f"{look.overdue:,} rows older than {days} days wait for accept_changed_views", metadata)
    if look.overdue:
        return Finding(
            False,
            f"{look.overdue:,} rows are older than {days} days; run the job {look.archive.job} until none remain. One "
            "that stays is held by a transaction, or has a key that the archive holds already",
            metadata,
        )
    return Finding(True, "none", metadata)


def archive_readable(look: Look) -> Finding:
    """Texts of the archive, chosen by chance, unpack to their checksum."""
    sample = look.sample
    metadata = {"read": sample.read, "damaged": sample.damaged}
    if sample.damaged:
        return Finding(
            False,
            f"{sample.damaged:,} of {sample.read:,} texts are damaged: somebody wrote to "
            f"{look.archive.declared.archive}; stop that, and bring these rows back from a backup",
            metadata,
        )
    return Finding(True, f"{sample.read:,} texts unpacked to their checksum", metadata)


def archive_read_like_its_table(look: Look) -> Finding:
    """The archive is open to nobody who may not read its table."""
    metadata = {"differences": len(look.differences)}
    if look.differences:
        told = "; ".join(f"{found.what} {found.name}: {found.told}" for found in look.differences)
        return Finding(False, f"{told}. Change the archive alike: docs/how-to/past-conversations.md", metadata)
    return Finding(True, "same readers, our policy", metadata)


ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
CHECKS: Final = (
    (no_figure_changes, WARN),
    (nothing_overdue, ERROR),
    (archive_readable, ERROR),
    (archive_read_like_its_table, ERROR),
)


def look_at(conn: Connection, application: Application, archive: Archive) -> Look:
    """One look at an archive and its table."""
    layout = read_layout(conn, archive)
    return Look(
        archive,
        overdue_rows(conn, layout, datetime.now(UTC)),
        sample_archive(conn, layout),
        access_differences(conn, archive),
        waiting_for(conn, application, archive),
    )


def archive_checks(application: Application, archive: Archive) -> dg.AssetChecksDefinition:
    """The checks of one archive, evaluated together."""
    key = archive_key(archive)

    @dg.multi_asset_check(
        name=f"{archive.job}_checks",
        specs=[dg.AssetCheckSpec(check.__name__, asset=key, description=check.__doc__) for check, _ in CHECKS],
    )
    def evaluate(database: ApplicationDatabase) -> Iterable[dg.AssetCheckResult]:
        with retried_when_busy(), database.transaction() as conn:
            look = look_at(conn, application, archive)
        for check, severity in CHECKS:
            yield check(look).result(key, check.__name__, severity)

    return evaluate


def bundle(application: Application) -> Bundle:
    """An asset with its checks for each declared archive."""
    archives = archives_of(application.archived_tables)
    return Bundle(
        assets=[archive_asset(application, archive) for archive in archives],
        checks=[archive_checks(application, archive) for archive in archives],
    )
