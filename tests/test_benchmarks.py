"""Every benchmark still measures what it says, at its smallest size.

How long something took is for a quiet machine, and none of it is judged here. What is judged: that there was work, that
all of it was done, and that nobody who watched missed anything. The benchmarks themselves stop where that is not so.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.declared import APPLICATION

ROOT = Path(__file__).parents[1]
RUNS_ITSELF = 'if __name__ == "__main__":'
BENCHMARKS = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if RUNS_ITSELF in path.read_text(encoding="utf-8")
)
SMALLEST = {
    "chat_archive": "--rows 5000",
    "cold_months": "--rows 20000",
    "cold_sizes": "--only made_up_session_replay_events",
    "dagster_storage": "--runs 1",
    "erasure": "--accounts 500 --per-round 20 --times 1",
    "hot_queries": "--rows 100000 --reads 20",
    "kept_views": "--events 5000",
    "partition_conversion": "--rows 20000 --approaches lifecycle --approaches single-transaction",
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


Figures = list[dict[str, Any]]


def chat_archive(measured: Figures) -> None:
    ways, (run, before, _, after) = measured[:6], measured[6:]
    # COPY out, COPY in, DELETE and all three; one worker, and two.
    assert [way["rows"] for way in ways] == [5000] * 6
    assert all(way["seconds"] > 0 for way in ways)
    assert (run["moved"], run["left"], run["remaining"]) == (5000, 0, 0)
    assert 0 < run["stored_bytes"] <= run["text_bytes"]
    assert after["live"] < before["live"]
    assert after["archive"] > before["archive"]


def erasure(measured: Figures) -> None:
    ours, by_hand, one_by_one = measured
    assert (ours["accounts"], by_hand["accounts"], one_by_one["accounts"]) == (20, 20, 2)
    assert ours["verified"] == 20
    assert all(way["rows"] >= way["accounts"] and way["seconds"] > 0 for way in measured)
    assert set(ours["steps"]) == {"collect", "erase", "sign_in_users", "refresh", "search", "conclude"}


def dagster_storage(measured: Figures) -> None:
    alone, now, pruned = measured
    assert now["bytes_a_run"] <= 0.7 * alone["bytes_a_run"]
    assert pruned["after"] == pruned["before"] > 0, "the only run of its job stays"


def hot_queries(measured: Figures) -> None:
    """Answers are compared by the benchmark, which ends with 1 where they differ, and one without answers stops it."""
    assert len(measured) == 13
    pages = {each["query"]: (each["before"]["buffers"], each["after"]["buffers"]) for each in measured}
    assert all(before > 0 and after > 0 for before, after in pages.values())
    # Those whose whole point is a new index read less with it, however small the table.
    for query in ("duplicate check", "clicks of one result", "prefix search", "vendor's listing"):
        assert pages[query][1] < pages[query][0], (query, pages[query])


def kept_views(measured: Figures) -> None:
    views, writes = ([each for each in measured if key in each] for key in ("view", "without"))
    # Some of the optional ones are of a later state of the application than the benchmark's.
    needed = {name.name for name, view in APPLICATION.views.kept.items() if not view.optional}
    assert needed <= {each["view"] for each in views} <= {name.name for name in APPLICATION.views.kept}
    assert all(each["definition"] > 0 and each["kept"] > 0 and each["plain"] > 0 for each in views)
    # An hour has changed rows of most of them, and a refresh wrote what differed, no less.
    assert sum(each["changed"] for each in views) > 20
    assert all(each["written"] >= each["changed"] for each in views if each["moves"] == "never")
    assert any(each["key"] and each["written"] for each in views)
    assert len(writes) == 4
    assert all(each["without"] > 0 and each["with_triggers"] > 0 for each in writes)


def partition_conversion(measured: Figures) -> None:
    ours, in_one = measured
    for way in measured:
        # Months of 30, and what lies before and after them.
        assert way["partitions"] >= 24
        assert way["effect"]["writes"] > 0
        assert (way["audit"]["lost"], way["audit"]["doubled"]) == (0, 0)
        assert way["cost"]["wal_bytes"] > 20000 * 100
    assert ours["effect"]["reads"] > 0
    assert ours["effect"]["view_reads"] > 0
    assert (ours["effect"]["short_reads"], ours["effect"]["wrong_view_reads"]) == (0, 0)
    assert ours["audit"] == {"lost": 0, "doubled": 0, "updates_lost": 0}
    assert ours["effect"]["errors"] == {}
    assert ours["steps"]
    assert in_one["steps"] == []


def partition_rotation(measured: Figures) -> None:
    cases = {(each["rotation"], each["under_reader"]): each for each in measured}
    assert {rotation for rotation, _ in cases} >= {"none (baseline)", "lifecycle"}
    assert len(cases) == len(measured) >= 4
    for (rotation, _), case in cases.items():
        before, after = case["partitions"]
        # Two months are made and three partitions dropped.
        assert after - before == (0 if rotation == "none (baseline)" else -1)
        assert case["failure"] is None
        assert case["effect"]["writes"] > 0
    assert all(not cases["lifecycle", under]["effect"]["errors"] for under in (False, True))


def segments(measured: Figures) -> None:
    cached, uncached, first, hundredth, nothing = measured
    assert all(0 < read["p50"] <= read["p99"] for read in (cached, uncached))
    assert first["written"] > 0
    assert 0 < hundredth["accounts"] < first["accounts"]
    assert hundredth["written"] > 0
    assert (nothing["accounts"], nothing["written"]) == (0, 0)


def spike(measured: Figures) -> None:
    assert [case["name"] for case in measured] == [
        *("idle", "spike, no job", "refresh", "archive", "conversion", "erasure")
    ]
    assert all(case["pieces"] and case["work"] for case in measured[2:])
    assert not [kind for case in measured for kind, felt in case["felt"].items() if felt["errors"]]
    assert all(felt["reads"] >= 20 and felt["p95_ms"] > 0 for case in measured for felt in case["felt"].values())
    idle, busy = (sum(felt["reads"] for felt in case["felt"].values()) / case["seconds"] for case in measured[:2])
    assert busy > 5 * idle


def cold_months(measured: Figures) -> None:
    (found,) = measured
    assert (found["months"], found["times_smaller"] > 1, found["peak_memory"] > 0) == (12, True, True)
    assert all(found[f"{what}_{where}"] > 0 for what in ("history", "per_day") for where in ("hot", "cold"))
    assert found["erase_1"] > 0
    assert found["erase_100"] > 0
    assert found["restore_rows"] > 0


def cold_sizes(measured: Figures) -> None:
    (found,) = measured
    assert found["rows"] > 100
    assert found["files"] >= found["months"] >= 2
    assert found["hot_bytes"] > found["heap_bytes"] > found["cold_bytes"] > 0
    assert found["checksum"] == found["checksum_after"] != "0"


JUDGED: dict[str, Callable[[Figures], None]] = {
    judge.__name__: judge
    for judge in (
        *(chat_archive, dagster_storage, erasure, hot_queries, kept_views, partition_conversion, partition_rotation),
        *(segments, spike, cold_months, cold_sizes),
    )
}


def test_every_benchmark_is_judged() -> None:
    assert set(BENCHMARKS) == set(JUDGED) == set(SMALLEST)


@pytest.mark.every_version
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_runs_and_measures(name: str, tmp_path: Path) -> None:
    measured = figures(name, tmp_path)
    JUDGED[name](measured)
