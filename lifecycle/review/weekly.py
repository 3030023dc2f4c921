"""One week of the jobs, and what waits: outcomes, durations, deletions due, default partitions, storage, cold months,
problems.

A week is the seven days that end on a Monday, 00:00 by the calendar that is declared. Nothing here names a person:
counts, and names of jobs and tables.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.erasures.due import DeletionsDue, deletions_due
from lifecycle.partitions.status import partition_status
from lifecycle.partitions.tables import monthly_tables
from lifecycle.review.cold_months import ColdMonths, cold_months
from lifecycle.review.storage import StorageGrowth, storage_growth, storage_totals

DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(days=7)
WEEKS_SHOWN: Final = 8
LAST_WEEK: Final = WEEKS_SHOWN - 1

# Several writers fill the ledger: whatever is not as we write it is left out rather than stumbled over. A job that
# Dagster ran is counted by its runs; a row that its database function wrote within such a run is the same work again.
# A job that Dagster never ran is counted by those rows. That an asset is stale or a check failed is no outcome of
# anything. The failures among all that is not counted are told apart.
OUTCOMES: Final = """
with outcome as materialized (
    select job, event = 'job_success' as success, written_at,
           case when jsonb_typeof(payload -> 'run_id') = 'string' then 'run'
                when payload ->> 'object' ~ '^(run of|check|stale) ' then 'notice' else 'object' end as kind,
           case when jsonb_typeof(payload -> 'duration_ms') = 'number'
                then case when (payload ->> 'duration_ms')::numeric between 0 and 1e12
                          then (payload ->> 'duration_ms')::double precision end end as duration_ms,
           floor(extract(epoch from written_at - %(first)s) / 604800)::int as week
      from lifecycle.ledger_entries(%(first)s, %(now)s)
     where job ~ '^[A-Za-z_][A-Za-z0-9_./:]{0,99}$'),
judged as (
    select *, kind = case when bool_or(kind = 'run') over (partition by job) then 'run' else 'object' end as counts,
           bool_or(kind = 'run') over (partition by job) as by_run
      from outcome)
select job, week, by_run,
       count(*) filter (where counts and success),
       count(*) filter (where counts and not success),
       percentile_cont(0.5) within group (order by duration_ms) filter (where counts and success),
       percentile_cont(0.95) within group (order by duration_ms) filter (where counts and success),
       count(*) filter (where not counts and not success),
       max(written_at) filter (where counts and success),
       min(written_at) filter (where counts)
  from judged group by job, week, by_run order by job, week
"""
PROBLEMS: Final = "select job, cause, times, since from lifecycle.open_problems order by since, job, cause"
WAITING: Final = """
select count(*), coalesce(extract(epoch from %(now)s - min(created_at)) / 3600, 0)::double precision
  from lifecycle.notifications where sent_version < version
"""


@dataclass(frozen=True)
class Week:
    """Seven days, `start` included and `end` not, both by the declared calendar."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class JobReview:
    """One job's week. Durations in milliseconds, of successes only; None where there was none.

    `counted_by` says what a success or failure is: a run of Dagster's, or a row per object (a table, a view) that the
    database function wrote, for a job that Dagster never ran in eight weeks. `other_failures` are told apart: objects
    that failed within runs, checks that failed, assets that were stale.
    """

    job: str
    scheduled: bool
    counted_by: Literal["run", "object"] = "run"
    successes: int = 0
    failures: int = 0
    failures_before: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p50_before_ms: float | None = None
    other_failures: int = 0
    last_success: datetime | None = None

    @property
    def never_ran(self) -> bool:
        return not self.successes and not self.failures

    @property
    def trend_percent(self) -> float | None:
        """How much the median duration changed against the week before; None without a median in both weeks."""
        if self.p50_ms is None or not self.p50_before_ms:
            return None
        return 100 * (self.p50_ms - self.p50_before_ms) / self.p50_before_ms


@dataclass(frozen=True)
class WeekOutcomes:
    """Successes and failures of all jobs in the week that starts at `start`.

    `known_since` is when the ledger began, where that was in this week, more than a day after its start: the week is a
    part of one.
    """

    start: datetime
    successes: int
    failures: int
    known_since: datetime | None = None


@dataclass(frozen=True)
class OpenProblem:
    """What fails now: how often it was seen, and since when."""

    job: str
    cause: str
    times: int
    since: datetime


@dataclass(frozen=True)
class Outbox:
    """Messages that have not reached Slack, and how long the oldest waits."""

    waiting: int
    oldest_hours: float


@dataclass(frozen=True)
class WeeklyReview:
    """Everything the review tells. `default_rows` is None for a table that is not partitioned, `deletions` where
    nothing is erased; `cold` is empty where no table has cold months."""

    week: Week
    jobs: tuple[JobReview, ...]
    history: tuple[WeekOutcomes, ...]
    deletions: DeletionsDue | None
    default_rows: Mapping[str, int | None]
    storage: StorageGrowth
    storage_totals: tuple[tuple[date, int], ...]
    cold: tuple[ColdMonths, ...]
    problems: tuple[OpenProblem, ...]
    outbox: Outbox


def review_week(now: datetime, calendar: str) -> Week:
    """The seven days that end with the last Monday 00:00, in that time zone, before or at `now`."""
    local = now.astimezone(ZoneInfo(calendar))
    end = (local - timedelta(days=local.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    return Week(end - WEEK, end)


def job_outcomes(
    conn: Connection, week: Week, now: datetime, scheduled: Sequence[str]
) -> tuple[tuple[JobReview, ...], tuple[WeekOutcomes, ...]]:
    """Each job's week, and eight weeks of all jobs together.

    Jobs without an outcome in these two weeks are told only when they are scheduled. `last_success`
    looks eight weeks back, and up to `now`.
    """
    first = week.end - WEEKS_SHOWN * WEEK
    jobs = {job: JobReview(job, scheduled=True) for job in scheduled}
    per_week: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    seen = set(scheduled)
    began = None
    for job, number, by_run, successes, failures, p50, p95, other_failures, last_success, first_outcome in rows(
        conn, OUTCOMES, {"first": first, "now": now}
    ):
        review = replace(jobs.get(job, JobReview(job, scheduled=False)), counted_by="run" if by_run else "object")
        if last_success is not None:
            review = replace(review, last_success=last_success)
        if number == LAST_WEEK:
            review = replace(review, successes=successes, failures=failures, p50_ms=p50, p95_ms=p95)
            review = replace(review, other_failures=other_failures)
        elif number == LAST_WEEK - 1:
            review = replace(review, failures_before=failures, p50_before_ms=p50)
        if number in (LAST_WEEK, LAST_WEEK - 1) and successes + failures:
            seen.add(job)
        jobs[job] = review
        began = min((moment for moment in (began, first_outcome) if moment is not None), default=None)
        per_week[number][0] += successes
        per_week[number][1] += failures
    history = tuple(
        WeekOutcomes(start, successes, failures, began if began and DAY < began - start < WEEK else None)
        for number in range(WEEKS_SHOWN)
        for start, (successes, failures) in [(first + number * WEEK, per_week[number])]
    )
    return tuple(jobs[job] for job in sorted(seen)), history


def outbox(conn: Connection, now: datetime) -> Outbox:
    """What waits in the outbox at `now`."""
    return Outbox(*rows(conn, WAITING, {"now": now})[0])


def weekly_review(
    conn: Connection, application: Application, now: datetime, scheduled: Sequence[str] = ()
) -> WeeklyReview:
    """The week before `now` against the one before it, and what is due, waiting or failing at `now`.

    `scheduled` names the jobs that must have run. Read-only. Raises psycopg's UndefinedTable before
    `lifecycle migrate`.
    """
    week = review_week(now, application.database.calendar)
    jobs, history = job_outcomes(conn, week, now, scheduled)
    statuses = [partition_status(conn, table, now) for table in monthly_tables(application)]
    return WeeklyReview(
        week=week,
        jobs=jobs,
        history=history,
        deletions=deletions_due(conn, now),
        default_rows={str(s.table.relation): s.default_rows if s.partitioned else None for s in statuses},
        storage=storage_growth(conn),
        storage_totals=storage_totals(conn, WEEKS_SHOWN * WEEK.days),
        cold=cold_months(conn, application, now),
        problems=tuple(OpenProblem(*row) for row in rows(conn, PROBLEMS)),
        outbox=outbox(conn, now),
    )
