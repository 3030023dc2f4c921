"""How every run ended, written to the application's ledger.

Dagster's run-failure sensors move their cursor even when they raise, and a database that is away is just
when runs fail. This sensor keeps its own cursor: what could not be written is written at the next look.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from lifecycle.audit import JobOutcome, record_job_outcome
from resources.postgres import ApplicationDatabase

ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# A run whose end was stored late, behind the cursor, is still seen; the ledger takes each run once.
OVERLAP: Final = timedelta(minutes=5)
FIRST_LOOK_BACK: Final = timedelta(days=1)


def _failure(record: dg.EventLogRecord) -> tuple[str, str | None]:
    event = record.event_log_entry.get_dagster_event()
    if event.event_type is not dg.DagsterEventType.STEP_FAILURE:
        return event.message or "no reason was recorded", None
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description, event.step_key
    error = failure.error and (failure.error.cause or failure.error)
    return error.message.strip() if error else "no reason was recorded", event.step_key


def failure_of(instance: dg.DagsterInstance, run_id: str) -> tuple[str, str | None]:
    """Why a run failed and in which step, None where it failed outside of its steps."""
    for kind in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE):
        records = instance.get_records_for_run(run_id, of_type=kind, limit=1).records
        if records:
            return _failure(records[0])
    return "its process ended without a word", None


def outcome_of(instance: dg.DagsterInstance, record: dg.RunRecord) -> JobOutcome:
    """A run that ended, in the ledger's terms; a cancelled run counts as failed."""
    run = record.dagster_run
    error, step = None, None
    if run.status is dg.DagsterRunStatus.FAILURE:
        error, step = failure_of(instance, run.run_id)
    elif run.status is dg.DagsterRunStatus.CANCELED:
        error = "canceled"
    duration = None
    if record.start_time is not None and record.end_time is not None:
        duration = round((record.end_time - record.start_time) * 1000)
    return JobOutcome(job=run.job_name, run_id=run.run_id, duration_ms=duration, error=error, step=step)


@dg.sensor(
    name="run_outcomes",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Writes one job_success or job_failure row per run to public.audit_events.",
)
def run_outcomes(context: dg.SensorEvaluationContext, database: ApplicationDatabase) -> dg.SensorResult:
    """Record every run of this code location that ended since the last look."""
    now = datetime.now(UTC)
    since = datetime.fromisoformat(context.cursor) - OVERLAP if context.cursor else now - FIRST_LOOK_BACK
    records = context.instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, updated_after=since), order_by="update_timestamp", ascending=True
    )
    ours = set(context.repository_def.job_names) if context.repository_def else set()
    outcomes = [outcome_of(context.instance, record) for record in records if record.dagster_run.job_name in ours]
    written = 0
    if outcomes:
        with database.connect() as conn:
            written = sum(record_job_outcome(conn, outcome) for outcome in outcomes)
    return dg.SensorResult(skip_reason=f"{written} outcomes recorded", cursor=now.isoformat())
