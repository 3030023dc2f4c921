"""Run jobs and let sensors look, in this process and on the instance that the UI shows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final

import dagster as dg
from rich.console import Console

from lifecycle.declarations.application import Application
from orchestration.definitions import build_definitions
from orchestration.demo.progress import progress_logger, step
from orchestration.schedules import build_schedules
from orchestration.shipped import WORKSPACE
from resources.dagster_private import RemoteRepositoryOrigin, WorkspaceFileTarget, schedule_execution_time_iterator
from sensors.notifications import notifications
from sensors.run_outcomes import run_outcomes

# As Dagster marks a run that its UI or daemon launched.
REPOSITORY_TAG: Final = ".dagster/repository"
LOCATION_TAG: Final = "dagster/code_location"


def file_with_its_job(instance: dg.DagsterInstance, run_id: str, job: str, repository: str) -> None:
    """Say where the job of a run of this process is found, so that the UI shows it on Overview and with its job."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return
    (location,) = WorkspaceFileTarget([str(WORKSPACE)]).create_origins()
    origin = RemoteRepositoryOrigin(location, repository)
    tags = {REPOSITORY_TAG: origin.get_label(), LOCATION_TAG: location.location_name}
    instance.add_run_tags(run_id, tags)
    instance.run_storage.replace_job_origin(run.with_tags({**run.tags, **tags}), origin.get_job_origin(job))


def interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a signal ended the run, within a step or between two: Dagster catches what arrives during a run."""
    return any(_is_interrupt(event) for event in result.all_events)


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    if event.event_type is dg.DagsterEventType.STEP_FAILURE:
        return event.step_failure_data.error_source.value == "INTERRUPT"
    if event.event_type is dg.DagsterEventType.RUN_FAILURE:
        reason = event.job_failure_data.failure_reason
        return reason is not None and reason.value == "UNEXPECTED_TERMINATION"
    return False


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """What each failed step of a run said."""
    said = []
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            text = data.user_failure_data.description if data.user_failure_data else None
            error = data.error.cause or data.error if data.error else None
            said.append(f"{event.step_key}: {text or (error.message if error else 'failed')}".strip())
    return said


def past_ticks(application: Application, now: datetime, length: timedelta) -> Iterator[tuple[str, datetime]]:
    """(job, moment) of every start that the timetable would have had in the time before `now`."""
    jobs = {job.name for job in build_definitions(application).jobs or ()}
    for schedule in build_schedules(jobs, application):
        ticks = schedule_execution_time_iterator(
            (now - length).timestamp(), schedule.cron_schedule, schedule.execution_timezone or "UTC", ascending=True
        )
        yield from ((schedule.job_name, tick) for tick in takewhile(lambda tick: tick < now, ticks))


@dataclass
class Runner:
    """Runs jobs one after the other and keeps every result; reads URLs from the environment, as the daemon does."""

    instance: dg.DagsterInstance
    console: Console
    application: Application
    results: list[dg.ExecuteInProcessResult] = field(default_factory=list)
    cursors: dict[str, str | None] = field(default_factory=dict)

    def run(self, job: str, note: str = "", request: dg.RunRequest | None = None) -> dg.ExecuteInProcessResult:
        """Run one job as the timetable would, or as a sensor asked; KeyboardInterrupt when it was interrupted."""
        request = request or dg.RunRequest()
        with step(self.console, f"run the job {job}{note}") as progress:
            definitions = build_definitions(self.application, loggers={"console": progress_logger(progress)})
            result = definitions.resolve_job_def(job).execute_in_process(
                instance=self.instance,
                raise_on_error=False,
                partition_key=request.partition_key,
                run_config={**request.run_config, "loggers": {"console": {"config": {}}}},
                tags=request.tags,
            )
            file_with_its_job(self.instance, result.run_id, job, definitions.get_repository_def().name)
            if interrupted(result):
                raise KeyboardInterrupt
        self.results.append(result)
        return result

    def look(self) -> None:
        """Let the sensors look that carry a fault from a run to Slack.

        Whether an asset is stale is the daemon's to say, and none runs yet.
        """
        for sensor in (run_outcomes, notifications):
            self._tick(sensor)

    def follow(self, sensor: dg.SensorDefinition, job: str) -> list[dg.ExecuteInProcessResult]:
        """Let a sensor look, and run the job as often as it asks for."""
        tick = self._tick(sensor)
        requests = tick.run_requests if isinstance(tick, dg.SensorResult) else None
        return [self.run(job, note=f", asked for by {sensor.name}", request=request) for request in requests or ()]

    def _tick(self, sensor: dg.SensorDefinition) -> object:
        definitions = build_definitions(self.application)
        resources = definitions.resources or {}
        with dg.build_sensor_context(
            self.instance,
            cursor=self.cursors.get(sensor.name),
            definitions=definitions,
            resources={name: resources[name] for name in sensor.required_resource_keys},
        ) as context:
            tick = sensor(context)
        self.cursors[sensor.name] = tick.cursor if isinstance(tick, dg.SensorResult) else None
        return tick
