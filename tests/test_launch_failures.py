"""A run that the launcher or the code server could not start: what its alert says."""

from datetime import UTC, datetime

import dagster as dg
import psycopg
import pytest
import yaml

from lifecycle.database import value
from orchestration.definitions import defs
from orchestration.demo.services import PROJECT
from resources.dagster_private import DagsterUserCodeUnreachableError
from resources.postgres import ApplicationDatabase
from sandbox.slack_server import SlackServer
from sensors.launch_failures import tried_again
from sensors.notifications import notifications
from sensors.run_outcomes import run_outcomes
from tests.conftest import MakeApplicationDb
from tests.outbox import problems, slack_for

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.slack_fixtures",)

SAID = (
    "Could not reach user code server at postgresql://postgres:secret-word@db.example.com:5432/x. "
    "gRPC Error code: UNAVAILABLE\nsecond line"
)


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def launched_in_vain(instance: dg.DagsterInstance, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the daemon launches a run, with a code server that does not answer."""

    def unreachable(_context: object) -> None:
        raise DagsterUserCodeUnreachableError(SAID)

    monkeypatch.setattr(instance.run_launcher, "launch_run", unreachable)
    run = instance.create_run_for_job(defs.resolve_job_def(job))
    with pytest.raises(DagsterUserCodeUnreachableError):
        instance.launch_run(run.run_id, None)  # type: ignore[arg-type]


def test_the_alert_quotes_the_engine_and_says_when_it_is_tried_again(
    url: str,
    conn: psycopg.Connection,
    instance: dg.DagsterInstance,
    fake: SlackServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for job in ("record_storage", "erase_personal_data", "convert_event_tables"):
        launched_in_vain(instance, job, monkeypatch)
    database = ApplicationDatabase(url=url)
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        run_outcomes(context, database=database)
        notifications(context, database=database, slack=slack_for(fake))
    told = {job: error for (job, _), (error, _) in problems(conn).items()}
    reason = "the run did not start: Could not reach user code server at ... gRPC Error code: UNAVAILABLE; "
    assert told["erase_personal_data"] == f"{reason}it is asked for again within a minute"
    assert told["convert_event_tables"] == f"{reason}nothing starts it again: launch it"
    assert told["record_storage"].startswith(f"{reason}the timetable starts it again at ")
    assert " 04:20 Asia/Tokyo, or launch it now" in told["record_storage"]
    shown = str([message.blocks for message in fake.channel.messages])
    assert shown.count("did not start") == 3
    assert shown.count("04:20 Asia/Tokyo, or launch it now") == 1
    assert "secret-word" not in shown
    assert not value(conn, "select count(*) from lifecycle.open_problems where error ~ 'secret|second line'")


def test_a_run_that_waited_too_long_for_its_process_says_so(
    url: str, conn: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    late = instance.create_run_for_job(defs.resolve_job_def("record_storage"))
    instance.report_run_failed(late, "Run timed out due to taking longer than 120 seconds to start.")
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        run_outcomes(context, database=ApplicationDatabase(url=url))
    ((error, _),) = problems(conn).values()
    assert error.startswith("the run did not start: Run timed out due to taking longer than 120 seconds to start; ")


def test_the_next_start_is_the_soonest_of_the_timetable() -> None:
    schedules = defs.get_repository_def().schedule_defs
    # The first of a month in Tokyo has the monthly rotation at 00:30, before the daily one.
    eve = datetime(2026, 11, 30, 14, 59, tzinfo=UTC)
    assert "2026-12-01 00:30 Asia/Tokyo" in tried_again(schedules, "rotate_event_partitions", eve)
    assert "2026-11-30 01:30 Asia/Tokyo" in tried_again(
        schedules, "rotate_event_partitions", datetime(2026, 11, 29, 16, tzinfo=UTC)
    )


def test_a_code_server_that_does_not_answer_is_asked_again() -> None:
    queue = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))["run_queue"]
    assert queue["max_user_code_failure_retries"] > 0
    assert queue["user_code_failure_retry_delay"] * queue["max_user_code_failure_retries"] <= 60
