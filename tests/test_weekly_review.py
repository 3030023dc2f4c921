"""The weekly review: its week, its figures on real rows, and what waits for somebody."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from assets.pictures import png
from assets.review import deletions_result, review_metadata
from assets.review_chart import review_chart
from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.due import DeletionsDue, deletions_due
from lifecycle.language import set_language
from lifecycle.review.report import JOB, report_content
from lifecycle.review.weekly import (
    WEEK,
    JobReview,
    Outbox,
    WeeklyReview,
    review_week,
    weekly_review,
)
from tests.cold import COLD, MakeColdDb, local_storage, month, move_all, objects, with_cold_months
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES
from tests.partitioned import BEHAVIOR, insert_events
from tests.texts import english_in

pytestmark = pytest.mark.one_server

pytest_plugins = ("tests.cold_fixtures",)

TOKYO = ZoneInfo("Asia/Tokyo")
MICROSECOND = timedelta(microseconds=1)
MONDAY = datetime(2026, 11, 23, tzinfo=TOKYO)
NINE = MONDAY.replace(hour=9)
AUDIT = """
insert into audit_events (entity_type, entity_id, event_type, payload, created_at)
values ('job', %s, %s, %s, %s)
"""
REQUEST = """
insert into data_deletion_requests (account_id, status, requested_at)
values ((select min(id::text)::uuid from accounts), %s, %s)
"""


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """An autocommit session in a migrated database whose only row is one account."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        session.execute("insert into accounts (id) values (gen_random_uuid())")
        yield session


def outcome(conn: Connection, job: str, moment: datetime, payload: Any = None, *, failed: bool = False) -> None:
    event = "job_failure" if failed else "job_success"
    conn.execute(AUDIT, (job, event, Jsonb({} if payload is None else payload), moment))


def ran(conn: Connection, job: str, moment: datetime, duration: Any, *, failed: bool = False) -> None:
    outcome(conn, job, moment, {"run_id": f"{job} {moment}", "duration_ms": duration}, failed=failed)


def due_at(conn: Connection, moment: datetime) -> DeletionsDue:
    found = deletions_due(conn, moment)
    assert found is not None
    return found


def job_named(review: WeeklyReview, name: str) -> JobReview:
    (found,) = [job for job in review.jobs if job.job == name]
    return found


@given(
    now=st.datetimes(datetime(2000, 1, 3), datetime(2100, 1, 1)),
    offset=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_week_is_seven_days_that_end_on_the_last_monday_in_tokyo(now: datetime, offset: timezone) -> None:
    moment = now.replace(tzinfo=offset)
    week = review_week(moment, "Asia/Tokyo")
    assert week.end <= moment < week.end + WEEK
    assert week.end - week.start == WEEK
    for edge in (week.start.astimezone(TOKYO), week.end.astimezone(TOKYO)):
        assert edge.weekday() == 0
        assert edge.time() == datetime.min.time()
    assert review_week(week.end, "Asia/Tokyo") == week
    assert review_week(week.end - MICROSECOND, "Asia/Tokyo").end == week.start


def test_outcomes_at_the_microseconds_around_the_edges(conn: Connection) -> None:
    week = review_week(NINE, "Asia/Tokyo")
    assert week.end == MONDAY
    for moment in (week.start, week.end - MICROSECOND):
        ran(conn, "within", moment, 10)
    for moment in (week.start - MICROSECOND, week.start - WEEK):
        ran(conn, "before", moment, 10, failed=True)
    for moment in (week.end, week.start - WEEK - MICROSECOND):
        ran(conn, "outside", moment, 10)
    review = weekly_review(conn, APPLICATION, NINE)
    assert (job_named(review, "within").successes, job_named(review, "within").failures_before) == (2, 0)
    assert (job_named(review, "before").failures, job_named(review, "before").failures_before) == (0, 2)
    assert [job.job for job in review.jobs] == ["before", "within"]
    assert [(h.successes, h.failures) for h in review.history[-3:]] == [(1, 0), (0, 2), (2, 0)]
    assert [h.start for h in review.history] == [MONDAY - (8 - number) * WEEK for number in range(8)]


def test_durations_trend_and_last_success(conn: Connection) -> None:
    durations = [100.0, 300.0, 200.0, 900.0, 250.5]
    for number, duration in enumerate(durations):
        ran(conn, "a_job", MONDAY - timedelta(days=1, hours=number), duration)
    ran(conn, "a_job", MONDAY - timedelta(days=2), 5, failed=True)
    ran(conn, "a_job", MONDAY - timedelta(days=8), 200)
    ran(conn, "a_job", MONDAY + timedelta(hours=3), 200)
    found = job_named(weekly_review(conn, APPLICATION, NINE), "a_job")
    p50, p95 = rows(
        conn,
        "select percentile_cont(array[0.5, 0.95]) within group (order by d) from unnest(%s::float8[]) d",
        (durations,),
    )[0][0]
    assert (found.p50_ms, found.p95_ms, found.p50_before_ms) == (p50, p95, 200)
    assert found.trend_percent == pytest.approx((p50 / 200 - 1) * 100)
    assert (found.successes, found.failures) == (len(durations), 1)
    assert found.last_success == MONDAY + timedelta(hours=3)


def test_nothing_counts_twice(conn: Connection) -> None:
    moment = MONDAY - timedelta(days=1)
    for number in range(3):
        ran(conn, "by_dagster", moment + timedelta(minutes=number), 1000, failed=number == 2)
        for table in ("a", "b"):
            outcome(conn, "by_dagster", moment, {"table": table, "duration_ms": 7, "error": None})
    outcome(conn, "by_dagster", moment, {"object": "c", "duration_ms": 7, "error": "no"}, failed=True)
    for table in ("a", "b"):
        outcome(conn, "by_psql", moment, {"object": table, "duration_ms": 7})
    for notice in ("stale a/b", "check c on a/b"):
        for job in ("by_dagster", "by_psql", "never_ran"):
            outcome(conn, job, moment, {"object": notice, "error": "late"}, failed=True)
    review = weekly_review(conn, APPLICATION, NINE, ["never_ran"])
    idle = job_named(review, "never_ran")
    assert (idle.never_ran, idle.other_failures) == (True, 2)
    both, alone = job_named(review, "by_dagster"), job_named(review, "by_psql")
    assert (both.counted_by, both.successes, both.failures, both.other_failures, both.p50_ms) == ("run", 2, 1, 3, 1000)
    assert (alone.counted_by, alone.successes, alone.p50_ms, alone.other_failures) == ("object", 2, 7, 2)
    assert (review.history[-1].successes, review.history[-1].failures) == (4, 1)
    assert "by_psql*" in report_content(review)["table"]


JUNK = [
    [],
    "run_id",
    ["run_id", "duration_ms"],
    None,
    7,
    {"run_id": None, "duration_ms": None},
    {"run_id": 5, "duration_ms": "12"},
    {"run_id": "r", "duration_ms": "soon"},
    {"run_id": "r", "duration_ms": {"ms": 3}},
    {"run_id": "r", "duration_ms": -1},
    {"run_id": "r", "duration_ms": True},
]


def test_junk_in_payloads_breaks_nothing(conn: Connection) -> None:
    moment = MONDAY - timedelta(days=1)
    ran(conn, "a_job", moment, 40)
    for payload in JUNK:
        outcome(conn, "a_job", moment, payload)
    outcome(conn, "a_job", moment, {"run_id": "r", "duration_ms": 10**400})
    for name in ("alice@example.com", "0a6f8c8e-1111-4222-8333-444455556666", "with space", "", "x" * 200):
        ran(conn, name, moment, 1)
    conn.execute(AUDIT, ("a_job", "job_success", Jsonb({}), "infinity"))
    conn.execute(AUDIT, ("a_job", "job_success", Jsonb({}), "-infinity"))
    review = weekly_review(conn, APPLICATION, NINE)
    assert [job.job for job in review.jobs] == ["a_job"]
    found = job_named(review, "a_job")
    with_run = [payload for payload in JUNK if isinstance(payload, dict) and isinstance(payload["run_id"], str)]
    assert (found.successes, found.p50_ms, found.p95_ms) == (len(with_run) + 2, 40, 40)


def test_an_empty_database_and_jobs_that_never_ran(conn: Connection) -> None:
    review = weekly_review(conn, APPLICATION, NINE, ["rotate_event_partitions", JOB])
    assert [job.job for job in review.jobs if job.never_ran and job.scheduled] == ["rotate_event_partitions", JOB]
    assert all(job.last_success is None and job.trend_percent is None for job in review.jobs)
    assert review.deletions == DeletionsDue()
    assert review.default_rows == {table.qualified_name: None for table in EVENT_TABLES}
    assert (review.problems, review.outbox, review.storage_totals) == ((), Outbox(0, 0.0), ())
    content = report_content(review)
    assert f"Scheduled, but did not run: rotate_event_partitions, {JOB}" in content["lines"]
    assert any("never measured" in line for line in content["lines"])
    assert "run_id" not in content
    assert png(review_chart(review)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("requested", "deadline"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=TOKYO), datetime(2026, 2, 28, 12, tzinfo=TOKYO)),
        (datetime(2028, 1, 31, 12, tzinfo=TOKYO), datetime(2028, 2, 29, 12, tzinfo=TOKYO)),
        (datetime(2026, 3, 31, 0, tzinfo=TOKYO), datetime(2026, 4, 30, 0, tzinfo=TOKYO)),
        # In UTC still the last of January, and a month later 28 February 20:00 UTC, five hours late.
        (datetime(2026, 2, 1, 5, tzinfo=TOKYO), datetime(2026, 3, 1, 5, tzinfo=TOKYO)),
        (datetime(2026, 2, 28, 9, tzinfo=TOKYO), datetime(2026, 3, 28, 9, tzinfo=TOKYO)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_the_deadline_is_one_calendar_month_in_tokyo(
    conn: Connection, requested: datetime, deadline: datetime, zone: str
) -> None:
    conn.execute("select set_config('timezone', %s, false)", (zone,))
    conn.execute(REQUEST, ("pending", requested))
    seven = timedelta(days=7)
    assert due_at(conn, deadline - seven - MICROSECOND).due_soon == 0
    assert due_at(conn, deadline - seven).due_soon == 1
    early, late = due_at(conn, deadline - MICROSECOND), due_at(conn, deadline)
    assert (early.due_soon, early.overdue) == (1, 0)
    assert (late.due_soon, late.overdue, late.open) == (0, 1, 1)
    assert late.oldest_days == (deadline - requested).days


def test_only_requests_that_wait_are_due(conn: Connection) -> None:
    long_ago = NINE - timedelta(days=90)
    for status in ("pending", "processing", "completed", "failed"):
        conn.execute(REQUEST, (status, long_ago))
    due = deletions_due(conn, NINE)
    assert due == DeletionsDue(open=2, due_soon=0, overdue=2, oldest_days=90, failed=1)
    assert not deletions_result(due).passed
    assert deletions_result(due).severity is dg.AssetCheckSeverity.ERROR
    soon = deletions_result(DeletionsDue(open=1, due_soon=1))
    assert (soon.passed, soon.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert deletions_result(DeletionsDue(open=3)).passed


def test_rows_in_default_partitions_are_told(partitioned: Connection) -> None:
    partitioned.execute(
        "insert into user_behavior_events (session_id, event_timestamp, page_url) values ('s', '2090-01-01', '/')"
    )
    review = weekly_review(partitioned, APPLICATION, datetime.now(UTC))
    expected = {table.qualified_name: 0 for table in EVENT_TABLES} | {"public.user_behavior_events": 1}
    assert review.default_rows == expected
    assert "Default partitions: public.user_behavior_events 1 rows" in report_content(review)["lines"]


PARTITIONS_BYTES = """
select sum(pg_total_relation_size(i.inhrelid))::bigint
  from pg_inherits i where i.inhparent = 'user_behavior_events'::regclass
"""
# What stays in the database of months in files: columns that views read, rows that wait to go back.
HELD_BYTES = """
select sum(pg_total_relation_size(c.oid))::bigint from pg_class c
 where c.relnamespace = 'event_partitions'::regnamespace and c.relkind = 'r'
   and c.relname ~ '^user_behavior_events_(narrow|thawed)'
"""


def cold_lines(review: WeeklyReview) -> list[str]:
    told = report_content(review)["lines"]
    return [line for line in told if "Cold months" in line or "古い月" in line]


def test_cold_months_are_told_with_what_they_cost(make_cold_db: MakeColdDb, tmp_path: Path) -> None:
    url, folder, now = make_cold_db(), tmp_path / "store", datetime.now(UTC)
    with connect(url) as conn:
        insert_events(conn, BEHAVIOR, month(3) + timedelta(days=2), session="many", rows=2000)
        (before,) = weekly_review(conn, COLD, now).cold
        assert (before.months, before.cold_bytes, before.bytes_before) == (0, 0, 0)
        assert before.database_bytes == value(conn, PARTITIONS_BYTES) + value(conn, HELD_BYTES)
        moved = sum(each.hot_bytes for each in move_all(url, local_storage(folder)))
        review = weekly_review(conn, COLD, now)
        (found,) = review.cold
        held = value(conn, HELD_BYTES)
        assert held > 2000 * 8, "views read columns of cold rows"
        assert found.database_bytes == value(conn, PARTITIONS_BYTES) + held < before.database_bytes
        assert found.cold_bytes == sum((folder / name).stat().st_size for name in objects(folder)) > 0
        assert found.bytes_before == moved > found.cold_bytes
        prices, cost = COLD.operations.prices, found.cost
        assert prices is not None
        assert cost is not None
        assert (cost.hot, cost.cold, cost.had_they_stayed) == (
            pytest.approx(found.database_bytes * prices.database / 1e9),
            pytest.approx(found.cold_bytes * prices.cold / 1e9),
            pytest.approx(moved * prices.database / 1e9),
        )
        (line,) = cold_lines(review)
        assert line.startswith("Cold months of public.user_behavior_events: ")
        assert line.endswith("; a month costs less than 0.01 USD")
        dear = prices.model_copy(update={"database": 20_000.0, "cold": 10_000.0})
        priced = COLD.model_copy(update={"operations": COLD.operations.model_copy(update={"prices": dear})})
        (line,) = cold_lines(review_priced := weekly_review(conn, priced, now))
        hot, cold = found.database_bytes * 2e-5, found.cold_bytes * 1e-5
        assert 1 > cold > 0.01
        assert f"; a month costs {hot:.2f} USD in the database and {cold:.2f} in files" in line
        assert review_metadata(review)["cold_months"].records[0].data["months"] == len(objects(folder)) == 3
        # Without prices the bytes alone; without cold months nothing; before the migration that makes them neither.
        unpriced = COLD.model_copy(update={"operations": COLD.operations.model_copy(update={"prices": None})})
        (line,) = cold_lines(weekly_review(conn, unpriced, now))
        assert "in files (took " in line
        assert "cost" not in line
        silent = [weekly_review(conn, with_cold_months(), now)]
        conn.execute("alter table lifecycle.cold_files rename to elsewhere")
        silent.append(weekly_review(conn, COLD, now))
    for each in silent:
        assert not cold_lines(each)
        assert "cold_months" not in review_metadata(each)
    set_language("ja")
    told = [*cold_lines(review), *cold_lines(review_priced)]
    set_language("")
    assert "1 か月の料金：0.01 USD 未満" in told[0]
    assert "1 か月の料金：データベース" in told[1]
    assert not any(map(english_in, told))
