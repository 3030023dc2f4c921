"""The demo from end to end, as a newcomer starts it: its own server, its own Dagster, nothing left behind.

Once with old months in a folder, once in an S3 server.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestration.definitions import defs
from tests.declared import APPLICATION, EVENT_TABLES

pytestmark = pytest.mark.every_version

DEMO = [sys.executable, "-m", "orchestration.cli", "demo"]
# The whole demo comes before its UI, perhaps beside another test.
PATIENCE = 400.0

ASSETS = """{assetNodes{assetKey{path} isMaterializable assetMaterializations(limit:1){runId}
    freshnessStatusInfo{freshnessStatus}}}"""
CHANNEL = re.compile(r"Slack is at (http://\S+/)")
AUTOMATION = """{repositoriesOrError{... on RepositoryConnection{nodes{
    schedules{name scheduleState{status}} sensors{name sensorState{status}}}}}}"""
LAUNCH = """mutation($p:ExecutionParams!){launchRun(executionParams:$p){
    ... on LaunchRunSuccess{run{runId}} ... on PythonError{message}}}"""
# (new or edited, kind) of a message, and how often: the second failure only edits, and so does the end.
EXPECTED = {("new", "failure"): 1, ("edited", "failure"): 2, ("new", "recovery"): 1, ("new", "report"): 0}
LIVE_FILES = "select bytes || ' events/' || key from lifecycle.cold_files where state = 'live'"
STATUS = "query($id:ID!){runOrError(runId:$id){... on Run{status}}}"


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.5)
    pytest.fail(f"not within {PATIENCE:.0f} s: {what}")


def processes_with(text: str) -> list[int]:
    """Processes whose command line or environment holds `text`, this one excepted."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in told and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def query(port: int, text: str, **variables: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": text, "variables": variables}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own address
        return json.load(answer)["data"]


def freshness(port: int) -> dict[tuple[str, ...], str]:
    """How Dagster finds each asset that it can make."""
    nodes = [node for node in query(port, ASSETS)["assetNodes"] if node["isMaterializable"]]
    return {
        tuple(node["assetKey"]["path"]): (node["freshnessStatusInfo"] or {}).get("freshnessStatus", "no policy")
        for node in nodes
    }


def channel_page(url: str) -> str:
    """What the demo's Slack shows; "" once it is gone."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            page: str = answer.read().decode()
            return page
    except (urllib.error.URLError, OSError):
        return ""


def listed(output: str) -> list[str]:
    """What the command prints that the demo names for old months in its S3 server."""
    (command,) = (line for line in output.splitlines() if line.startswith("env AWS_ACCESS_KEY_ID="))
    printed = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=120)
    return printed.stdout.splitlines() if printed.returncode == 0 else []


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.mark.timeout(600)
def test_once_ends_green_and_leaves_nothing(tmp_path: Path) -> None:
    # A real Slack of the user's is left alone: nobody answers here, and the demo would not end green.
    real = {"SLACK_BOT_TOKEN": "xoxb-real", "SLACK_CHANNEL": "C0REAL", "SLACK_BASE_URL": "http://127.0.0.1:1/api/"}
    real["SLACK_WEBHOOK_URL"] = "http://127.0.0.1:1/services/real"
    environment = os.environ | real | {"TMPDIR": str(tmp_path), "COLUMNS": "160"}
    result = subprocess.run([*DEMO, "--once"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^Everything did what it should, with \d+ warnings? above\.$", result.stdout, re.MULTILINE)
    assert "warned" not in result.stdout.partition("Every asset")[0]
    assert "Slack: 1 failure, 1 recovery, 1 report." in result.stdout
    assert re.search(r"of them after the run +│ 0 ", result.stdout)
    assert re.search(r"their data +│ \d+ rows of \d+ tables, JSON and CSV", result.stdout)
    told = result.stdout.partition("what people hear of it")[2]
    assert [told.count(f"{how} {kind}") for how, kind in EXPECTED] == list(EXPECTED.values())
    assert "failed 2 times, works again" in told
    for key in defs.get_repository_def().asset_graph.materializable_asset_keys:
        assert key.path[-1] in result.stdout
    assert re.search(r"Weekly review, [-0-9]+ to [-0-9]+ \(Asia/Tokyo\)", result.stdout)
    assert "Outcomes: 0 succeeded" not in result.stdout
    assert not list(tmp_path.glob("lifecycle-demo-*"))
    assert not processes_with(str(tmp_path))


@pytest.mark.timeout(600)
def test_sigterm_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([*DEMO, "--once"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "make Dagster's database" in line:
                break
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        said += process.stdout.read()
        assert process.wait(PATIENCE) == 130, said
    assert "nothing is left running" in said
    assert not list(tmp_path.glob("lifecycle-demo-*"))
    assert not processes_with(str(tmp_path))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A demo with its UI open: process, port and folder."""
    folder = tmp_path_factory.mktemp("demo")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*DEMO, "--s3", "--port", str(port), "--keep", str(folder / "kept")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "the UI answers")
        assert process.poll() is None, log.read_text()
        yield process, port, folder
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.timeout(600)
def test_ui_daemon_and_ledger(served: tuple[subprocess.Popen[bytes], int, Path]) -> None:
    process, port, folder = served
    nodes = {tuple(node["assetKey"]["path"]): node for node in query(port, ASSETS)["assetNodes"]}
    made = {path for path, node in nodes.items() if node["isMaterializable"]}
    assert made == {tuple(key.path) for key in defs.get_repository_def().asset_graph.materializable_asset_keys}
    # The demo's application is that of November.
    later = {(view.schema, view.name) for view, kept in APPLICATION.views.kept.items() if kept.optional}
    assert [path for path in made - later if not nodes[path]["assetMaterializations"]] == []
    for table in EVENT_TABLES:
        assert not nodes["public", table.name]["isMaterializable"]
    # Dagster's daemon looks at each asset in its own time.
    wait_until(
        lambda: {how for path, how in freshness(port).items() if path not in later} == {"HEALTHY"},
        "every asset is fresh",
    )
    (repository,) = query(port, AUTOMATION)["repositoriesOrError"]["nodes"]
    states = [schedule["scheduleState"]["status"] for schedule in repository["schedules"]]
    states += [sensor["sensorState"]["status"] for sensor in repository["sensors"]]
    assert states
    assert set(states) == {"RUNNING"}

    # A run from the UI goes through queue, daemon and a process of its own, and comes out in the ledger.
    target = {
        "repositoryLocationName": "orchestration.definitions",
        "repositoryName": "__repository__",
        "jobName": "rotate_event_partitions",
    }
    run_id = query(port, LAUNCH, p={"selector": target, "runConfigData": {}})["launchRun"]["run"]["runId"]
    ended = ("SUCCESS", "FAILURE", "CANCELED")
    status = wait_until(
        lambda: (found := query(port, STATUS, id=run_id)["runOrError"]["status"]) in ended and found, "the run ends"
    )
    assert status == "SUCCESS"
    password = (folder / "kept" / "postgresql" / "password").read_text().strip()
    server_port = (folder / "output").read_text().partition("on port ")[2].partition(",")[0]
    with psycopg.connect(
        f"postgresql://postgres:{password}@127.0.0.1:{server_port}/application", autocommit=True
    ) as conn:
        select = "select event_type from audit_events where payload ->> 'run_id' = %s"
        assert wait_until(lambda: conn.execute(select, (run_id,)).fetchone(), "the ledger has the run") == (
            "job_success",
        )
        live = {key for (key,) in conn.execute(LIVE_FILES)}
        assert set(listed((folder / "output").read_text())) >= live > set()

    (slack,) = CHANNEL.findall((folder / "output").read_text().replace("\n", " "))
    shown = channel_page(slack)
    assert "<p>3 messages." in shown
    assert f"http://127.0.0.1:{port}/runs/" in shown

    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0, (folder / "output").read_text()
    assert not answers(port)
    assert not channel_page(slack)
    assert not listed((folder / "output").read_text())
    wait_until(lambda: not processes_with(str(folder / "kept")), "every process is gone")
