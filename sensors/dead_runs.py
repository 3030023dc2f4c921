"""Runs whose process is gone: killed, or its container, machine or worker died. They end as failed.

Dagster asks the launcher whether a run's worker lives. The default launcher does not know, and Celery's counts a task
that was delivered twice as done; the run would stay Started for good, with its pool. So runs here give signs of life
themselves, and this sensor looks whether the signs go on. It compares no clocks: a sign that does not change is none.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from resources.signs_of_life import described, last_signs

# Nine signs in a row that did not come.
SILENCE: Final = timedelta(seconds=90)
# A storage that was away and is back: runs need a moment, too.
LEAST_LOOKS: Final = 4
LOOK_SECONDS: Final = 15
AT_WORK: Final = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class Silent:
    """A run's last sign (None: it never gave one), since when it is the last one, and how often it was looked at."""

    sign: str | None
    since: float
    looks: int = 1


@dataclass(frozen=True)
class Seen:
    """What the last look found, in seconds since 1970."""

    at: float | None = None
    runs: Mapping[str, Silent] = field(default_factory=dict)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Seen":
        """What the cursor keeps; nothing where there is none yet."""
        kept = json.loads(cursor) if cursor else {"at": None, "runs": {}}
        return cls(kept["at"], {run_id: Silent(**silent) for run_id, silent in kept["runs"].items()})

    def cursor(self) -> str:
        """The text to keep."""
        return json.dumps(asdict(self))


def next_look(before: Seen, signs: Mapping[str, str | None], now: datetime, silence: timedelta) -> Seen:
    """What is known of the runs at work now. After a gap in our own looking, silence is counted anew."""
    at, length = now.timestamp(), silence.total_seconds()
    went_on = before.at is not None and at - before.at <= length
    runs = {}
    for run_id, sign in signs.items():
        known = before.runs.get(run_id) if went_on else None
        same = known is not None and known.sign == sign
        runs[run_id] = Silent(sign, known.since, known.looks + 1) if known is not None and same else Silent(sign, at)
    return Seen(at, runs)


def dead_runs_of(seen: Seen, now: datetime, silence: timedelta) -> list[str]:
    """Runs that gave no new sign for that long."""
    length = silence.total_seconds()
    return [
        run_id
        for run_id, silent in seen.runs.items()
        if now.timestamp() - silent.since >= length and silent.looks >= LEAST_LOOKS
    ]


def is_ours(run: dg.DagsterRun, label: str | None, sign: str | None) -> bool:
    """Whether the run is of this code location, or of the command line (which names none) and gave a sign once."""
    origin = run.remote_job_origin
    return sign is not None if origin is None else origin.repository_origin.get_label() == label


def end_run(instance: dg.DagsterInstance, run_id: str, sign: str | None, silent: timedelta) -> bool:
    """End a run that is still at work and give its pools back; False when it ended meanwhile."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in AT_WORK:
        return False
    told = (
        f"The process of this run is gone: no sign of life for {silent.total_seconds():.0f} s ({described(sign)}). "
        "It was killed, or its container or machine ended. Launch the job again; what it had done is kept."
    )
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, told)
    else:
        instance.report_run_failed(run, told)
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        storage.free_concurrency_slots_for_run(run_id)
    return True


def build_dead_runs(
    *,
    silence: timedelta = SILENCE,
    look_seconds: int = LOOK_SECONDS,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """The sensor; tests are less patient."""

    @dg.sensor(
        name="dead_runs",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=look_seconds,
        description="Ends runs whose process is gone as failed and gives their pools back, whatever launched them.",
    )
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Compare the signs of all runs at work with those of the last look."""
        instance, now = context.instance, clock()
        location = context.code_location_origin
        label = f"{context.repository_name}@{location.location_name}" if location else None
        runs = instance.get_runs(dg.RunsFilter(statuses=AT_WORK))
        given = last_signs(instance, [run.run_id for run in runs])
        signs = {run.run_id: given.get(run.run_id) for run in runs}
        ours = {run.run_id: signs[run.run_id] for run in runs if is_ours(run, label, signs[run.run_id])}
        seen = next_look(Seen.from_cursor(context.cursor), ours, now, silence)
        ended = 0
        for run_id in dead_runs_of(seen, now, silence):
            silent = now - datetime.fromtimestamp(seen.runs[run_id].since, UTC)
            ended += end_run(instance, run_id, ours[run_id], silent)
        told = f"{len(ours)} runs at work, {ended} of them dead and ended"
        if ended:
            context.log.warning(told)
        return dg.SensorResult(skip_reason=told, cursor=seen.cursor())

    return dead_runs


dead_runs: Final = build_dead_runs()
