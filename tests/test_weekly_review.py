"""The weekly review: its week, its figures on real rows, and one message per week."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from assets.review_chart import review_chart_png
from assets.weekly_review import deletions_result, outbox_result
from lifecycle.database import Connection, connect, rows, value
from lifecycle.policy import EVENT_TABLES
from lifecycle.storage_history import RelationGrowth, StorageGrowth, record_storage, storage_growth
from lifecycle.weekly_report import JOB, LONGEST_TABLE, record_weekly_review, report_content
from lifecycle.weekly_review import (
    WEEK,
    DeletionsDue,
    JobReview,
    OpenProblem,
    Outbox,
    WeeklyReview,
    WeekOutcomes,
    deletions_due,
    review_week,
    weekly_review,
)
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from tests.conftest import MakeApplicationDb

pytestmark = pytest.mark.one_server

pytest_plugins = ("tests.partitioned_fixtures",)

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
MEASURED = "insert into lifecycle.storage_history values (%s, %s, %s, %s)"


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


def job_named(review: WeeklyReview, name: str) -> JobReview:
    (found,) = [job for job in review.jobs if job.job == name]
    return found


@given(
    now=st.datetimes(datetime(2000, 1, 3), datetime(2100, 1, 1)),
    offset=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_week_is_seven_days_that_end_on_the_last_monday_in_tokyo(now: datetime, offset: timezone) -> None:
    moment = now.replace(tzinfo=offset)
    week = review_week(moment)
    assert week.end <= moment < week.end + WEEK
    assert week.end - week.start == WEEK
    for edge in (week.start.astimezone(TOKYO), week.end.astimezone(TOKYO)):
        assert edge.weekday() == 0
        assert edge.time() == datetime.min.time()
    assert review_week(week.end) == week
    assert review_week(week.end - MICROSECOND).end == week.start


def test_outcomes_at_the_microseconds_around_the_edges(conn: Connection) -> None:
    week = review_week(NINE)
    assert week.end == MONDAY
    for moment in (week.start, week.end - MICROSECOND):
        ran(conn, "within", moment, 10)
    for moment in (week.start - MICROSECOND, week.start - WEEK):
        ran(conn, "before", moment, 10, failed=True)
    for moment in (week.end, week.start - WEEK - MICROSECOND):
        ran(conn, "outside", moment, 10)
    review = weekly_review(conn, NINE)
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
    found = job_named(weekly_review(conn, NINE), "a_job")
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
    review = weekly_review(conn, NINE, ["never_ran"])
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
    review = weekly_review(conn, NINE)
    assert [job.job for job in review.jobs] == ["a_job"]
    found = job_named(review, "a_job")
    with_run = [payload for payload in JUNK if isinstance(payload, dict) and isinstance(payload["run_id"], str)]
    assert (found.successes, found.p50_ms, found.p95_ms) == (len(with_run) + 2, 40, 40)


def test_an_empty_database_and_jobs_that_never_ran(conn: Connection) -> None:
    review = weekly_review(conn, NINE, ["rotate_event_partitions", JOB])
    assert [job.job for job in review.jobs if job.never_ran and job.scheduled] == ["rotate_event_partitions", JOB]
    assert all(job.last_success is None and job.trend_percent is None for job in review.jobs)
    assert review.deletions == DeletionsDue()
    assert review.default_rows == {table.name: None for table in EVENT_TABLES}
    assert (review.problems, review.outbox, review.storage_totals) == ((), Outbox(0, 0.0), ())
    content = report_content(review)
    assert f"Scheduled, but did not run: rotate_event_partitions, {JOB}" in content["lines"]
    assert any("never measured" in line for line in content["lines"])
    assert "run_id" not in content
    assert review_chart_png(review).startswith(b"\x89PNG")


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
    assert deletions_due(conn, deadline - seven - MICROSECOND).due_soon == 0
    assert deletions_due(conn, deadline - seven).due_soon == 1
    early, late = deletions_due(conn, deadline - MICROSECOND), deletions_due(conn, deadline)
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
    review = weekly_review(partitioned, datetime.now(UTC))
    expected = {table.name: 0 for table in EVENT_TABLES} | {"user_behavior_events": 1}
    assert review.default_rows == expected
    assert "Default partitions: user_behavior_events 1 rows" in report_content(review)["lines"]


def test_sizes_of_partitions_are_summed_and_views_are_measured(partitioned: Connection) -> None:
    sizes = {size.relation: size for size in record_storage(partitioned)}
    for table in EVENT_TABLES:
        summed = value(
            partitioned,
            "select sum(pg_total_relation_size(inhrelid)) from pg_inherits where inhparent = %s::regclass",
            (table.qualified_name,),
        )
        assert sizes[table.qualified_name].bytes == summed > 0
    assert not [name for name in sizes if name.startswith("event_partitions.")]
    assert {"public.top_search_keywords", "public.accounts", "lifecycle.storage_history"} <= set(sizes)
    assert not {name for name in sizes if value(partitioned, "select to_regclass(%s) is null", (name,))}


def test_measured_once_per_day_and_kept_400_days(conn: Connection) -> None:
    today = value(conn, "select (now() at time zone 'UTC')::date")
    conn.execute(MEASURED, (today - timedelta(days=400), "public.kept", 1, 1))
    conn.execute(MEASURED, (today - timedelta(days=401), "public.gone", 1, 1))
    conn.execute(MEASURED, (today, "public.dropped_at_noon", 1, 1))
    conn.execute("set timezone = 'Pacific/Kiritimati'")
    first = record_storage(conn)
    conn.execute("insert into accounts (id) select gen_random_uuid() from generate_series(1, 5000)")
    again = record_storage(conn)
    stored = rows(conn, "select relation, bytes from lifecycle.storage_history where measured_on = %s", (today,))
    assert dict(stored) == {size.relation: size.bytes for size in again}
    assert len(first) == len(again)
    before, after = (next(s.bytes for s in sizes if s.relation == "public.accounts") for sizes in (first, again))
    assert after > before
    assert [
        row[0] for row in rows(conn, "select relation from lifecycle.storage_history where measured_on < %s", (today,))
    ] == ["public.kept"]
    assert value(conn, "select count(*) from audit_events where entity_id = 'record_storage'") == 2


def test_measuring_gives_up_behind_a_lock(conn: Connection) -> None:
    with psycopg.connect(conn.info.dsn, password=conn.info.password) as other:
        other.execute("lock table accounts in access exclusive mode")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            record_storage(conn)
    assert value(conn, "select count(*) from lifecycle.storage_history") == 0
    assert record_storage(conn)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_api_reaches_none_of_it(make_application_db: MakeApplicationDb, role: str, auto_grant: bool) -> None:
    with connect(make_application_db(rows=False, auto_grant=auto_grant, migrated=True)) as conn:
        for privilege in ("select", "insert", "update", "delete", "truncate"):
            closed = "select has_table_privilege(%s, 'lifecycle.storage_history', %s)"
            assert not value(conn, closed, (role, privilege))
        assert not value(conn, "select has_function_privilege(%s, 'lifecycle.record_storage()', 'execute')", (role,))


def test_growth_against_the_measurement_nearest_to_a_week_ago(conn: Connection) -> None:
    latest = date(2026, 11, 23)
    assert storage_growth(conn) == StorageGrowth(None, None, ())
    conn.execute(MEASURED, (latest, "public.a", 300, 3))
    conn.execute(MEASURED, (latest, "public.new", 50, 5))
    first = storage_growth(conn)
    assert (first.compared_with, first.total.bytes) == (None, 350)
    assert any("no comparison yet" in line for line in report_content(weekly_review(conn, NINE))["lines"])
    days = [1, 8, 9, 20]
    for distance in days:
        conn.execute(MEASURED, (latest - timedelta(days=distance), "public.a", 100 + distance, 1))
    conn.execute(MEASURED, (latest - timedelta(days=8), "public.gone", 30, 1))
    growth = storage_growth(conn)
    assert growth.compared_with == latest - timedelta(days=8)
    assert growth.relations == (
        RelationGrowth("public.a", 300, 108, 3),
        RelationGrowth("public.new", 50, 0, 5),
        RelationGrowth("public.gone", 0, 30, 0),
    )
    assert (growth.total.delta, growth.relations[1].percent) == (350 - 138, None)
    conn.execute(MEASURED, (latest - timedelta(days=6), "public.a", 1, 1))
    assert storage_growth(conn).compared_with == latest - timedelta(days=8)
    conn.execute(MEASURED, (latest - timedelta(days=7), "public.a", 1, 1))
    assert storage_growth(conn).compared_with == latest - timedelta(days=7)


def sent(conn: Connection) -> list[tuple[Any, ...]]:
    return rows(conn, "select content ->> 'week', content ->> 'run_id' from lifecycle.notifications order by id")


def test_one_message_per_week(conn: Connection) -> None:
    assert record_weekly_review(conn, weekly_review(conn, NINE), "run-1")
    conn.execute("update lifecycle.notifications set sent_version = version")
    assert not record_weekly_review(conn, weekly_review(conn, NINE + timedelta(days=6)), "run-2")
    assert record_weekly_review(conn, weekly_review(conn, NINE + WEEK), "run-3")
    assert sent(conn) == [("2026-11-16", "run-1"), ("2026-11-23", "run-3")]


def test_two_runs_at_once_send_one_message(conn: Connection) -> None:
    review = weekly_review(conn, NINE)
    ready, outcomes = threading.Barrier(3), []

    def send(number: int) -> None:
        with psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True) as session:
            ready.wait(30)
            outcomes.append(record_weekly_review(session, review, f"run-{number}"))

    with psycopg.connect(conn.info.dsn, password=conn.info.password) as holder:
        # Neither can write before the lock is gone, so that both are under way.
        holder.execute("lock table lifecycle.notifications in share mode")
        threads = [threading.Thread(target=send, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        ready.wait(30)
        waiting = "select count(*) from pg_locks where not granted and relation = 'lifecycle.notifications'::regclass"
        deadline = time.monotonic() + 30
        while value(conn, waiting) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, True]
    assert len(sent(conn)) == 1


def test_problems_and_waiting_messages(conn: Connection) -> None:
    for _ in range(2):
        conn.execute("select lifecycle.report_outcome('a_job', 'a_view', 'no such column')")
    conn.execute("update lifecycle.notifications set created_at = %s", (NINE - timedelta(hours=25),))
    review = weekly_review(conn, NINE)
    assert [(p.job, p.cause, p.times) for p in review.problems] == [("a_job", "a_view", 2)]
    assert review.outbox == Outbox(1, 25.0)
    assert "Open problems: 1 (a_job: a_view)" in report_content(review)["lines"]
    assert not outbox_result(review.outbox).passed
    assert outbox_result(Outbox(1, 24.0)).passed


def full_review(jobs: int = 60) -> WeeklyReview:
    week = review_week(NINE)
    names = [f"a_job_with_quite_a_long_name_number_{number}" for number in range(jobs)]
    relations = tuple(RelationGrowth(f"public.table_{n}", 10**9 - n, 9 * 10**8, 10**6) for n in range(40))
    return WeeklyReview(
        week=week,
        jobs=tuple(JobReview(name, True, "run", 168, 2, 1, 900.0, 12_500.0, 700.0) for name in names),
        history=tuple(WeekOutcomes(week.start - n * WEEK, 1200 - 20 * n, 3 * (n % 3)) for n in range(7, -1, -1)),
        deletions=DeletionsDue(4, 1, 1, 35, 1),
        default_rows={"user_behavior_events": 12_000, "session_replay_events": None},
        storage=StorageGrowth(MONDAY.date(), MONDAY.date() - WEEK, relations),
        storage_totals=tuple((MONDAY.date() - timedelta(days=n), 10**10 - n * 10**8) for n in range(55, -1, -1)),
        problems=tuple(OpenProblem("a_job", f"view_{number}", 3, week.start) for number in range(7)),
        outbox=Outbox(3, 2.0),
    )


def test_the_table_fits_into_a_slack_block() -> None:
    table = report_content(full_review())["table"]
    assert len(table) <= LONGEST_TABLE
    assert table.endswith("... cut; the whole table is in Dagster")
    short = report_content(full_review(jobs=5))["table"]
    assert "public.table_9" in short
    assert "public.table_10" not in short
    assert "(+11%)" in short


def test_the_chart_is_drawn_full_and_with_one_measurement() -> None:
    full = full_review()
    for review in (full, WeeklyReview(**{**vars(full), "storage_totals": full.storage_totals[-1:]})):
        assert review_chart_png(review).startswith(b"\x89PNG")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_the_jobs_run_and_nobody_is_named(make_application_db: MakeApplicationDb, instance: dg.DagsterInstance) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        late = "update data_deletion_requests set requested_at = now() - interval '40 days' where status = 'pending'"
        assert conn.execute(late).rowcount
    definitions = build_definitions(database=ApplicationDatabase(url=url))
    results = [
        definitions.resolve_job_def(job).execute_in_process(instance=instance)
        for job in ("record_storage", "weekly_job_review", "weekly_job_review")
    ]
    assert all(len(result.get_asset_check_evaluations()) == 2 for result in results)
    (event,) = results[1].asset_materializations_for_node("review_the_week")
    (second,) = results[2].asset_materializations_for_node("review_the_week")
    assert [e.metadata["sent_to_outbox"].value for e in (event, second)] == [True, False]
    assert {"jobs", "storage", "chart", "deletions_overdue"} <= set(event.metadata)
    table = event.metadata["jobs"]
    assert isinstance(table, dg.TableMetadataValue)
    names = {record.data["job"] for record in table.records}
    assert {"rotate_event_partitions", "run_daily_maintenance", "weekly_job_review", "record_storage"} <= names
    with connect(url) as conn:
        content = value(conn, "select content from lifecycle.notifications where kind = 'report'")
        assert content["run_id"] == results[1].run_id
        personal = {
            text for (text,) in rows(conn, "select id::text from accounts union select email from form_submissions")
        }
        overdue = value(
            conn,
            """select count(*) from data_deletion_requests where status in ('pending', 'processing')
                and (requested_at at time zone 'Asia/Tokyo' + interval '1 month') at time zone 'Asia/Tokyo' <= now()""",
        )
    assert len(personal) > 100
    told = json.dumps([content, str(event.metadata)])
    assert not [text for text in personal if text in told]
    assert event.metadata["deletions_overdue"].value == overdue > 0
    evaluations = {e.check_name: e for e in results[1].get_asset_check_evaluations()}
    assert evaluations["no_overdue_deletions"].metadata["overdue"].value == overdue
