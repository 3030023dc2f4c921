"""The report of the weekly review: one message per week that fits into Slack and names nobody."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest

from assets.pictures import png
from assets.review import outbox_result
from assets.review_chart import review_chart
from lifecycle.cold.cost import MonthlyCost
from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.due import DeletionsDue
from lifecycle.review.cold_months import ColdMonths
from lifecycle.review.report import LONGEST_TABLE, record_weekly_review, report_content
from lifecycle.review.storage import RelationGrowth, StorageGrowth
from lifecycle.review.weekly import (
    WEEK,
    JobReview,
    OpenProblem,
    Outbox,
    WeeklyReview,
    WeekOutcomes,
    review_week,
    weekly_review,
)
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

pytestmark = pytest.mark.one_server

TOKYO = ZoneInfo("Asia/Tokyo")
MONDAY = datetime(2026, 11, 23, tzinfo=TOKYO)
NINE = MONDAY.replace(hour=9)


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """An autocommit session in a migrated database whose only row is one account."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        session.execute("insert into accounts (id) values (gen_random_uuid())")
        yield session


def sent(conn: Connection) -> list[tuple[Any, ...]]:
    return rows(conn, "select content ->> 'week', content ->> 'run_id' from lifecycle.notifications order by id")


def test_one_message_per_week(conn: Connection) -> None:
    assert record_weekly_review(conn, weekly_review(conn, APPLICATION, NINE), "run-1")
    conn.execute("update lifecycle.notifications set sent_version = version")
    assert not record_weekly_review(conn, weekly_review(conn, APPLICATION, NINE + timedelta(days=6)), "run-2")
    assert record_weekly_review(conn, weekly_review(conn, APPLICATION, NINE + WEEK), "run-3")
    assert sent(conn) == [("2026-11-16", "run-1"), ("2026-11-23", "run-3")]


def test_two_runs_at_once_send_one_message(conn: Connection) -> None:
    review = weekly_review(conn, APPLICATION, NINE)
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
    review = weekly_review(conn, APPLICATION, NINE)
    assert [(p.job, p.cause, p.times) for p in review.problems] == [("a_job", "a_view", 2)]
    assert review.outbox == Outbox(1, 25.0)
    assert "Open problems: 1 (a_job: a_view)" in report_content(review)["lines"]
    assert not outbox_result(review.outbox).passed
    assert outbox_result(Outbox(1, 24.0)).passed


def full_review(jobs: int = 60) -> WeeklyReview:
    week = review_week(NINE, "Asia/Tokyo")
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
        cold=(ColdMonths("public.table_1", 9, 10**9, 10**8, 9 * 10**8, MonthlyCost(0.12, 0.002, 0.11, "USD")),),
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
        assert png(review_chart(review)).startswith(b"\x89PNG")


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
    assert {"jobs", "storage", "picture", "deletions_overdue"} <= set(event.metadata)
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
