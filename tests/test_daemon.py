"""A real daemon and code server: what they do by themselves, after a kill of everything, while the database is away."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from lifecycle.database import connect, rows, value
from lifecycle.migrating.migrate import upgrade
from orchestration.definitions import defs
from orchestration.demo.databases import create_dagster_database
from orchestration.demo.services import PROJECT, SLACK_TOKEN
from resources.dagster_private import DAEMON
from resources.signs_of_life import last_signs
from resources.variables import BASE_URL_VARIABLE, CHANNEL_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE
from sandbox.application import create_application_database
from sandbox.server import SUPERUSER, Server
from sandbox.slack_server import CHANNEL_ID, SlackServer
from sandbox.supervise import SupervisedProcess, supervised
from sensors.deletion_requests import runs_under_way
from tests.declared import APPLICATION
from tests.impatience import HOLD, JOB, LAUNCHES_KEY, QUIET_KEY, SCHEDULE
from tests.outbox import texts

# A minute passes until the schedule's next tick; the rest is for a machine that is busy with other things.
PATIENCE = 400.0
# What is promised for a dead run, from the moment when the daemon is back.
PROMISED = 180.0
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
ERASE = "erase_personal_data"
KILLED = (
    "convert_event_tables",
    "archive_chat_messages",
    "refresh_analytics_hourly",
    ERASE,
    ERASE,
)
# What DagsterInstance.get_ticks returns; Dagster does not export its type.
Tick = Any
WRITTEN = "select event_type = 'job_success' from public.audit_events where payload ->> 'run_id' = %s"
GONE = "The process of this run is gone"


@dataclass
class World:
    """A server with both databases, a Slack, and the daemon, which starts the code server of the test's definitions."""

    server: Server
    url: str
    slack: SlackServer
    instance: dg.DagsterInstance
    environment: dict[str, str]
    log: Path
    daemon: SupervisedProcess | None = None

    def start(self) -> None:
        assert self.instance.is_persistent  # its tables exist before the daemon's threads look for them
        self.daemon = supervised(
            [sys.executable, "-m", DAEMON, "run", "-m", "tests.every_minute", "-d", str(PROJECT)],
            env=self.environment,
            cwd=PROJECT,
            log=self.log,
            stop_signal=signal.SIGTERM,
        )

    def kill(self) -> None:
        """kill -9 of the daemon, the code server and every run at once."""
        assert self.daemon is not None
        with suppress(ProcessLookupError):
            os.killpg(self.daemon.pid, signal.SIGKILL)
        self.daemon.stop()

    def wait_for(self, found: Callable[[], Any], what: str) -> Any:
        assert self.daemon is not None
        deadline = time.monotonic() + PATIENCE
        while not (result := found()):
            log = self.log.read_text(errors="replace")[-3000:]
            assert self.daemon.poll() is None, f"the daemon ended: {log}"
            assert "Error loading repository location" not in log, log
            assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}\n{log}"
            time.sleep(0.5)
        return result

    def keep(self, key: str, values: Sequence[str]) -> None:
        self.instance.daemon_cursor_storage.set_cursor_values({key: json.dumps(values)})

    def launch(self, jobs: Sequence[str], round_name: str) -> Callable[[], list[dg.DagsterRun]]:
        """Ask for runs; what finds those that exist."""
        keys = [f"{job}:{round_name}{number}" for number, job in enumerate(jobs)]
        self.keep(LAUNCHES_KEY, keys)
        return lambda: [
            run for key in keys for run in self.instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": key}))
        ]

    def all_are(self, runs: Sequence[dg.DagsterRun], number: int, *statuses: dg.DagsterRunStatus) -> bool:
        return len(runs) == number and all(run.status in statuses for run in runs)

    def allow_connections(self, allowed: bool) -> None:
        name = self.url.rpartition("/")[2].partition("?")[0]
        with psycopg.connect(self.server.url(user=SUPERUSER), autocommit=True) as conn:
            word = sql.SQL("true" if allowed else "false")
            conn.execute(sql.SQL("alter database {} allow_connections {}").format(sql.Identifier(name), word))
            conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything started once; the application's database is migrated and empty."""
    folder = tmp_path_factory.mktemp("daemon")
    home = folder / "dagster_home"
    home.mkdir()
    settings = (PROJECT / "dagster.yaml").read_text(encoding="utf-8")
    # Room for all that are killed, and for a machine that is starved while they start.
    settings = settings.replace("max_concurrent_runs: 4", "max_concurrent_runs: 6")
    (home / "dagster.yaml").write_text(settings.replace("start_timeout_seconds: 120", "start_timeout_seconds: 600"))
    with Server(folder / "postgresql") as server, SlackServer() as slack, pytest.MonkeyPatch.context() as environment:
        url = create_application_database(server, "application")
        upgrade(url, APPLICATION)
        for name, text in {
            URL_VARIABLE: url,
            "DAGSTER_HOME": str(home),
            "DAGSTER_PG_URL": create_dagster_database(server),
            "PYTHONPATH": str(PROJECT),
            TOKEN_VARIABLE: SLACK_TOKEN,
            CHANNEL_VARIABLE: CHANNEL_ID,
            BASE_URL_VARIABLE: slack.base_url,
            # A starved machine takes longer than Dagster's minute to start a run.
            "DAGSTER_GRPC_TIMEOUT_SECONDS": "180",
        }.items():
            environment.setenv(name, text)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            made = World(server, url, slack, instance, dict(os.environ), folder / "daemon.log")
            made.start()
            try:
                yield made
            finally:
                made.kill()


def declared(jobs: Sequence[str]) -> list[str]:
    """Those that the application as declared has."""
    names = {job.name for job in defs.jobs or ()}
    return [job for job in jobs if job in names]


def finished_ticks(instance: dg.DagsterInstance) -> dict[str, list[Tick]]:
    """The ticks that came to an end, by schedule or sensor."""
    return {
        state.instigator_name: [
            tick
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
            if tick.status.value != "STARTED"
        ]
        for state in instance.all_instigator_state()
    }


@pytest.mark.every_version
@pytest.mark.timeout(600)
def test_a_schedule_and_every_sensor_fire_by_themselves(world: World) -> None:
    sensors = {sensor.name for sensor in defs.sensors or ()}
    assert "run_outcomes" in sensors

    def ticked() -> dict[str, list[Tick]] | None:
        ticks = finished_ticks(world.instance)
        return ticks if all(ticks.get(name) for name in (*sensors, SCHEDULE)) else None

    ticks = world.wait_for(ticked, f"a tick of {SCHEDULE} and of {', '.join(sorted(sensors))}")
    for name in (*sensors, SCHEDULE):
        for tick in ticks[name]:
            assert tick.status.value in ("SUCCESS", "SKIPPED"), (name, tick.error)
    (run_id,) = ticks[SCHEDULE][-1].run_ids

    def ended() -> dg.DagsterRun | None:
        run = world.instance.get_run_by_id(run_id)
        return run if run and run.status in ENDED else None

    run = world.wait_for(ended, "the scheduled run ends")
    assert (run.job_name, run.status) == (JOB, dg.DagsterRunStatus.SUCCESS)
    assert run.tags["dagster/schedule_name"] == SCHEDULE
    with connect(world.url) as conn:
        world.wait_for(lambda: value(conn, WRITTEN, (run_id,)), "the ledger says how it ended")


def test_conversion_archive_refresh_and_two_erasures_are_among_the_killed() -> None:
    """What is not declared has no job; the next test kills what there is."""
    assert len(declared(KILLED)) == len(KILLED)


@pytest.mark.every_version
@pytest.mark.timeout(900)
def test_runs_that_were_killed_with_the_daemon_end_and_hold_nothing_up(world: World) -> None:
    world.keep(QUIET_KEY, ["yes"])
    jobs = declared(KILLED)
    with connect(world.url) as holder:
        holder.execute("select pg_advisory_lock(%s)", (HOLD,))
        killed = world.launch(jobs, "killed")
        world.wait_for(
            lambda: (
                world.all_are(killed(), len(jobs), dg.DagsterRunStatus.STARTED)
                and len(last_signs(world.instance, [run.run_id for run in killed()])) == len(jobs)
            ),
            "all runs are at work",
        )
        world.kill()
    signs = last_signs(world.instance, [run.run_id for run in killed()])
    for sign in signs.values():
        with pytest.raises(ProcessLookupError):
            os.kill(json.loads(sign)["pid"], 0)
    assert runs_under_way(world.instance) == jobs.count(ERASE)
    back = time.monotonic()
    world.start()
    waiting = declared(["rotate_event_partitions", ERASE])
    after = world.launch(waiting, "after")
    world.wait_for(lambda: world.all_are(killed(), len(jobs), dg.DagsterRunStatus.FAILURE), "the dead runs end")
    seconds = time.monotonic() - back
    assert seconds < PROMISED
    # Rotation waits for the pool of the dead conversion.
    world.wait_for(lambda: world.all_are(after(), len(waiting), *ENDED), "what waited for their pools is done")
    erased = [run.status for run in after() if run.job_name == ERASE]
    assert erased == [dg.DagsterRunStatus.SUCCESS] * waiting.count(ERASE)
    assert runs_under_way(world.instance) == 0

    def told() -> dict[str, list[str]]:
        return {job: [text for text in texts(world.slack) if text.startswith(f"{job} fails: {GONE}")] for job in jobs}

    world.wait_for(lambda: all(told().values()), "Slack hears of each job")
    assert {job: len(messages) for job, messages in told().items()} == dict.fromkeys(jobs, 1)
    ledger = "select payload ->> 'run_id' from public.audit_events where payload ->> 'error' like %s"
    with connect(world.url) as conn:
        dead = sorted(run.run_id for run in killed())
        world.wait_for(lambda: len(rows(conn, ledger, (f"{GONE}%",))) >= len(dead), "the ledger has each run")
        assert sorted(run_id for (run_id,) in rows(conn, ledger, (f"{GONE}%",))) == dead


@pytest.mark.every_version
@pytest.mark.timeout(600)
def test_an_outage_is_one_line_a_tick_and_two_messages(world: World) -> None:
    world.keep(QUIET_KEY, ["yes"])
    world.wait_for(lambda: all(run.status in ENDED for run in world.instance.get_runs()), "no run is left")
    before, length = len(texts(world.slack)), len(world.log.read_text(errors="replace"))

    def new_messages(start: str) -> list[str]:
        return [text for text in texts(world.slack)[before:] if text.startswith(start)]

    def log() -> str:
        return world.log.read_text(errors="replace")[length:]

    waits = "skipped: the database cannot be reached"
    looking = {sensor.name for sensor in defs.sensors or () if "database" in sensor.required_resource_keys}
    # It needs the database only when a run has ended.
    sensors = looking - {"run_outcomes"}
    world.allow_connections(False)
    try:
        world.wait_for(lambda: new_messages("The database cannot be reached"), "Slack hears of the outage")
        world.wait_for(lambda: all(f"Sensor {name} {waits}" in log() for name in sensors), "every sensor waits")
    finally:
        world.allow_connections(True)
    world.wait_for(lambda: new_messages("The database answers again"), "Slack hears of its end")
    assert len(new_messages("The database")) == 2
    assert "Traceback" not in log()
    assert [line for line in log().splitlines() if "cannot be reached" in line and waits not in line] == []
