"""The weekly review as a message for people, put in the outbox once per week."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb
from rich.cells import cell_len

from lifecycle.database import Connection
from lifecycle.erasures.due import deletions_text
from lifecycle.language import _, translatable
from lifecycle.ledger.problems import cause_title
from lifecycle.review.cold_months import cold_line
from lifecycle.review.storage import RelationGrowth
from lifecycle.review.weekly import JobReview, WeeklyReview
from lifecycle.units import size_text

JOB: Final = "weekly_job_review"
# Slack cuts a block of text at 3,000 characters, the fence around it included.
LONGEST_TABLE: Final = 2800
TOP_RELATIONS: Final = 10
PROBLEMS_LISTED: Final = 5
NAME_WIDTH: Final = 32
HEADINGS: Final = (
    translatable("job"),
    translatable("ok"),
    translatable("failed"),
    translatable("before"),
    translatable("p50"),
    translatable("p95"),
    translatable("trend"),
)

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
    """Columns under each other, the first to the left, numbers to the right; a Japanese character is two wide."""
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [(cell, " " * (width - cell_len(cell))) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return ["  ".join(["".join(first), *(space + cell for cell, space in rest)]) for first, *rest in padded]


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
    lines = _aligned([[_(heading) for heading in HEADINGS], *(_job_line(job) for job in jobs)])
    if any(job.counted_by == "object" for job in jobs):
        lines.append(_("* counted per table or view, not per run"))
    compared = review.storage.compared_with is not None
    heading = (_("relation"), _("size"), *((_("growth"),) if compared else ()))
    sizes = [(_cut(r.relation), size_text(r.bytes), delta_text(r))[: len(heading)] for r in top_relations(review)]
    lines += ["", *_aligned([heading, *sizes])] if sizes else []
    text = "\n".join(lines)
    if len(text) <= LONGEST_TABLE:
        return text
    rest = "\n" + _("... cut; the whole table is in Dagster")
    return text[: LONGEST_TABLE - len(rest)].rpartition("\n")[0] + rest


def top_relations(review: WeeklyReview) -> tuple[RelationGrowth, ...]:
    """The relations that grew most; the largest while there is nothing to compare with."""
    return review.storage.relations[:TOP_RELATIONS]


def _storage_line(review: WeeklyReview) -> str:
    storage = review.storage
    if storage.measured_on is None:
        return _("Storage: never measured; run the job record_storage")
    if storage.compared_with is None:
        told = _("Storage: {size}; no comparison yet, this is the first measurement")
        return told.format(size=size_text(storage.total.bytes))
    return _("Storage: {size}, {growth} since {day:%Y-%m-%d}").format(
        size=size_text(storage.total.bytes), growth=delta_text(storage.total), day=storage.compared_with
    )


def _problems_line(review: WeeklyReview) -> str:
    if not review.problems:
        return _("Open problems: none")
    named = [f"{p.job}{f': {cause_title(p.cause)}' if p.cause else ''}" for p in review.problems[:PROBLEMS_LISTED]]
    more = len(review.problems) - len(named)
    told = _("Open problems: {count} ({named} and {more} more)") if more else _("Open problems: {count} ({named})")
    return told.format(count=len(review.problems), named=_(", ").join(named), more=more)


def report_lines(review: WeeklyReview) -> list[str]:
    """The review in sentences, the most pressing first."""
    before, this = review.history[-2], review.history[-1]
    idle = [job.job for job in review.jobs if job.scheduled and job.never_ran]
    others = sum(job.other_failures for job in review.jobs)
    stray = {name: count for name, count in review.default_rows.items() if count}
    comma = _(", ")
    outcomes = _("Outcomes: {succeeded:,} succeeded, {failed:,} failed (week before: {before:,} failed)")
    lines = [outcomes.format(succeeded=this.successes, failed=this.failures, before=before.failures)]
    if review.deletions:
        lines.append(_("Deletion requests: {counts}").format(counts=deletions_text(review.deletions)))
    lines += [_problems_line(review), _storage_line(review), *map(cold_line, review.cold)]
    if review.default_rows:
        told = comma.join(_("{table} {count:,} rows").format(table=name, count=count) for name, count in stray.items())
        lines.append(_("Default partitions: {rows}").format(rows=told or _("empty")))
    if others:
        told = _("Single tables or views that failed within runs, failed checks, stale assets: {count:,}")
        lines.append(told.format(count=others))
    if idle:
        lines.append(_("Scheduled, but did not run: {jobs}").format(jobs=comma.join(idle)))
    if review.outbox.waiting:
        lines.append(_("Messages that wait for Slack: {count:,}").format(count=review.outbox.waiting))
    return lines


def report_content(review: WeeklyReview, run_id: str | None = None) -> dict[str, Any]:
    """What the outbox keeps: `week` (its first day), `title`, `lines`, `table` and the run that made it."""
    last_day = review.week.end - timedelta(days=1)
    content: dict[str, Any] = {
        "week": f"{review.week.start:%Y-%m-%d}",
        "title": _("Weekly review, {first:%Y-%m-%d} to {last:%Y-%m-%d} ({zone})").format(
            first=review.week.start, last=last_day, zone=review.week.start.tzinfo
        ),
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
