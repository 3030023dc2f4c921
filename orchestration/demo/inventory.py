"""Every asset as Dagster's instance knows it: made or not, with which numbers, and how its checks ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import dagster as dg

ROWS: Final = "dagster/row_count"
DURATION: Final = "duration_ms"
# Figures for a column of their own, or for a chart.
LEFT_OUT: Final = (ROWS, "bytes", "kept_since", "compared_at")


@dataclass(frozen=True)
class AssetState:
    """One asset. `checks` holds the last evaluation of each of its checks, None for one that was not evaluated."""

    key: dg.AssetKey
    group: str
    materialized: bool
    metadata: Mapping[str, dg.MetadataValue]
    checks: Mapping[dg.AssetCheckKey, dg.AssetCheckEvaluation | None]

    @property
    def rows(self) -> int | None:
        found = self.metadata.get(ROWS)
        return found.value if isinstance(found, dg.IntMetadataValue) else None

    @property
    def did(self) -> str:
        """The numbers that its last materialization told of; zeros only where there is nothing else."""
        every = {
            name: entry.value
            for name, entry in self.metadata.items()
            if isinstance(entry, dg.IntMetadataValue | dg.FloatMetadataValue | dg.TextMetadataValue)
            and name not in LEFT_OUT
        }
        told = {name: number for name, number in every.items() if number != 0} or every
        duration = told.pop(DURATION, None)
        words = [str(told.pop("outcome"))] if "outcome" in told else []
        words += [
            f"{name.replace('_', ' ')} {number:,}" if isinstance(number, int) else f"{name.replace('_', ' ')} {number}"
            for name, number in told.items()
        ]
        return ", ".join(words + ([f"{duration:,} ms"] if duration is not None else []))


def warned(evaluation: dg.AssetCheckEvaluation) -> bool:
    return not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.WARN


def last_evaluations(
    results: Iterable[dg.ExecuteInProcessResult],
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
    """How each check ended the last time."""
    return {
        evaluation.asset_check_key: evaluation
        for result in results
        for evaluation in result.get_asset_check_evaluations()
    }


def asset_states(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    results: Sequence[dg.ExecuteInProcessResult],
    since: datetime,
) -> list[AssetState]:
    """Every asset that the definitions can materialize, by group and name."""
    graph = definitions.get_repository_def().asset_graph
    evaluations = last_evaluations(results)
    keys = sorted(graph.materializable_asset_keys)
    entries = {record.asset_entry.asset_key: record.asset_entry for record in instance.get_asset_records(keys)}
    states = []
    for key in keys:
        event = entries[key].last_materialization if key in entries else None
        made = event.asset_materialization if event and event.timestamp >= since.timestamp() else None
        checks = {check: evaluations.get(check) for check in sorted(graph.get_check_keys_for_assets({key}))}
        states.append(
            AssetState(key, graph.get(key).group_name, made is not None, made.metadata if made else {}, checks)
        )
    return sorted(states, key=lambda state: (state.group, state.key))
