"""The demo's verdict: what must not pass for success."""

import shlex
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console

from lifecycle.cold.storage import ColdSettings, open_storage
from lifecycle.erasures.proof import Receipt
from lifecycle.person_export.export import PersonExport
from orchestration.demo.broken_view import Act, Play
from orchestration.demo.channel import Message, plain
from orchestration.demo.cold import ColdSeen, ColdTableSeen, how_to_list, running_cold_storage
from orchestration.demo.erased import LONGEST_SECONDS, Erased
from orchestration.demo.inventory import AssetState
from orchestration.demo.outcome import DemoReport
from orchestration.demo.person import Person
from orchestration.demo.report import verdict
from resources.variables import COLD_URL_VARIABLE
from tests.declared import APPLICATION

FAILING = Message("1.000000", "failure", ("it fails", "once"))
FAILING_AGAIN = replace(FAILING, lines=("it fails", "2 times"))
CLOSED = replace(FAILING, lines=("it failed 2 times",))
RECOVERY = Message("2.000001", "recovery", ("it works again",))
CHECK = dg.AssetCheckKey(dg.AssetKey("a"), "holds")


@dg.op(config_schema=bool)
def end_well(context: dg.OpExecutionContext) -> None:
    if not context.op_config:
        raise dg.Failure("it broke")


@dg.job
def one_step() -> None:
    end_well()


@cache
def run(well: bool) -> dg.ExecuteInProcessResult:
    return one_step.execute_in_process(run_config={"ops": {"end_well": {"config": well}}}, raise_on_error=False)


def play(*last: Message) -> Play:
    broken, good = run(well=False), run(well=True)
    return Play(
        before=(),
        acts=(
            Act("", broken, (FAILING,)),
            Act("", broken, (FAILING_AGAIN,)),
            Act("", good, last or (CLOSED, RECOVERY)),
        ),
    )


def evaluation(**values: Any) -> dg.AssetCheckEvaluation:
    facts: dict[str, Any] = {"asset_key": CHECK.asset_key, "check_name": CHECK.name, "metadata": {}}
    return dg.AssetCheckEvaluation(**facts | values)


def erased(**values: Any) -> Erased:
    receipt = Receipt(1, "r", datetime.now(UTC), {"search": {"cold": {"rows": 2}}}, "", "00")
    facts: dict[str, Any] = {"request_id": "r", "runs": 1, "receipt": receipt, "seconds": 9.0, "chain_unbroken": True}
    return Erased(**facts | values)


def person(**values: Any) -> Person:
    facts: dict[str, Any] = {"against": {"t": 1}, "left": 0, "export": PersonExport(1, Path("export"), 2, 9)}
    return Person(**facts | values)


def cold(counted: int = 5) -> ColdSeen:
    return ColdSeen("file:///cold", (ColdTableSeen("t", 2, 2, 3, counted, 90, 9),), {"t": 5})


def report(**values: Any) -> DemoReport:
    passed = evaluation(passed=True, severity=dg.AssetCheckSeverity.ERROR)
    facts: dict[str, Any] = {
        "application": APPLICATION,
        "before": {"t": 3},
        "converted": {"t": 3},
        "after": {"t": 2},
        "runs": [run(well=True)],
        "assets": [AssetState(CHECK.asset_key, "g", True, {}, {CHECK: passed})],
        "play": play(),
        "person": person(),
        "cold": cold(),
        "erased": erased(),
        "channel": (CLOSED, RECOVERY),
    }
    return DemoReport(**facts | values)


def asset(**values: Any) -> list[AssetState]:
    return [replace(report().assets[0], **values)]


WARNING = evaluation(passed=False, severity=dg.AssetCheckSeverity.WARN, description="two rows")


def test_all_well() -> None:
    assert report().faults == []
    assert report(assets=asset(checks={CHECK: WARNING})).faults == []


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"cold": cold(counted=4)}, "cold months: 4 of 5 rows of t are read"),
        ({"converted": {"t": 4}}, "number of rows"),
        ({"runs": [run(well=False)]}, "it broke"),
        ({"assets": asset(materialized=False)}, "a was not materialized"),
        ({"assets": asset(checks={CHECK: None})}, "a holds was not evaluated"),
        (
            {"assets": asset(checks={CHECK: evaluation(passed=False, severity=dg.AssetCheckSeverity.ERROR)})},
            "a holds: failed",
        ),
        ({"play": play(CLOSED)}, "the broken view"),
        ({"play": play(FAILING_AGAIN)}, "the broken view"),
        ({"play": play(CLOSED, RECOVERY, replace(FAILING, ts="3.000002"))}, "the broken view"),
        ({"person": person(against={})}, "consent and export: nothing stood against the withdrawal"),
        ({"person": person(left=3)}, "consent and export: 3 rows stand against consent after apply_consents"),
        ({"person": person(export=PersonExport(1, Path("e"), 0, 0))}, "consent and export: the export holds no row"),
        ({"erased": erased(runs=0)}, "the erasure: the sensor asked for no run"),
        ({"erased": erased(receipt=None, seconds=None)}, "the erasure: request r got no receipt"),
        ({"erased": erased(seconds=LONGEST_SECONDS + 1)}, "the erasure: request r took 61 s"),
        ({"erased": erased(chain_unbroken=False)}, "the erasure: the chain of receipts is broken"),
        ({"channel": (CLOSED, RECOVERY, RECOVERY)}, "Slack shows 2 messages of kind recovery, not 1"),
        ({"channel": (CLOSED, RECOVERY, replace(CLOSED, kind="report"))}, "Slack shows 1 messages of kind report"),
    ],
)
def test_each_fault_is_told(values: dict[str, Any], fault: str) -> None:
    assert [told for told in report(**values).faults if fault in told]


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ({}, "Everything did what it should."),
        ({"assets": asset(checks={CHECK: WARNING})}, "Everything did what it should, with 1 warning above."),
        (
            {"assets": asset(checks={CHECK: WARNING}) * 2, "converted": {"t": 4}},
            "Not all went well, with 1 fault and 2 warnings above.",
        ),
    ],
)
def test_the_last_line_counts_what_stands_above_it(values: dict[str, Any], last: str) -> None:
    found = report(**values)
    assert verdict(len(found.faults), len(found.warnings)) == last
    assert all(name == "a holds" and told == "two rows" for name, told in found.warnings)


def test_slacks_text_is_made_plain() -> None:
    assert plain(":red_circle: *a*\n*b*") == "\N{LARGE RED CIRCLE} *a*\nb"
    assert plain("```1 &lt; 2```") == "1 < 2"
    assert (
        plain("<!date^17^{date}|2026-01-02> · <http://127.0.0.1:1/runs/x|open the run>") == "2026-01-02 · open the run"
    )


def test_the_files_of_old_months_in_a_folder_are_listed_as_the_demo_says(tmp_path: Path) -> None:
    with running_cold_storage(s3=False, folder=tmp_path, console=Console(file=StringIO())) as variables:
        store = open_storage(ColdSettings(url=variables[COLD_URL_VARIABLE]))
        (tmp_path / "file").write_bytes(b"rows")
        store.put("a_table/2026-05/1.parquet", tmp_path / "file")
        told = subprocess.run(shlex.split(how_to_list(variables)), capture_output=True, text=True, check=True)
    assert told.stdout.endswith("/a_table/2026-05/1.parquet\n")
