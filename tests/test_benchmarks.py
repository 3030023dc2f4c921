"""Every benchmark still runs, at its smallest size; its figures are for a quiet machine, and none is judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
RUNS_ITSELF = 'if __name__ == "__main__":'
BENCHMARKS = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if RUNS_ITSELF in path.read_text(encoding="utf-8")
)
SMALLEST = {
    "chat_archive": "--rows 5000",
    "dagster_storage": "--runs 1",
    "erasure": "--accounts 500 --per-round 20 --times 1",
    "hot_queries": "--rows 100000 --reads 20",
    "kept_views": "--events 5000",
    "partition_conversion": "--rows 20000 --approaches lifecycle",
    "partition_rotation": "--rows 20000",
    "segments": "--scale small --reads 100",
    "spike": "--scale small --messages 20000 --rate 2 --seconds 12",
}


def figures(name: str, folder: Path) -> list[dict[str, Any]]:
    """What the benchmark wrote; AssertionError with the end of its output when it broke."""
    written = folder / "figures.json"
    run = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *SMALLEST[name].split(), "--json", str(written)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:] or run.stdout[-3000:]
    measurements: list[dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))["measurements"]
    return measurements


def test_every_benchmark_has_a_smallest_size_and_a_line_in_the_readme() -> None:
    told = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert set(BENCHMARKS) <= set(SMALLEST)
    for name in BENCHMARKS:
        assert f"benchmarks.{name} " in told, f"{name} has no command in benchmarks/README.md"
        assert f"| `{name}` |" in told, f"{name} has no line in the table of benchmarks/README.md"


@pytest.mark.every_version
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_runs_and_measures(name: str, tmp_path: Path) -> None:
    measured = figures(name, tmp_path)
    assert measured
    if name == "partition_conversion":
        (ours,) = measured
        assert ours["effect"]["reads"] > 0
        assert ours["effect"]["view_reads"] > 0
        assert (ours["effect"]["short_reads"], ours["effect"]["wrong_view_reads"]) == (0, 0)
        assert ours["audit"] == {"lost": 0, "doubled": 0, "updates_lost": 0}
    if name == "dagster_storage":
        alone, now, pruned = measured
        assert now["bytes_a_run"] <= 0.7 * alone["bytes_a_run"]
        assert pruned["after"] == pruned["before"] > 0, "the only run of its job stays"
    if name == "spike":
        assert [case["name"] for case in measured] == [
            *("idle", "spike, no job", "refresh", "archive", "conversion", "erasure")
        ]
        assert all(case["pieces"] for case in measured[2:])
        assert not [kind for case in measured for kind, felt in case["felt"].items() if felt["errors"]]
