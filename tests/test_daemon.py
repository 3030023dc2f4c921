"""Nobody presses a button: a real daemon and code server start a scheduled run and every sensor by themselves."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus

from lifecycle.database import connect, value
from lifecycle.migrating.migrate import upgrade
from orchestration.definitions import defs
from orchestration.demo.databases import create_dagster_database
from orchestration.demo.services import PROJECT
from resources.variables import URL_VARIABLE
from sandbox.application import create_application_database
from sandbox.server import Server
from sandbox.supervise import SupervisedProcess, supervised
from tests.every_minute import JOB, SCHEDULE

# A minute passes until the schedule's next tick; the rest is for a machine that is busy with other things.
PATIENCE = 240.0
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance on a PostgreSQL of its own, beside a migrated and empty application database."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    with Server(tmp_path / "postgresql") as server:
        url = create_application_database(server, "application")
        upgrade(url)
        for name, text in {
            URL_VARIABLE: url,
            "DAGSTER_HOME": str(home),
            "DAGSTER_PG_URL": create_dagster_database(server),
            "PYTHONPATH": str(PROJECT),
        }.items():
            monkeypatch.setenv(name, text)
        for name in ("SLACK_BOT_TOKEN", "SLACK_CHANNEL", "SLACK_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        with dg.DagsterInstance.from_config(str(home)) as made:
            yield made


@pytest.fixture
def daemon(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[SupervisedProcess]:
    """`dagster-daemon run`, which starts the code server of the test's definitions."""
    assert instance.is_persistent  # its tables exist before the daemon's threads look for them
    process = supervised(
        [sys.executable, "-m", "dagster._daemon", "run", "-m", "tests.every_minute", "-d", str(PROJECT)],
        env=dict(os.environ),
        cwd=PROJECT,
        log=tmp_path / "daemon.log",
        stop_signal=signal.SIGTERM,
    )
    try:
        yield process
    finally:
        process.stop()


def wait_for(daemon: SupervisedProcess, found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := found()):
        log = daemon.log.read_text(errors="replace")[-3000:]
        assert daemon.poll() is None, f"the daemon ended: {log}"
        assert "Error loading repository location" not in log, log
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}\n{log}"
        time.sleep(0.5)
    return result


def finished_ticks(instance: dg.DagsterInstance) -> dict[str, list[InstigatorTick]]:
    """The ticks that came to an end, by schedule or sensor."""
    return {
        state.instigator_name: [
            tick
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
            if tick.status is not TickStatus.STARTED
        ]
        for state in instance.all_instigator_state()
    }


@pytest.mark.timeout(600)
def test_a_schedule_and_every_sensor_fire_by_themselves(
    instance: dg.DagsterInstance, daemon: SupervisedProcess
) -> None:
    sensors = {sensor.name for sensor in defs.sensors or ()}
    assert "run_outcomes" in sensors

    def ticked() -> dict[str, list[InstigatorTick]] | None:
        ticks = finished_ticks(instance)
        return ticks if all(ticks.get(name) for name in (*sensors, SCHEDULE)) else None

    ticks = wait_for(daemon, ticked, f"a tick of {SCHEDULE} and of {', '.join(sorted(sensors))}")
    for name in (*sensors, SCHEDULE):
        for tick in ticks[name]:
            assert tick.status in (TickStatus.SUCCESS, TickStatus.SKIPPED), (name, tick.error)
    (run_id,) = ticks[SCHEDULE][-1].run_ids

    def ended() -> dg.DagsterRun | None:
        run = instance.get_run_by_id(run_id)
        return run if run and run.status in ENDED else None

    run = wait_for(daemon, ended, "the scheduled run ends")
    assert (run.job_name, run.status) == (JOB, dg.DagsterRunStatus.SUCCESS)
    assert run.tags["dagster/schedule_name"] == SCHEDULE
    with connect(os.environ[URL_VARIABLE]) as conn:
        assert value(conn, "select count(*) from lifecycle.storage_history") > 0
