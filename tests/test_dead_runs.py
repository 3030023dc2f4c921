"""Which runs count as dead, and what becomes of them. With a real daemon and real kills: test_daemon.py."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.definitions import defs
from orchestration.executor import living_in_process_executor
from orchestration.limits import MAX_RUNTIME_TAG, MOST_SECONDS_OF
from resources.signs_of_life import give_sign, last_signs, signs_of_life
from sensors.dead_runs import LEAST_LOOKS, SILENCE, Seen, build_dead_runs, dead_runs_of, next_look
from sensors.run_outcomes import why_ended

START = datetime(2026, 11, 1, tzinfo=UTC)
LOOK = timedelta(seconds=15)
POOL = "a_pool"
JOB = "erase_personal_data"


def watched(signs: Sequence[str | None], apart: timedelta = LOOK) -> list[bool]:
    """Whether a run counts as dead after each of these looks."""
    seen, answers = Seen(), []
    for number, sign in enumerate(signs):
        now = START + number * apart
        seen = next_look(Seen.from_cursor(seen.cursor()), {"run": sign}, now, SILENCE)
        answers.append(bool(dead_runs_of(seen, now, SILENCE)))
    return answers


def test_only_a_sign_that_stays_the_same_for_long_means_death() -> None:
    needed = SILENCE // LOOK
    assert watched(["a"] * (needed + 1)) == [False] * needed + [True]
    assert watched([None] * (needed + 1)) == [False] * needed + [True], "killed before its first sign"
    assert not any(watched([str(number) for number in range(50)]))
    assert not any(watched(["a"] * needed + ["b"] * needed))


def test_a_gap_in_our_own_looking_proves_nothing() -> None:
    """The daemon was away, or Dagster's storage was: for the runs as well."""
    assert not any(watched(["a"] * 20, apart=SILENCE + timedelta(seconds=1)))
    assert watched(["a"] * LEAST_LOOKS, apart=SILENCE) == [False] * (LEAST_LOOKS - 1) + [True]


class Clock:
    """Time that passes when told to."""

    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage on disk: in memory it has no pools, and a thread that writes locks out whoever reads."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def looks(instance: dg.DagsterInstance, number: int, clock: Clock, cursor: str | None = None) -> str | None:
    """Let the sensor look so often, a normal distance apart; its cursor afterwards."""
    for _ in range(number):
        with dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs) as context:
            result = build_dead_runs(clock=clock)(context)
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        clock.now += LOOK
    return cursor


def stored_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """A run of JOB that Dagster's storage knows and no process executes."""
    return instance.add_run(dg.DagsterRun(job_name=JOB, status=status))


def at_work(instance: dg.DagsterInstance, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
    run_id: str = stored_run(instance, status).run_id
    give_sign(instance, run_id)
    return run_id


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_dead_run_fails_once_gives_its_pool_back_and_leaves_the_living_alone(stored: dg.DagsterInstance) -> None:
    instance = stored
    dead, living, stopped, done = (
        at_work(instance),
        at_work(instance),
        at_work(instance, dg.DagsterRunStatus.CANCELING),
        at_work(instance, dg.DagsterRunStatus.SUCCESS),
    )
    storage = instance.event_log_storage
    storage.set_concurrency_slots(POOL, 1)
    assert storage.claim_concurrency_slot(POOL, dead, "a_step").is_claimed
    clock, cursor = Clock(), None
    for _ in range(SILENCE // LOOK + 4):
        give_sign(instance, living)
        cursor = looks(instance, 1, clock, cursor)
    assert status_of(instance, dead) is dg.DagsterRunStatus.FAILURE
    assert status_of(instance, living) is dg.DagsterRunStatus.STARTED
    assert status_of(instance, stopped) is dg.DagsterRunStatus.CANCELED
    assert status_of(instance, done) is dg.DagsterRunStatus.SUCCESS
    assert storage.claim_concurrency_slot(POOL, living, "a_step").is_claimed, "the pool is free"
    failures = instance.get_records_for_run(dead, of_type=dg.DagsterEventType.RUN_FAILURE).records
    assert len(failures) == 1
    message = str(failures[0].event_log_entry.get_dagster_event().message)
    assert "no sign of life for 90 s" in message
    assert "pid" in message


def test_a_run_that_ends_by_itself_in_the_last_moment_stays_as_it_ended(instance: dg.DagsterInstance) -> None:
    run_id, clock = at_work(instance), Clock()
    cursor = looks(instance, SILENCE // LOOK, clock)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_canceled(run)
    looks(instance, 2, clock, cursor)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.CANCELED


def test_runs_of_others_are_left_alone(instance: dg.DagsterInstance) -> None:
    """No sign and no origin: a test or a notebook executes it in its own process; an origin: another code location."""
    theirs: str = stored_run(instance, dg.DagsterRunStatus.STARTED).run_id
    looks(instance, SILENCE // LOOK + 4, Clock())
    assert status_of(instance, theirs) is dg.DagsterRunStatus.STARTED


def test_every_run_gives_signs_whatever_it_is_a_run_of() -> None:
    for job in defs.resolve_all_job_defs():
        assert job.executor_def is living_in_process_executor, job.name


def test_every_job_has_its_longest_time() -> None:
    jobs = [job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")]
    for job in jobs:
        assert int(job.tags[MAX_RUNTIME_TAG]) >= 3600, job.name
    assert {job.name for job in jobs} >= set(MOST_SECONDS_OF)


seen_by_the_step: list[Mapping[str, str]] = []


@dg.op
def waits(context: dg.OpExecutionContext) -> None:
    for _ in range(100):
        if signs := last_signs(context.instance, [context.run_id]):
            seen_by_the_step.append(signs)
            return
        time.sleep(0.05)


@dg.job(executor_def=living_in_process_executor)
def a_job() -> None:
    waits()


@dg.op
def fails() -> None:
    raise dg.Failure("on purpose", allow_retries=False)


@dg.job(executor_def=living_in_process_executor)
def a_failing_job() -> None:
    fails()


def execute(job: Any, instance: dg.DagsterInstance) -> dg.JobExecutionResult:
    return dg.execute_job(dg.reconstructable(job), instance, raise_on_error=False)


def test_a_run_gives_signs_until_it_ends_and_no_longer(stored: dg.DagsterInstance) -> None:
    before = threading.active_count()
    done = execute(a_job, stored)
    assert done.success
    assert set(seen_by_the_step.pop()) == {done.run_id}
    assert not execute(a_failing_job, stored).success
    assert threading.active_count() == before


def test_signs_go_on_while_the_run_waits_and_survive_a_storage_that_is_away(
    stored: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = stored.daemon_cursor_storage
    found: set[str] = set()
    with signs_of_life(stored, "run", every=0.02):
        with monkeypatch.context() as away:

            def fail(_pairs: Mapping[str, str]) -> None:
                raise OSError("away")

            away.setattr(storage, "set_cursor_values", fail)
            time.sleep(0.1)
        deadline = time.monotonic() + 10
        while len(found) < 3 and time.monotonic() < deadline:
            found |= set(last_signs(stored, ["run"]).values())
            time.sleep(0.02)
    assert len(found) >= 3
    last = last_signs(stored, ["run"])
    time.sleep(0.1)
    assert last_signs(stored, ["run"]) == last


def test_a_run_that_took_too_long_is_a_failure_though_its_process_reports_itself_canceled(
    instance: dg.DagsterInstance,
) -> None:
    for told in ("Exceeded maximum runtime of 3600 seconds.", None):
        run = stored_run(instance, dg.DagsterRunStatus.CANCELING)
        if told:
            instance.report_run_failed(run, told)
        instance.report_run_canceled(run)
        assert status_of(instance, run.run_id) is dg.DagsterRunStatus.CANCELED
        assert why_ended(instance, run.run_id) == told
