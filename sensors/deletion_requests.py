"""Deletion requests: turns new ones into jobs and asks for a run per batch of jobs that are due."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from lifecycle.declarations.application import Application
from lifecycle.erasures.policy import ERASURE
from lifecycle.erasures.queue import DueJob, due_jobs, enqueue, queue_status
from resources.postgres import ApplicationDatabase
from sensors.outages import waits_while_away

JOB: Final = "erase_personal_data"
# Two workers share the queue without meeting; more would only wait for each other's disk.
MOST_RUNS: Final = 2
REQUESTS_TAG: Final = "lifecycle/deletion_requests"
# Dagster never starts a second run under one key. One that died before it claimed anything left the job as it was, so
# the key changes with the clock as well.
ASK_AGAIN_AFTER: Final = timedelta(minutes=10)
# So it does after each run that never started, so often within that time: a person waits behind it.
MOST_LAUNCHES: Final = 5
UNDER_WAY: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def run_requests(due: Sequence[DueJob], free: int, now: datetime, not_started: int = 0) -> list[dg.RunRequest]:
    """A request per batch of due jobs, `free` at most, known by its most urgent job and how often that was tried.

    `not_started`: how many runs of the last ten minutes never started.
    """
    bucket = f"{int(now.timestamp() // ASK_AGAIN_AFTER.total_seconds())}.{min(not_started, MOST_LAUNCHES)}"
    requests = []
    for start in range(0, len(due), ERASURE.batch_size)[:free]:
        batch = due[start : start + ERASURE.batch_size]
        first = batch[0]
        key = f"{first.request_id}-{first.attempts}-{first.recurrences}-{first.since}-{bucket}"
        requests.append(dg.RunRequest(run_key=key, tags={REQUESTS_TAG: str(len(batch))}))
    return requests


def runs_under_way(instance: dg.DagsterInstance) -> int:
    """Runs of the job that were asked for and have not ended."""
    return instance.get_runs_count(dg.RunsFilter(job_name=JOB, statuses=UNDER_WAY))


def launches_that_failed(instance: dg.DagsterInstance, now: datetime) -> int:
    """Runs of the job that ended within the last ten minutes and had never started."""
    failed = dg.RunsFilter(job_name=JOB, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - ASK_AGAIN_AFTER)
    return sum(record.start_time is None for record in instance.get_run_records(failed))


def deletion_requests_sensor(application: Application) -> dg.SensorDefinition:
    """The sensor of the declared requests."""

    @dg.sensor(
        name="deletion_requests",
        job_name=JOB,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        description="Makes jobs of new deletion requests and starts a run for each batch that is due.",
    )
    @waits_while_away
    def deletion_requests(context: dg.SensorEvaluationContext, database: ApplicationDatabase) -> dg.SensorResult:
        """Enqueue what is new, and ask for runs as long as fewer than two are under way."""
        free = max(0, MOST_RUNS - runs_under_way(context.instance))
        with database.connect() as conn:
            changed = enqueue(conn)
            due = due_jobs(conn, MOST_RUNS * ERASURE.batch_size)
            status = queue_status(conn, application)
        if changed:
            context.log.info(f"{len(changed)} requests enqueued, held or released")
        now = datetime.now(UTC)
        requests = run_requests(due, free, now, launches_that_failed(context.instance, now) if due else 0)
        told = f"{len(due)} due, {status.waiting} waiting, {status.held} held"
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else told)

    return deletion_requests
