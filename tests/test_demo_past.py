"""The past that the demo makes up: where it stands, and that it is made up once."""

from datetime import UTC, datetime, timedelta

from lifecycle.database import connect, value
from lifecycle.review.weekly import weekly_review
from orchestration.definitions import build_definitions
from orchestration.demo.runs import past_ticks
from orchestration.schedules import build_schedules
from sandbox.past_weeks import make_up_past_weeks
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

NAMES = {job.name for job in build_definitions(APPLICATION).jobs or ()}
JOBS = sorted({schedule.job_name for schedule in build_schedules(NAMES, APPLICATION)})


def test_the_past_follows_the_timetable_and_fills_the_review(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    now = datetime.now(UTC)
    ticks = list(past_ticks(APPLICATION, now, timedelta(weeks=8)))
    assert {job for job, _ in ticks} == set(JOBS)
    assert all(now - timedelta(weeks=8) <= at < now for _, at in ticks)
    hourly = [at for job, at in ticks if job == "refresh_analytics_hourly"]
    assert len(hourly) == 8 * 7 * 24
    assert make_up_past_weeks(url, ticks) == len(ticks)
    with connect(url) as conn:
        review = weekly_review(conn, APPLICATION, now, JOBS)
    assert {job.job for job in review.jobs if job.successes} == set(JOBS)
    assert review.history[-1].successes > review.history[-1].failures > 0
    assert review.storage.compared_with is not None
    assert review.storage.total.bytes > review.storage.total.bytes_before > 0
    assert not review.problems, "what is long over alarms nobody"


def test_a_database_with_a_past_keeps_its_own(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    ticks = [("rotate_event_partitions", datetime.now(UTC) - timedelta(days=3))]
    assert [make_up_past_weeks(url, ticks) for _ in range(2)] == [1, 0]
    with connect(url) as conn:
        assert value(conn, "select count(*) from audit_events where entity_type = 'job' and payload ? 'run_id'") == 1
