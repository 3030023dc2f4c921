"""The indexes of the application's hot queries: built where missing, watched every day."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg

from assets.application import application_key
from assets.bundle import Bundle
from assets.checks import Finding, listed
from assets.progress import log_progress
from assets.tables import markdown_table, table_metadata
from assets.units import size_text
from lifecycle.database import connect_directly
from lifecycle.declarations.application import Application
from lifecycle.indexes.build import IndexBuild, build_indexes
from lifecycle.indexes.hot_queries import IndexState, IndexStatus, index_statuses
from lifecycle.indexes.model import declared_indexes, hot_query_indexes
from lifecycle.indexes.redundant import RedundantIndexes, redundant_indexes
from lifecycle.pacing import pacing_of
from resources.postgres import ApplicationDatabase, errors_for_dagster, retried_when_busy

KEY: Final = dg.AssetKey("hot_query_indexes")
JOB: Final = "build_hot_query_indexes"
POOL: Final = "indexes"
GROUP: Final = "indexes"
OWNERS: Final = ["team:data-platform"]
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
REDUNDANT_COLUMNS: Final = {
    "table": ("string", "table of the application"),
    "index": ("string", "the index that could go"),
    "size": ("string", "room that it takes"),
    "why": ("string", "what does the same, or since when nothing has read it"),
}


def status_table(statuses: Sequence[IndexStatus]) -> str:
    """One line per index, in Markdown, narrow enough for the page of the asset: names, states and figures alone."""
    lines = [
        (
            f"`{s.index.name}`" + (f", served by `{s.served_by}`" if s.served_by not in (None, s.index.name) else ""),
            s.state.value.partition(";")[0],
            size_text(s.bytes).replace(" ", "\N{NO-BREAK SPACE}"),
            f"{s.scans:,}",
        )
        for s in statuses
    ]
    return "\n".join(markdown_table(("index", "state", "size", "scans"), lines))


def plans_list(statuses: Sequence[IndexStatus]) -> str:
    """What each index is for, and how its query was answered before it was built, and is now: no value of a row."""
    return "\n".join(
        f"- `{s.index.name}`: {s.index.query.purpose if s.index.query else s.index.reason}\n"
        f"    - before: {f'`{s.plan_before}`' if s.plan_before else 'not built here'}\n"
        f"    - now: {f'`{s.plan_now}`' if s.plan_now else '-'}"
        for s in statuses
    )


def redundant_table(found: RedundantIndexes) -> dg.TableMetadataValue:
    """Duplicates first, then what nothing reads."""
    records = [(one, f"{one.covered_by} does the same") for one in found.duplicates]
    records += [(one, f"not read since {found.counted_since:%Y-%m-%d %H:%M} UTC, at least") for one in found.unused]
    return table_metadata(REDUNDANT_COLUMNS, ((one.table, one.name, size_text(one.bytes), why) for one, why in records))


def describe(build: IndexBuild, statuses: Sequence[IndexStatus]) -> dg.MaterializeResult[None]:
    """What was built, what could not be, and how every index stands."""
    metadata: dict[str, Any] = {
        "status": dg.MetadataValue.md(status_table(statuses)),
        "plans": dg.MetadataValue.md(plans_list(statuses)),
        "built": len(build.built),
        "built_names": listed(build.built) or "none",
        "indexes": len(statuses),
        "chosen": sum(status.state is IndexState.chosen for status in statuses),
        "bytes": dg.MetadataValue.int(sum(status.bytes for status in statuses)),
        "size": size_text(sum(status.bytes for status in statuses)),
    }
    if build.left_out:
        metadata["left_out"] = "; ".join(build.left_out)
    return dg.MaterializeResult(metadata=metadata)


def indexes_asset(application: Application) -> dg.AssetsDefinition:
    """The asset of all declared indexes."""
    indexes = declared_indexes(application)
    hot = [index for index in indexes if index.query]

    @dg.asset(
        key=KEY,
        deps=[application_key(table) for table in sorted({index.table for index in indexes})],
        group_name=GROUP,
        description=(
            "Indexes of the application's most frequent queries. A run builds what is missing or invalid, without "
            "stopping writers, and changes nothing otherwise; its metadata show each index with its size, its scans "
            "and the plan of its query before and now."
        ),
        kinds={"postgres"},
        owners=OWNERS,
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version="1",
    )
    def hot_query_indexes(
        context: dg.AssetExecutionContext, database: ApplicationDatabase
    ) -> dg.MaterializeResult[None]:
        url = database.required_url()
        with (
            retried_when_busy(),
            errors_for_dagster(),
            connect_directly(url, application_name="lifecycle indexes") as conn,
        ):
            build = build_indexes(conn, indexes, log_progress(context), pacing_of(application, JOB))
            for message in build.left_out:
                context.log.warning(message)
            return describe(build, index_statuses(conn, hot))

    return hot_query_indexes


def hot_query_indexes_chosen(statuses: Sequence[IndexStatus]) -> Finding:
    """Each index is there, valid, and what the planner takes for its query."""
    wrong = [status for status in statuses if not status.holds]
    metadata = {state.name: sum(status.state is state for status in statuses) for state in IndexState}
    if wrong:
        return Finding(False, "; ".join(status.advice for status in wrong), metadata)
    return Finding(True, f"{metadata['chosen']} chosen, {metadata['usable']} on tables too small to tell", metadata)


def no_redundant_indexes(found: RedundantIndexes) -> Finding:
    """No index repeats another one or is never read; for a person to judge, nothing is dropped."""
    metadata = {
        "duplicates": len(found.duplicates),
        "unused": len(found.unused),
        "counted_since": f"{found.counted_since:%Y-%m-%d %H:%M} UTC",
        "indexes": redundant_table(found),
    }
    told = []
    if found.duplicates:
        told.append("superfluous: " + listed([f"{one.name} (beside {one.covered_by})" for one in found.duplicates]))
    if found.unused and found.long_enough:
        told.append(f"never read in {found.days} days: " + listed([one.name for one in found.unused]))
    if told:
        return Finding(False, "; ".join(told) + ". Drop what nobody needs: docs/how-to/hot-query-indexes.md", metadata)
    if found.unused:
        return Finding(True, f"{len(found.unused)} not read yet, counted for too short a time", metadata)
    return Finding(True, "none", metadata)


def severity(statuses: Sequence[IndexStatus]) -> dg.AssetCheckSeverity:
    """An index that is not there is an error; one that the planner or a privilege keeps from use is a warning."""
    absent = any(status.state in (IndexState.missing, IndexState.invalid) for status in statuses)
    return dg.AssetCheckSeverity.ERROR if absent else dg.AssetCheckSeverity.WARN


def indexes_checks(application: Application) -> dg.AssetChecksDefinition:
    """The checks of that asset, from one look at the database."""

    @dg.multi_asset_check(
        name="hot_query_indexes_checks",
        specs=[
            dg.AssetCheckSpec(check.__name__, asset=KEY, description=check.__doc__)
            for check in (hot_query_indexes_chosen, no_redundant_indexes)
        ],
    )
    def hot_query_indexes_checks(database: ApplicationDatabase) -> Iterable[dg.AssetCheckResult]:
        with retried_when_busy(), database.transaction() as conn:
            statuses = index_statuses(conn, hot_query_indexes(application))
            found = redundant_indexes(conn, application, datetime.now(UTC))
        chosen = hot_query_indexes_chosen(statuses)
        yield chosen.result(KEY, hot_query_indexes_chosen.__name__, severity(statuses))
        redundant = no_redundant_indexes(found)
        yield redundant.result(KEY, no_redundant_indexes.__name__, dg.AssetCheckSeverity.WARN)

    return hot_query_indexes_checks


def bundle(application: Application) -> Bundle:
    """The declared indexes and whether they do what they are for."""
    if not application.indexes.indexes:
        return Bundle()
    return Bundle(assets=[indexes_asset(application)], checks=[indexes_checks(application)])
