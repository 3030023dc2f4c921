"""How every run and every check of it ended: into the application's ledger, and into the outbox where people must know.

Dagster's run-failure sensors move their cursor even when they raise, and a database that is away is just
when runs fail. This sensor keeps its own cursor: what could not be written is written at the next look.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from lifecycle.ledger.outcomes import CANCELED, CheckOutcome, JobOutcome, record_job_outcome
from resources.postgres import ApplicationDatabase
from sensors.launch_failures import engine_error, told, tried_again
from sensors.outages import waits_while_away
from sensors.ownership import coverage, jobs_of_assets

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


def why_ended(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Why run monitoring ended a run that took too long; its process reports itself canceled after that."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE, limit=1).records
    return _failure(records[0])[0] if records else None


def checks_of(
    instance: dg.DagsterInstance, run: dg.DagsterRun, makers: Mapping[dg.AssetKey, str]
) -> list[CheckOutcome]:
    """How each check of a run ended; of one that was evaluated again, the last time."""
    found: dict[tuple[dg.AssetKey, str], CheckOutcome] = {}
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    for record in records:
        evaluation = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
        failed = not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
        found[evaluation.asset_key, evaluation.check_name] = CheckOutcome(
            job=makers.get(evaluation.asset_key, run.job_name),
            asset=evaluation.asset_key.to_user_string(),
            check=evaluation.check_name,
            error=(evaluation.description or "failed") if failed else None,
        )
    return list(found.values())


def outcome_of(
    instance: dg.DagsterInstance,
    record: dg.RunRecord,
    makers: Mapping[dg.AssetKey, str],
    now: datetime,
    seen_at: float,
    schedules: Sequence[dg.ScheduleDefinition] = (),
) -> JobOutcome:
    """A run that ended, in the ledger's terms, as seen `now`; a canceled run counts as failed, and alarms nobody."""
    run = record.dagster_run
    error, step = None, None
    if run.status is dg.DagsterRunStatus.FAILURE:
        error, step = failure_of(instance, run.run_id)
        if record.start_time is None:
            reason = engine_error(instance, run.run_id) or error
            error = told(reason, tried_again(schedules, run.job_name, now))
    elif run.status is dg.DagsterRunStatus.CANCELED:
        error = why_ended(instance, run.run_id) or CANCELED
    duration = None
    if record.start_time is not None and record.end_time is not None:
        duration = round((record.end_time - record.start_time) * 1000)
    covered = coverage(instance, run, makers)
    return JobOutcome(
        job=run.job_name,
        run_id=run.run_id,
        duration_ms=duration,
        error=error,
        step=step,
        about=covered.about,
        part=covered.part,
        proves_part=covered.proves_part,
        ended_ago=max(0.0, now.timestamp() - record.end_time) if record.end_time is not None else 0,
        seen_at=seen_at,
        checks=tuple(checks_of(instance, run, makers)),
    )


@dg.sensor(
    name="run_outcomes",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Writes how each run and each failed check ended to the ledger and reports what fails.",
)
@waits_while_away
def run_outcomes(context: dg.SensorEvaluationContext, database: ApplicationDatabase) -> dg.SensorResult:
    """Record every run of this code location that ended since the last look."""
    now, seen_at = datetime.now(UTC), time.monotonic()
    since = datetime.fromisoformat(context.cursor) - OVERLAP if context.cursor else now - FIRST_LOOK_BACK
    records = context.instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, updated_after=since), order_by="update_timestamp", ascending=True
    )
    ours = set(context.repository_def.job_names) if context.repository_def else set()
    makers = jobs_of_assets(context.repository_def) if context.repository_def else {}
    schedules = context.repository_def.schedule_defs if context.repository_def else ()
    outcomes = [
        outcome_of(context.instance, record, makers, now, seen_at, schedules)
        for record in records
        if record.dagster_run.job_name in ours
    ]
    written = 0
    if outcomes:
        with database.connect() as conn:
            written = sum(record_job_outcome(conn, outcome) for outcome in outcomes)
    return dg.SensorResult(skip_reason=f"{written} outcomes recorded", cursor=now.isoformat())
