"""The weekly review of the jobs, as an asset with tables and a chart, and what must hold whenever one looks."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg

from assets.application import application_key
from assets.bundle import Bundle
from assets.storage_history import GROUP, OWNERS, POOL, STORAGE_KEY, storage_history
from assets.stored_once import stored_once
from assets.tables import table_metadata
from assets.units import size_text
from lifecycle.declarations.application import Application
from lifecycle.erasures.due import DeletionsDue, deletions_due, deletions_text
from lifecycle.review.cold_months import ColdMonths
from lifecycle.review.report import delta_text, duration_text, percent_text, record_weekly_review, top_relations
from lifecycle.review.storage import RelationGrowth, record_storage
from lifecycle.review.weekly import JobReview, Outbox, WeeklyReview, outbox, weekly_review
from resources.postgres import ApplicationDatabase, retried_when_busy
from resources.timetable import Timetable

REVIEW_KEY: Final = dg.AssetKey(["weekly_job_review"])
# Made every Monday at nine: six hours late is worth a look, a day late is a fault.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=8), warn_window=timedelta(days=7, hours=6))
LONGEST_WAIT_HOURS: Final = 24
DELETIONS: Final = ("open", "due_soon", "overdue", "failed")

JOB_COLUMNS: Final = {
    "job": ("string", "name of the job"),
    "counted": ("string", "per run, or per object where Dagster never ran the job"),
    "successes": ("int", "that ended well in the week"),
    "failures": ("int", "that failed in the week"),
    "failures_before": ("int", "in the week before"),
    "other_failures": ("int", "objects within runs, checks, stale assets"),
    "p50": ("string", "median duration of successes"),
    "p95": ("string", "95th percentile of the duration of successes"),
    "trend": ("string", "p50 against the week before"),
    "last_success": ("string", "UTC, within eight weeks"),
    "note": ("string", "what else a person should know"),
}
STORAGE_COLUMNS: Final = {
    "relation": ("string", "schema and name; the last line is all together"),
    "size": ("string", "with indexes and TOAST, partitions summed"),
    "growth": ("string", "against the measurement nearest to a week earlier"),
    "rows": ("int", "the planner's estimate"),
}
COLD_COLUMNS: Final = {
    "table": ("string", "schema and name"),
    "months": ("int", "in files"),
    "in_database": ("string", "partitions with indexes, and what stays there of months in files"),
    "in_files": ("string", "what the files take"),
    "before": ("string", "what the rows in files took in the database"),
    "cost_a_month": ("string", "at the declared prices"),
}


def _job_record(job: JobReview) -> tuple[Any, ...]:
    return (
        job.job,
        f"per {job.counted_by}",
        job.successes,
        job.failures,
        job.failures_before,
        job.other_failures,
        duration_text(job.p50_ms),
        duration_text(job.p95_ms),
        percent_text(job.trend_percent),
        f"{job.last_success.astimezone(UTC):%Y-%m-%d %H:%M}" if job.last_success else "",
        "scheduled, but did not run" if job.scheduled and job.never_ran else "",
    )


def _storage_record(relation: RelationGrowth, compared: bool) -> tuple[Any, ...]:
    growth = delta_text(relation) if compared else "no comparison yet"
    return relation.relation, size_text(relation.bytes), growth, relation.rows


def _cold_record(found: ColdMonths) -> tuple[Any, ...]:
    sizes = (found.database_bytes, found.cold_bytes, found.bytes_before)
    cost = "" if found.cost is None else str(found.cost.told)
    return found.table, found.months, *map(size_text, sizes), cost


def review_metadata(review: WeeklyReview) -> dict[str, Any]:
    """The review as run metadata: numbers, two tables and the chart; never a row of the application's."""
    # Loading matplotlib takes a quarter of the time that definitions may take to load.
    from assets.review_chart import review_chart_markdown

    this, storage, deletions = review.history[-1], review.storage, review.deletions
    compared = storage.compared_with is not None
    relations = [*top_relations(review), storage.total]
    return {
        "picture": dg.MetadataValue.md(review_chart_markdown(review)),
        "week": f"{review.week.start:%Y-%m-%d}",
        "successes": this.successes,
        "failures": this.failures,
        **({f"deletions_{name}": getattr(deletions, name) for name in DELETIONS} if deletions else {}),
        "default_rows": sum(count or 0 for count in review.default_rows.values()),
        "open_problems": len(review.problems),
        "waiting_messages": review.outbox.waiting,
        "bytes": dg.MetadataValue.int(storage.total.bytes),
        "size": size_text(storage.total.bytes),
        "jobs": table_metadata(JOB_COLUMNS, map(_job_record, review.jobs)),
        "storage": table_metadata(STORAGE_COLUMNS, (_storage_record(r, compared) for r in relations)),
        **({"cold_months": table_metadata(COLD_COLUMNS, map(_cold_record, review.cold))} if review.cold else {}),
    }


# Dagster wants the names of steps and jobs to differ, and the job has the asset's name: the step needs one of its own.
def _review_asset(application: Application) -> dg.AssetsDefinition:
    ledger = application.database.ledger

    @dg.multi_asset(
        name="review_the_week",
        specs=[
            dg.AssetSpec(
                REVIEW_KEY,
                deps=[*([application_key(ledger.table)] if ledger else []), STORAGE_KEY],
                group_name=GROUP,
                description=(
                    f"The week of the jobs up to last Monday 00:00 {application.database.calendar}, against the week "
                    "before: outcomes, durations, deletion requests due, rows in default partitions, storage growth, "
                    "cold months and what they cost, open problems. Goes to Slack once a week."
                ),
                kinds={"postgres", "slack"},
                owners=OWNERS,
                freshness_policy=FRESHNESS,
                code_version="1",
            )
        ],
        pool=POOL,
    )
    def weekly_job_review(
        context: dg.AssetExecutionContext, database: ApplicationDatabase, timetable: Timetable
    ) -> dg.MaterializeResult[None]:
        with retried_when_busy(), database.transaction() as conn:
            record_storage(conn)
            review = weekly_review(conn, application, datetime.now(UTC), timetable.jobs)
            queued = record_weekly_review(conn, review, context.run.run_id)
        metadata = review_metadata(review) | {"sent_to_outbox": queued}
        return stored_once(context, dg.MaterializeResult(REVIEW_KEY, metadata=metadata))

    return weekly_job_review


def deletions_result(due: DeletionsDue | None) -> dg.AssetCheckResult:
    """Fails on a request past its deadline; warns of one that has less than seven days left."""
    if due is None:
        return dg.AssetCheckResult(passed=True, description="nothing is erased here")
    severity = dg.AssetCheckSeverity.ERROR if due.overdue else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        passed=not due.overdue and not due.due_soon,
        severity=severity,
        description=deletions_text(due),
        metadata={"overdue": due.overdue, "due_soon": due.due_soon, "open": due.open, "failed": due.failed},
    )


def outbox_result(found: Outbox) -> dg.AssetCheckResult:
    """Warns when a message has waited for longer than a day."""
    return dg.AssetCheckResult(
        passed=found.oldest_hours <= LONGEST_WAIT_HOURS,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{found.waiting} waiting, the oldest for {found.oldest_hours:.0f} hours",
        metadata={"waiting": found.waiting, "oldest_hours": found.oldest_hours},
    )


@dg.asset_check(
    asset=STORAGE_KEY,
    description="No deletion request is past its deadline; a warning once less than seven days are left.",
)
def no_overdue_deletions(database: ApplicationDatabase) -> dg.AssetCheckResult:
    with retried_when_busy(), database.transaction() as conn:
        return deletions_result(deletions_due(conn, datetime.now(UTC)))


@dg.asset_check(asset=REVIEW_KEY, description="No message waits for Slack for longer than a day.")
def outbox_is_drained(database: ApplicationDatabase) -> dg.AssetCheckResult:
    with retried_when_busy(), database.transaction() as conn:
        return outbox_result(outbox(conn, datetime.now(UTC)))


def bundle(application: Application) -> Bundle:
    """Sizes and review, whatever is declared; deletions due where personal data is."""
    due = [no_overdue_deletions] if application.personal_data is not None else []
    return Bundle(assets=[storage_history, _review_asset(application)], checks=[*due, outbox_is_drained])
