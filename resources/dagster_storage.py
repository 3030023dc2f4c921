"""Dagster's own storage does not grow without end: runs that ended long ago go, with all that was stored for them.

What the UI and freshness show as the latest stays: the newest run of each job, and the runs of each asset's last
materialization and each check's last evaluations. Runs of other code locations in the same storage are not touched.
"""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import sqlalchemy as sa

from resources.signs_of_life import PREFIX

BATCH_RUNS: Final = 200
# What no public call of Dagster deletes, by the names of its tables: its own modules of them take a tenth of the time
# in which definitions may load.
EVENTS: Final = sa.table(
    "event_logs",
    *map(sa.column, ("id", "run_id", "dagster_event_type", "asset_key")),
    sa.column("timestamp", sa.DateTime()),
)
CHECKS: Final = sa.table("asset_check_executions", *map(sa.column, ("run_id", "asset_key", "check_name")))
SIGNS: Final = sa.table("kvs", sa.column("key", sa.Text()))
RUNS: Final = sa.table("runs", sa.column("run_id", sa.Text()), sa.column("status", sa.Text()))
# There may be thousands a day.
TICK_LOGS_KEPT: Final = timedelta(days=7)
# By which Dagster finds the runs of a code location.
REPOSITORY_TAG: Final = ".dagster/repository"
# The rest waits for the next day; a run may take an hour.
MOST_SECONDS: Final = 1800.0
ENDED: Final = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True)
class Pruned:
    """What was deleted, in rows; `runs_left` are past their age and wait for the next time."""

    runs: int = 0
    events: int = 0
    check_evaluations: int = 0
    freshness_changes: int = 0
    signs_of_life: int = 0
    tick_logs: int = 0
    runs_left: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Pruned)))


@dataclass(frozen=True)
class Ours:
    """What runs belong to this code location: its jobs, and its label in Dagster, None for the command line."""

    jobs: Collection[str]
    label: str | None = None

    def has(self, run: dg.DagsterRun) -> bool:
        """Whether the run is of this code location, or of the command line (which names none) and a job of ours."""
        origin = run.remote_job_origin
        return run.job_name in self.jobs if origin is None else origin.repository_origin.get_label() == self.label


def newest_runs(instance: dg.DagsterInstance, ours: Ours) -> set[str]:
    """Ids of the runs that stay, however old."""
    # Another code location may have a job of the same name; a run of the command line has no label.
    labels = [{}, {REPOSITORY_TAG: ours.label}] if ours.label else [{}]
    filters = [dg.RunsFilter(job_name=job, tags=tags) for job in ours.jobs for tags in labels]
    kept = {record.dagster_run.run_id for each in filters for record in instance.get_run_records(each, limit=1)}
    for entry in (record.asset_entry for record in instance.get_asset_records()):
        kept |= {entry.last_run_id} if entry.last_run_id else set()
        kept |= {entry.last_materialization.run_id} if entry.last_materialization else set()
    for summary in instance.event_log_storage.get_asset_check_summary_records(_evaluated(instance)).values():
        for last in (summary.last_check_execution_record, summary.last_completed_check_execution_record):
            kept |= {last.run_id} if last else set()
    return kept


def _evaluated(instance: dg.DagsterInstance) -> list[dg.AssetCheckKey]:
    with _events(instance).index_connection() as conn:
        found = conn.execute(sa.select(CHECKS.c.asset_key, CHECKS.c.check_name).distinct()).all()
    keys = ((dg.AssetKey.from_db_string(asset), name) for asset, name in found)
    return [dg.AssetCheckKey(asset, name) for asset, name in keys if asset is not None]


def _events(instance: dg.DagsterInstance) -> Any:
    """The storage of events, whose class Dagster does not export: each kind has `index_connection`."""
    return instance.event_log_storage


def _old_runs(instance: dg.DagsterInstance, before: datetime, batch: int) -> Iterator[list[dg.DagsterRun]]:
    """Runs that ended and were last heard of before a moment, the oldest first, in batches.

    The next batch is read before its reader deletes the last one, from whose last run it goes on.
    """
    wanted = dg.RunsFilter(statuses=list(ENDED), updated_before=before)

    def read(cursor: str | None) -> list[dg.DagsterRun]:
        records = instance.get_run_records(wanted, limit=batch, ascending=True, cursor=cursor)
        return [record.dagster_run for record in records]

    page = read(None)
    while page:
        following = read(page[-1].run_id) if len(page) == batch else []
        yield page
        page = following


def _delete_events(storage: Any, run_ids: Collection[str]) -> Pruned:
    """Delete the evaluations, which `delete_events` leaves behind; how many events it is about to delete."""
    with storage.index_connection() as conn:
        count = sa.select(sa.func.count()).select_from(EVENTS).where(EVENTS.c.run_id.in_(run_ids))
        found = int(conn.execute(count).scalar_one())
        evaluations = conn.execute(sa.delete(CHECKS).where(CHECKS.c.run_id.in_(run_ids))).rowcount
    return Pruned(runs=len(run_ids), events=found, check_evaluations=evaluations)


def delete_runs(instance: dg.DagsterInstance, run_ids: Collection[str]) -> Pruned:
    """Delete runs with their events, evaluations, logs and the files of their steps."""
    storage = _events(instance)
    pruned = _delete_events(storage, run_ids)
    for run_id in run_ids:
        # As `instance.delete_run`, but the run last: an interruption leaves nothing that nobody would find again.
        storage.delete_events(run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.run_storage.delete_run(run_id)
    return pruned


def prune_signs_of_life(instance: dg.DagsterInstance) -> Pruned:
    """Delete the signs of runs that are not at work: nobody looks at them again."""
    storage: Any = instance.run_storage
    at_work = (
        sa.select(RUNS.c.run_id)
        .where(RUNS.c.run_id == sa.func.substr(SIGNS.c.key, len(PREFIX) + 1))
        .where(RUNS.c.status.not_in([status.value for status in ENDED]))
    )
    with storage.connect() as conn:
        of_nobody = sa.delete(SIGNS).where(SIGNS.c.key.startswith(PREFIX, autoescape=True), ~sa.exists(at_work))
        return Pruned(signs_of_life=conn.execute(of_nobody).rowcount)


def prune_freshness_changes(instance: dg.DagsterInstance, before: datetime) -> Pruned:
    """Delete old changes of freshness, which belong to no run, but for the last one of each asset."""
    changes = EVENTS.c.dagster_event_type == dg.DagsterEventType.FRESHNESS_STATE_CHANGE.value
    with _events(instance).index_connection() as conn:
        newest = conn.execute(sa.select(sa.func.max(EVENTS.c.id)).where(changes).group_by(EVENTS.c.asset_key))
        kept = [row[0] for row in newest]
        # Dagster stores moments of UTC without their zone.
        old = sa.and_(changes, EVENTS.c.timestamp < before.astimezone(UTC).replace(tzinfo=None))
        return Pruned(freshness_changes=conn.execute(sa.delete(EVENTS).where(old, EVENTS.c.id.not_in(kept))).rowcount)


def prune_tick_logs(instance: dg.DagsterInstance, before: datetime) -> Pruned:
    """Delete what schedules and sensors logged, a file a tick; Dagster deletes the ticks (dagster.yaml) without them.

    Where logs lie elsewhere than on the disk of this process, that place has to expire them.
    """
    deleted = 0
    for log in Path(instance.storage_directory()).glob("*/*/*.err"):
        # A run's own logs go with the run.
        if log.parent.name != "compute_logs" and log.stat().st_mtime < before.timestamp():
            log.unlink()
            deleted += 1
    return Pruned(tick_logs=deleted)


def prune(
    instance: dg.DagsterInstance,
    ours: Ours,
    keep: timedelta,
    *,
    now: datetime | None = None,
    batch: int = BATCH_RUNS,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Pruned:
    """Delete what is older than `keep`, in batches, until the time is up. Safe to repeat and to interrupt."""
    moment, end = now or datetime.now(UTC), clock() + most_seconds
    before = moment - keep
    kept = newest_runs(instance, ours)
    done = prune_signs_of_life(instance) + prune_freshness_changes(instance, before)
    done += prune_tick_logs(instance, moment - TICK_LOGS_KEPT)
    for page in _old_runs(instance, before, batch):
        run_ids = [run.run_id for run in page if ours.has(run) and run.run_id not in kept]
        if not run_ids:
            continue
        done += delete_runs(instance, run_ids) if clock() < end else Pruned(runs_left=len(run_ids))
    return done


def storage_bytes(instance: dg.DagsterInstance) -> int | None:
    """The size of the database that holds Dagster's events; None where it is no PostgreSQL."""
    with _events(instance).index_connection() as conn:
        if conn.dialect.name != "postgresql":
            return None
        return int(conn.execute(sa.text("select pg_database_size(current_database())")).scalar_one())
