"""The weekly review as a message for people, put in the outbox once per week."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb

from lifecycle.database import Connection
from lifecycle.erasures.due import deletions_text
from lifecycle.review.storage import RelationGrowth
from lifecycle.review.weekly import JobReview, WeeklyReview
from lifecycle.units import size_text

JOB: Final = "weekly_job_review"
# Slack cuts a block of text at 3,000 characters, the fence around it included.
LONGEST_TABLE: Final = 2800
TOP_RELATIONS: Final = 10
PROBLEMS_LISTED: Final = 5
NAME_WIDTH: Final = 32
HEADINGS: Final = ("job", "ok", "failed", "before", "p50", "p95", "trend")

RECORD: Final = """
insert into lifecycle.notifications (kind, job, content) values ('report', %(job)s, %(content)s)
on conflict (job, (content ->> 'week')) where kind = 'report' do nothing
"""


def duration_text(milliseconds: float | None) -> str:
    """A duration: 340 ms, 12.5 s, 61 min; a dash for None."""
    if milliseconds is None:
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.1f} s" if milliseconds < 600_000 else f"{milliseconds / 60_000:.0f} min"


def percent_text(percent: float | None) -> str:
    """A change in percent with its sign; a dash for None."""
    return "-" if percent is None else f"{percent:+.0f}%"


def delta_text(relation: RelationGrowth) -> str:
    """Growth with its sign: +1.4 MB (+12%)."""
    sign = "-" if relation.delta < 0 else "+"
    percent = "" if relation.percent is None else f" ({percent_text(relation.percent)})"
    return f"{sign}{size_text(abs(relation.delta))}{percent}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns under each other, the first to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]


def _cut(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."


def _job_line(job: JobReview) -> tuple[str, ...]:
    unit = "" if job.counted_by == "run" else "*"
    counts = (str(job.successes), str(job.failures), str(job.failures_before))
    times = (duration_text(job.p50_ms), duration_text(job.p95_ms), percent_text(job.trend_percent))
    return (_cut(job.job) + unit, *counts, *times)


def report_table(review: WeeklyReview) -> str:
    """Jobs, failing ones first, then relations that grew most, as monospaced text of at most LONGEST_TABLE."""
    jobs = sorted(review.jobs, key=lambda job: (-job.failures, not job.never_ran, job.job))
    lines = _aligned([HEADINGS, *(_job_line(job) for job in jobs)])
    if any(job.counted_by == "object" for job in jobs):
        lines.append("* counted per table or view, not per run")
    compared = review.storage.compared_with is not None
    heading = ("relation", "size", "growth") if compared else ("relation", "size")
    sizes = [(_cut(r.relation), size_text(r.bytes), delta_text(r))[: len(heading)] for r in top_relations(review)]
    lines += ["", *_aligned([heading, *sizes])] if sizes else []
    text = "\n".join(lines)
    if len(text) <= LONGEST_TABLE:
        return text
    rest = "\n... cut; the whole table is in Dagster"
    return text[: LONGEST_TABLE - len(rest)].rpartition("\n")[0] + rest


def top_relations(review: WeeklyReview) -> tuple[RelationGrowth, ...]:
    """The relations that grew most; the largest while there is nothing to compare with."""
    return review.storage.relations[:TOP_RELATIONS]


def _storage_line(review: WeeklyReview) -> str:
    storage = review.storage
    if storage.measured_on is None:
        return "Storage: never measured; run the job record_storage"
    if storage.compared_with is None:
        return f"Storage: {size_text(storage.total.bytes)}; no comparison yet, this is the first measurement"
    return (
        f"Storage: {size_text(storage.total.bytes)}, {delta_text(storage.total)} since {storage.compared_with:%Y-%m-%d}"
    )


def _problems_line(review: WeeklyReview) -> str:
    if not review.problems:
        return "Open problems: none"
    named = [f"{p.job}{f': {p.cause}' if p.cause else ''}" for p in review.problems[:PROBLEMS_LISTED]]
    more = len(review.problems) - len(named)
    return f"Open problems: {len(review.problems)} ({', '.join(named)}{f' and {more} more' if more else ''})"


def report_lines(review: WeeklyReview) -> list[str]:
    """The review in sentences, the most pressing first."""
    before, this = review.history[-2], review.history[-1]
    idle = [job.job for job in review.jobs if job.scheduled and job.never_ran]
    others = sum(job.other_failures for job in review.jobs)
    stray = {name: count for name, count in review.default_rows.items() if count}
    lines = [
        f"Outcomes: {this.successes:,} succeeded, {this.failures:,} failed (week before: {before.failures:,} failed)",
        *([f"Deletion requests: {deletions_text(review.deletions)}"] if review.deletions else []),
        _problems_line(review),
        _storage_line(review),
    ]
    if review.default_rows:
        told = ", ".join(f"{name} {count:,} rows" for name, count in stray.items())
        lines.append(f"Default partitions: {told or 'empty'}")
    if others:
        lines.append(f"Single tables or views that failed within runs, failed checks, stale assets: {others:,}")
    if idle:
        lines.append(f"Scheduled, but did not run: {', '.join(idle)}")
    if review.outbox.waiting:
        lines.append(f"Messages that wait for Slack: {review.outbox.waiting:,}")
    return lines


def report_content(review: WeeklyReview, run_id: str | None = None) -> dict[str, Any]:
    """What the outbox keeps: `week` (its first day), `title`, `lines`, `table` and the run that made it."""
    last_day = review.week.end - timedelta(days=1)
    content: dict[str, Any] = {
        "week": f"{review.week.start:%Y-%m-%d}",
        "title": f"Weekly review, {review.week.start:%Y-%m-%d} to {last_day:%Y-%m-%d} ({review.week.start.tzinfo})",
        "lines": report_lines(review),
        "table": report_table(review),
    }
    return content if run_id is None else content | {"run_id": run_id}


def record_weekly_review(conn: Connection, review: WeeklyReview, run_id: str | None = None) -> bool:
    """Put the review in the outbox; False when its week is there already, sent or not.

    A unique index decides, so two runs at once send one. Raises psycopg.Error when the outbox cannot be written.
    """
    with conn.transaction():
        values = {"job": JOB, "content": Jsonb(report_content(review, run_id))}
        return conn.execute(RECORD, values).rowcount == 1
