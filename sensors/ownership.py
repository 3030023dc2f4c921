"""Which job a run, an asset or a check belongs to: there is one conversation per job."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import dagster as dg

# Dagster's name for whatever is materialized by hand.
BY_HAND: Final = "__ASSET_JOB"
BACKFILL_TAG: Final = "dagster/backfill"
FROM_FAILURE_TAG: Final = "dagster/is_resume_retry"
ROOT_RUN_TAG: Final = "dagster/root_run_id"
NAMED: Final = 3


@dataclass(frozen=True)
class Coverage:
    """What a run did: `about` is the job, `part` what it did of it (None: all), `proves_part` as in JobOutcome."""

    about: str
    part: str | None
    proves_part: bool = True


def jobs_of_assets(repository: dg.RepositoryDefinition) -> dict[dg.AssetKey, str]:
    """The job that makes each asset: of several the one with the fewest assets; none for an asset without a job."""
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith(BY_HAND)]
    jobs.sort(key=lambda job: (len(set(job.asset_layer.executable_asset_keys)), job.name))
    makers: dict[dg.AssetKey, str] = {}
    for job in jobs:
        for key in job.asset_layer.executable_asset_keys:
            makers.setdefault(key, job.name)
    return makers


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = len(ordered) - NAMED
    return ", ".join(ordered[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _chosen(run: dg.DagsterRun) -> frozenset[dg.AssetKey]:
    checked = {key.asset_key for key in run.asset_check_selection or ()}
    return frozenset(run.asset_selection or checked)


def coverage(instance: dg.DagsterInstance, run: dg.DagsterRun, makers: Mapping[dg.AssetKey, str]) -> Coverage:
    """Whether a run did its whole job. One that was launched again from its failure did what its first run left."""
    root_id = run.tags.get(ROOT_RUN_TAG)
    root = (instance.get_run_by_id(root_id) if root_id else None) or run
    if run.tags.get(FROM_FAILURE_TAG) == "true":
        run = root
    chosen = _chosen(run)
    if run.job_name.startswith(BY_HAND):
        owners = {makers.get(key, BY_HAND) for key in chosen}
        about = owners.pop() if len(owners) == 1 else BY_HAND
    else:
        about = run.job_name
    if backfill := run.tags.get(BACKFILL_TAG):
        return Coverage(about, f"backfill {backfill}", proves_part=False)
    if run.job_name.startswith(BY_HAND):
        return Coverage(about, _listed(key.to_user_string() for key in chosen))
    if chosen and not chosen >= {key for key, job in makers.items() if job == run.job_name}:
        return Coverage(about, _listed(key.to_user_string() for key in chosen))
    if run.resolved_op_selection:
        return Coverage(about, _listed(run.resolved_op_selection))
    steps = set(run.step_keys_to_execute or ())
    if steps < set(root.step_keys_to_execute or ()):
        return Coverage(about, _listed(steps))
    return Coverage(about, None)
