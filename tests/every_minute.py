"""The real definitions under a timetable that a test can wait for, with runs that a test can start and hold."""

import json

import dagster as dg
from pydantic import PrivateAttr

from lifecycle.database import connect
from orchestration.definitions import build_definitions, environment_variable
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from sensors.database_outages import build_database_outages
from sensors.dead_runs import build_dead_runs
from tests.impatience import HOLD, JOB, LAUNCHES, LAUNCHES_KEY, QUIET_KEY, SCHEDULE, SILENCE, TELL_AFTER


class HeldDatabase(ApplicationDatabase):
    """Waits in a run, in a session of the database, as long as the test holds a lock; never in a sensor."""

    _in_a_run: bool = PrivateAttr(default=False)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        self._in_a_run = context.run is not None

    def required_url(self) -> str:
        url = super().required_url()
        if self._in_a_run:
            with connect(url, application_name="held by a test") as conn:
                conn.execute("select pg_advisory_lock_shared(%s)", (HOLD,))
        return url


def kept(instance: dg.DagsterInstance, key: str) -> list[str]:
    found: list[str] = json.loads(instance.daemon_cursor_storage.get_cursor_values({key}).get(key, "[]"))
    return found


def every_minute() -> dg.Definitions:
    """Everything of `build_definitions()` but its schedules and its patience."""
    real = build_definitions(database=HeldDatabase(url=environment_variable(URL_VARIABLE)))
    impatient = {
        sensor.name: sensor
        for sensor in (
            build_dead_runs(silence=SILENCE, look_seconds=5),
            build_database_outages(tell_after=TELL_AFTER, look_seconds=5),
        )
    }

    @dg.sensor(
        name=LAUNCHES,
        jobs=list(real.jobs or ()),
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def launches(context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
        """A run for each `job:number` that the test asks for."""
        wanted = kept(context.instance, LAUNCHES_KEY)
        return [dg.RunRequest(run_key=key, job_name=key.partition(":")[0]) for key in wanted]

    return dg.Definitions(
        assets=real.assets,
        asset_checks=real.asset_checks,
        jobs=real.jobs,
        sensors=[*(impatient.get(sensor.name, sensor) for sensor in real.sensors or ()), launches],
        resources=real.resources,
        executor=real.executor,
        schedules=[
            dg.ScheduleDefinition(
                name=SCHEDULE,
                job_name=JOB,
                cron_schedule="* * * * *",
                execution_timezone="Asia/Tokyo",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                should_execute=lambda context: not kept(context.instance, QUIET_KEY),
            )
        ],
    )


defs = every_minute()
