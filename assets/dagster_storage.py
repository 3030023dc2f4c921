"""Dagster's own storage, pruned every day."""

from datetime import timedelta
from typing import Any, Final

import dagster as dg

from assets.bundle import Bundle
from assets.stored_once import stored_once
from assets.units import size_text
from lifecycle.declarations.application import Application
from lifecycle.declarations.model import fixed_length
from resources.dagster_storage import Ours, prune, storage_bytes
from resources.timetable import Timetable

POOL: Final = "dagster_storage"
GROUP: Final = "operations"
OWNERS: Final = ["team:data-platform"]
KEY: Final = dg.AssetKey(["lifecycle", "dagster_storage"])
# Pruned every day: a day and two hours late is worth a look, two days late is a fault.
FRESHNESS: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))


def bundle(application: Application) -> Bundle:
    """Whatever is declared: runs of every job leave events behind."""
    keep = application.operations.keep_runs

    @dg.asset(
        key=KEY,
        group_name=GROUP,
        description=(
            f"What Dagster itself stores. Materializing it deletes runs that ended more than {keep} ago, with their "
            "events, evaluations, logs and files; the newest run of each job, asset and check stays. `runs_left` are "
            "for the next time. Started from the command line it knows of the command line's runs only."
        ),
        kinds={"dagster"},
        owners=OWNERS,
        tags={"retention": keep.replace(" ", "_")},
        freshness_policy=FRESHNESS,
        pool=POOL,
        code_version="1",
    )
    def dagster_storage(context: dg.AssetExecutionContext, timetable: Timetable) -> dg.MaterializeResult[None]:
        origin = context.run.remote_job_origin
        label = origin.repository_origin.get_label() if origin else None
        ours = Ours(jobs={*timetable.jobs, *timetable.by_hand}, label=label)
        pruned = prune(context.instance, ours, fixed_length(keep))
        size = storage_bytes(context.instance)
        metadata: dict[str, Any] = {**vars(pruned)}
        if size is not None:
            metadata |= {"bytes": dg.MetadataValue.int(size), "size": size_text(size)}
        return stored_once(context, dg.MaterializeResult(metadata=metadata))

    return Bundle(assets=[dagster_storage])
