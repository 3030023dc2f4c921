"""The segment cache: what each account likes, where the application reads it; brought up to date every hour."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from assets.application import application_key
from assets.bundle import Bundle
from assets.checks import Finding
from assets.progress import log_progress
from assets.stored_once import stored_once
from assets.tables import table_metadata, table_schema
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.segments.refresh import SegmentRefresh, SegmentsStatus, refresh_segments, segments_status
from resources.postgres import ApplicationDatabase, retried_when_busy

KEY: Final = dg.AssetKey(["account_segments"])
POOL: Final = "segments"
GROUP: Final = "segments"
OWNERS: Final = ["team:data-platform"]
CODE_VERSION: Final = "2"
# The refresh is scheduled every hour: one missed is worth a look, three are a fault.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=4), warn_window=timedelta(hours=2))
LONGEST_WAIT: Final = timedelta(hours=2)
TAGS_SHOWN: Final = 20
BAR: Final = "#2f6f9f"

COLUMNS: Final = table_schema(
    {
        "account": ("text", "whose segments"),
        "version": ("int", "of the document's format"),
        "computed_at": ("timestamptz", "when the tags last changed"),
        "tags": ("jsonb", "slug, score, source, tastes of each tag, best first"),
    }
)
TAG_COLUMNS: Final = {
    "tag": ("string", "slug of the tag"),
    "accounts": ("int", "accounts whose segments hold it"),
}


def tags_chart(status: SegmentsStatus) -> str:
    """Bars of accounts per tag as a Markdown image that needs no file server."""
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from matplotlib.figure import Figure

    from assets.pictures import markdown_image

    shown = status.accounts_per_tag[:TAGS_SHOWN][::-1]
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(shown)), dpi=96, layout="constrained")
    axes = figure.add_subplot()
    axes.barh([tag for tag, _ in shown], [accounts for _, accounts in shown], color=BAR)
    axes.set_title(f"{status.with_segments:,} accounts with segments, by tag", loc="left", fontsize=11)
    axes.set_xlabel("accounts", fontsize=8)
    axes.set_ylabel("tag", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return markdown_image(figure, "accounts per tag")


def segments_metadata(refresh: SegmentRefresh, status: SegmentsStatus, seconds: float) -> dict[str, dg.MetadataValue]:
    """What a refresh did and what the cache holds now: counts, never an account."""
    return {
        "picture": dg.MetadataValue.md(tags_chart(status)),
        "dagster/row_count": dg.MetadataValue.int(status.with_segments),
        "accounts_seen": dg.MetadataValue.int(refresh.accounts_seen),
        "written": dg.MetadataValue.int(refresh.written),
        "cleared": dg.MetadataValue.int(refresh.cleared),
        "unchanged": dg.MetadataValue.int(refresh.unchanged),
        "skipped_busy": dg.MetadataValue.int(refresh.skipped_busy),
        "remaining": dg.MetadataValue.int(refresh.remaining),
        "batches": dg.MetadataValue.int(refresh.batches),
        **({"lack": dg.MetadataValue.text(refresh.lack)} if refresh.lack else {}),
        "consented": dg.MetadataValue.int(status.consented),
        "seconds": dg.MetadataValue.float(round(seconds, 3)),
        "accounts_per_tag": table_metadata(TAG_COLUMNS, status.accounts_per_tag),
    }


def refresh_and_describe(
    conn: Connection, batch_size: int, progress: Callable[[str, float], None]
) -> dg.MaterializeResult[None]:
    """Refresh the segments of changed accounts and describe the cache; errors as in `refresh_segments`."""
    started = time.perf_counter()
    refresh = refresh_segments(conn, batch_size=batch_size, progress=progress)
    seconds = time.perf_counter() - started
    return dg.MaterializeResult(metadata=segments_metadata(refresh, segments_status(conn), seconds))


def _segments_asset(application: Application) -> dg.AssetsDefinition:
    segments = application.segments
    target = segments.targets[0]
    watched = {table for _, _, source in segments.sources() for table in source.watches}
    halved = (
        f" and affinity from interactions, halved every {segments.interactions.half_life}"
        if segments.interactions
        else ""
    )

    @dg.asset(
        key=KEY,
        deps=[application_key(name) for name in sorted(watched | {place.table for place in segments.targets})],
        group_name=GROUP,
        description=(
            f"Tags that each account likes, in `{target.table}.{target.column}` at {' / '.join(target.path)}: tastes "
            f"from {', '.join(segments.tastes)}{halved}. Materializing it computes the accounts whose sources changed; "
            "an account without consent has none, and a source that is gone clears nothing."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        metadata={"dagster/table_name": str(target.table), "dagster/column_schema": COLUMNS},
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version=CODE_VERSION,
    )
    def account_segments(
        context: dg.AssetExecutionContext, database: ApplicationDatabase
    ) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.connect() as conn:
            return stored_once(context, refresh_and_describe(conn, segments.batch_size, log_progress(context)))

    return account_segments


def segments_not_behind(status: SegmentsStatus, now: datetime) -> Finding:
    """No change of an account's tastes, interactions or consent has waited for more than two hours."""
    metadata = {"waiting": status.waiting}
    if status.oldest_waiting is not None and now - status.oldest_waiting > LONGEST_WAIT:
        return Finding(
            False,
            f"{status.waiting:,} accounts wait, the first since {status.oldest_waiting:%Y-%m-%d %H:%M} UTC; "
            "run the job refresh_account_segments",
            metadata,
        )
    return Finding(True, f"{status.waiting:,} accounts wait, none for long", metadata)


def no_segments_without_consent(status: SegmentsStatus, now: datetime) -> Finding:  # noqa: ARG001 - as its sibling
    """No account that withheld or withdrew consent to personalization holds segments."""
    metadata = {"without_consent": status.without_consent}
    if status.without_consent:
        return Finding(
            False,
            f"{status.without_consent:,} accounts hold segments without consent and wait for no refresh: insert "
            "a row into lifecycle.changed_segment_accounts, then run the job refresh_account_segments",
            metadata,
        )
    return Finding(True, f"{status.with_segments:,} accounts hold segments, all with consent", metadata)


def segment_sources_present(status: SegmentsStatus, now: datetime) -> Finding:  # noqa: ARG001 - as its siblings
    """Everything that segments are computed from, and the place where they stand, is there and watched."""
    if status.lack is not None:
        return Finding(False, f"{status.lack}. What came from it stays as it is", {})
    return Finding(True, "all sources are there", {})


# What is gone has been told to people once, by the refresh itself.
CHECKS: Final = {
    segments_not_behind: dg.AssetCheckSeverity.ERROR,
    no_segments_without_consent: dg.AssetCheckSeverity.ERROR,
    segment_sources_present: dg.AssetCheckSeverity.WARN,
}


@dg.multi_asset_check(
    name="account_segments_checks",
    specs=[dg.AssetCheckSpec(check.__name__, asset=KEY, description=check.__doc__) for check in CHECKS],
)
def account_segments_checks(database: ApplicationDatabase) -> Iterable[dg.AssetCheckResult]:
    with retried_when_busy(), database.transaction() as conn:
        status = segments_status(conn)
    for check, severity in CHECKS.items():
        yield check(status, datetime.now(UTC)).result(KEY, check.__name__, severity)


def bundle(application: Application) -> Bundle:
    """The cache and its checks, where segments are declared."""
    if not application.segments.targets:
        return Bundle()
    return Bundle(assets=[_segments_asset(application)], checks=[account_segments_checks])
