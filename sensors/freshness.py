"""Assets that are older than their freshness policy allows, or were never made.

Dagster evaluates the policies and tells nobody. Only a change is reported: a stale asset is one fact, however often
it is looked at.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from lifecycle.ledger.problems import STALE, open_causes, record
from resources.dagster_private import TimeWindowFreshnessPolicy
from resources.postgres import ApplicationDatabase
from sensors.outages import waits_while_away
from sensors.ownership import BY_HAND, jobs_of_assets

FRESH: Final = ("PASS", "WARN")


def watched_assets(repository: dg.RepositoryDefinition) -> list[dg.AssetKey]:
    """Every asset with a freshness policy."""
    graph = repository.asset_graph
    return sorted(key for key in graph.get_all_asset_keys() if graph.get(key).freshness_policy)


def grace(repository: dg.RepositoryDefinition, key: dg.AssetKey) -> timedelta:
    """How old an asset may grow; a new one has as long to be made for the first time, by the timetable or by hand."""
    policy = repository.asset_graph.get(key).freshness_policy
    assert isinstance(policy, TimeWindowFreshnessPolicy)  # noqa: S101 - the only kind that our assets have
    return policy.fail_window.to_timedelta()


def staleness(instance: dg.DagsterInstance, key: dg.AssetKey, state: str, overdue: bool, now: datetime) -> str | None:
    """Why an asset in this freshness state counts as stale; "" while that is undecided, None when it is fresh.

    `overdue`: the asset is known for longer than it may grow old.
    """
    if state in FRESH:
        return None
    event = instance.get_latest_materialization_event(key)
    if event is None:
        return "never materialized" if overdue else ""
    if state != "FAIL":
        return ""  # the daemon has not looked yet
    last = datetime.fromtimestamp(event.timestamp, UTC)
    ago = round((now - last) / timedelta(hours=1))
    return f"last materialized {last:%Y-%m-%d %H:%M} UTC, {ago} hours ago, longer than its freshness policy allows"


@dg.sensor(
    name="freshness",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Reports assets that are older than their freshness policy allows or were never materialized.",
)
@waits_while_away
def freshness(context: dg.SensorEvaluationContext, database: ApplicationDatabase) -> dg.SensorResult:
    """Compare what is stale now with what was reported, and report the difference."""
    if context.repository_def is None:
        return dg.SensorResult(skip_reason="no code location")
    now = datetime.now(UTC)
    seen: dict[str, str] = json.loads(context.cursor or "{}")
    makers = jobs_of_assets(context.repository_def)
    keys = watched_assets(context.repository_def)
    first_seen = {key.to_user_string(): seen.get(key.to_user_string(), now.isoformat()) for key in keys}
    states = context.instance.get_freshness_state_records(keys)
    found: dict[tuple[str, str], str] = {}
    for key in keys:
        name = key.to_user_string()
        state = states[key].freshness_state.value if key in states else "UNKNOWN"
        overdue = now - datetime.fromisoformat(first_seen[name]) > grace(context.repository_def, key)
        why = staleness(context.instance, key, state, overdue, now)
        if why is not None:
            found[makers.get(key, BY_HAND), f"{STALE}{name}"] = why
    with database.connect() as conn:
        reported = open_causes(conn, STALE)
        for (job, cause), why in found.items():
            if why and (job, cause) not in reported:
                record(conn, job, cause, why)
        for job, cause in reported:
            if (job, cause) not in found:
                record(conn, job, cause, None)
    stale = sum(bool(why) for why in found.values())
    return dg.SensorResult(skip_reason=f"{stale} of {len(keys)} assets are stale", cursor=json.dumps(first_seen))
