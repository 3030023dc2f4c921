"""The sensor of deletion requests: what it asks for, when it does not, and that nobody is named by it."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from lifecycle.database import Connection
from lifecycle.erasures.policy import ERASURE
from lifecycle.erasures.queue import DueJob, hold, release
from orchestration.definitions import build_definitions, defs
from resources.postgres import ApplicationDatabase
from sensors.deletion_requests import (
    ASK_AGAIN_AFTER,
    JOB,
    MOST_LAUNCHES,
    MOST_RUNS,
    REQUESTS_TAG,
    deletion_requests_sensor,
    run_requests,
)
from tests.declared import APPLICATION
from tests.erasure_requests import job, ordinary_accounts, request_deletion, set_job

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.erasure_fixtures",)


@pytest.fixture
def url(settled_url: str) -> str:
    return settled_url


def look(url: str, instance: dg.DagsterInstance) -> dg.SensorResult:
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        result = deletion_requests_sensor(APPLICATION)(context, database=ApplicationDatabase(url=url))
    assert isinstance(result, dg.SensorResult)
    return result


def test_a_request_is_asked_for_once_and_the_run_proves_it(
    url: str, conn: Connection, instance: dg.DagsterInstance
) -> None:
    assert not look(url, instance).run_requests
    account = ordinary_accounts(conn)[0]
    request = request_deletion(conn, account)
    result = look(url, instance)
    (asked,) = result.run_requests or ()
    assert asked.tags == {REQUESTS_TAG: "1"}
    assert asked.run_key is not None
    assert asked.run_key.startswith(request)
    assert account not in str(result)
    (again,) = look(url, instance).run_requests or ()
    assert again.run_key.rpartition("-")[0] == asked.run_key.rpartition("-")[0]  # type: ignore[union-attr]
    run = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def(JOB)
    done = run.execute_in_process(instance=instance, run_config=dict(asked.run_config), tags=dict(asked.tags))
    assert done.success
    assert job(conn, request)["state"] == "verified"
    assert not look(url, instance).run_requests


def test_what_is_held_waits_or_is_at_work_is_not_asked_for(
    url: str, conn: Connection, instance: dg.DagsterInstance
) -> None:
    request = request_deletion(conn, ordinary_accounts(conn)[0])
    hold(conn, request, "a lawsuit")
    held = look(url, instance)
    assert (held.run_requests, held.skip_reason) == ([], dg.SkipReason("0 due, 0 waiting, 1 held"))
    release(conn, request)
    assert look(url, instance).run_requests
    # As a worker leaves it: pending again would mean that somebody asks anew.
    conn.execute("update data_deletion_requests set status = 'processing' where id = %s", (request,))
    now = datetime.now(UTC)
    past, future = str(now - timedelta(hours=1)), str(now + timedelta(hours=1))
    for state, values, asked in (
        ("failed", {"next_attempt_at": future}, 0),
        ("failed", {"next_attempt_at": past}, 1),
        ("running", {"lease_until": future}, 0),
        ("erased", {"lease_until": past}, 1),
        ("verified", {"lease_until": None}, 0),
    ):
        set_job(conn, request, state=state, **values)
        assert len(look(url, instance).run_requests or ()) == asked, (state, values)


def test_no_more_than_two_runs_at_a_time(url: str, conn: Connection, instance: dg.DagsterInstance) -> None:
    request_deletion(conn, ordinary_accounts(conn)[0])
    under_way = [dg.DagsterRun(JOB, status=dg.DagsterRunStatus.STARTED) for _ in range(MOST_RUNS)]
    for run in under_way:
        instance.add_run(run)
    assert not look(url, instance).run_requests
    instance.report_run_canceled(under_way[0])
    assert look(url, instance).run_requests


def test_a_run_that_never_started_is_asked_for_again_at_once_and_not_without_end(
    url: str, conn: Connection, instance: dg.DagsterInstance
) -> None:
    request_deletion(conn, ordinary_accounts(conn)[0])
    keys: list[str | None] = []
    for _ in range(MOST_LAUNCHES + 3):
        (asked,) = look(url, instance).run_requests or ()
        keys.append(asked.run_key)
        instance.report_run_failed(instance.create_run_for_job(defs.resolve_job_def(JOB)))
    counted = [str(key).rpartition(".")[2] for key in keys]
    assert counted == [str(min(number, MOST_LAUNCHES)) for number in range(MOST_LAUNCHES + 3)]


def test_one_run_per_batch_under_a_key_that_changes_with_every_try() -> None:
    now = datetime.now(UTC)
    due = [DueJob(str(number), 0, 0) for number in range(ERASURE.batch_size + 1)]
    requests = run_requests(due, MOST_RUNS, now)
    assert [request.tags[REQUESTS_TAG] for request in requests] == [str(ERASURE.batch_size), "1"]
    assert len(run_requests(due * 3, MOST_RUNS, now)) == MOST_RUNS
    assert run_requests(due, 0, now) == run_requests([], MOST_RUNS, now) == []
    first = DueJob("a", 0, 0)
    keys = {
        run_requests([asked], 1, moment)[0].run_key
        for asked in (first, DueJob("a", 1, 0), DueJob("a", 0, 1), DueJob("a", 0, 0, since=1))
        for moment in (now, now + ASK_AGAIN_AFTER)
    }
    assert len(keys) == 8
