"""The units of deploy/systemd: systemd takes them, they are closed, and what they start works together."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from orchestration.health import Part, look
from orchestration.shipped import PROJECT
from sandbox.server import SUPERUSER, Server
from sandbox.supervise import SupervisedProcess, supervised
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION_FOLDER
from tests.webserver import free_port

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

FOLDER = PROJECT / "deploy/systemd"
CODE, DAEMON, WEBSERVER = "lifecycle-code", "lifecycle-daemon", "lifecycle-webserver"
SUPPRESSIONS = "lifecycle-suppressions"
UNITS = (CODE, DAEMON, WEBSERVER, SUPPRESSIONS)
BINARIES = "/opt/lifecycle/current/bin"
DAGSTER = "dagster_of_units"
# Of 100; what systemd calls "ok" and better.
MOST_EXPOSED = "20"
VARIABLE = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)


def unit(name: str) -> str:
    return (FOLDER / f"{name}.service").read_text(encoding="utf-8")


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.fail("no systemd-analyze on PATH: apt-get install systemd")
    return found


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit_and_finds_it_closed(analyze: str, name: str, tmp_path: Path) -> None:
    for other in UNITS:
        # systemd looks whether the programs are there.
        text = unit(other).replace(BINARIES, str(Path(sys.executable).parent))
        (tmp_path / f"{other}.service").write_text(text)
    shutil.copy(FOLDER / f"{SUPPRESSIONS}.timer", tmp_path)
    file = tmp_path / f"{name}.service"
    timers = [str(path) for path in tmp_path.glob(f"{name}.timer")]
    for command in (["verify", *timers], ["security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager"]):
        done = subprocess.run([analyze, *command, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""


def test_the_units_may_the_same() -> None:
    closed = {unit(name).partition("# What it may not")[2].partition("[Install]")[0].strip() for name in UNITS}
    assert len(closed) == 1
    assert all("User=lifecycle" in unit(name) for name in UNITS)


@dataclass(frozen=True)
class Machine:
    """What the units start, with files and ports of the test in place of those of a server."""

    folder: Path
    variables: dict[str, str]
    port: int

    def start(self, name: str) -> SupervisedProcess:
        (command,) = re.findall(r"^ExecStart=(.*)$", unit(name), re.MULTILINE)
        for shipped, ours in {
            BINARIES: str(Path(sys.executable).parent),
            "/run/lifecycle-code": str(self.folder),
            "/etc/lifecycle": str(self.folder),
            "/var/lib/lifecycle": str(self.folder),
            "-p 3000": f"-p {self.port}",
        }.items():
            command = command.replace(shipped, ours)
        return supervised(
            shlex.split(command),
            env={**self.variables, "PATH": os.environ["PATH"]},
            cwd=self.folder,
            log=self.folder / f"{name}.log",
        )

    def health(self, later: timedelta = timedelta()) -> list[Part]:
        return look(
            self.variables["LIFECYCLE_DATABASE_URL"],
            self.variables["DAGSTER_PG_URL"],
            self.folder,
            f"http://127.0.0.1:{self.port}",
            datetime.now(UTC) + later,
        )

    def wait_until_well(self, *processes: SupervisedProcess) -> None:
        deadline = time.monotonic() + 250
        while ill := [part for part in self.health() if not part.healthy]:
            logs = "\n".join(process.log.read_text()[-2000:] for process in processes)
            assert all(process.poll() is None for process in processes), logs
            assert time.monotonic() < deadline, f"{ill}\n{logs}"
            time.sleep(2)


@pytest.fixture
def machine(
    server: Server, make_application_db: MakeApplicationDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    text = (FOLDER / "workspace.yaml").read_text(encoding="utf-8").replace("/run/lifecycle-code", str(tmp_path))
    (tmp_path / "workspace.yaml").write_text(text)
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    ours = {
        "LIFECYCLE_APPLICATION": str(APPLICATION_FOLDER),
        "LIFECYCLE_DATABASE_URL": make_application_db(rows=False, migrated=True),
        "DAGSTER_PG_URL": server.url(DAGSTER, user=SUPERUSER, driver="psycopg2"),
        "DAGSTER_HOME": str(tmp_path),
    }
    named = dict(VARIABLE.findall((FOLDER / "lifecycle.env").read_text(encoding="utf-8")))
    assert ours.keys() <= named.keys()
    monkeypatch.setenv("DAGSTER_PG_URL", ours["DAGSTER_PG_URL"])
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(DAGSTER)))
        yield Machine(tmp_path, {**named, **ours}, free_port())
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(DAGSTER)))


@pytest.mark.timeout(900)
def test_what_the_units_start_works_together_and_goes_on_without_the_code_server(machine: Machine) -> None:
    with ExitStack() as stack:

        def start(name: str) -> SupervisedProcess:
            process = machine.start(name)
            stack.callback(process.stop)
            return process

        # In no order: each waits for the others.
        webserver, daemon, code = start(WEBSERVER), start(DAEMON), start(CODE)
        machine.wait_until_well(webserver, daemon, code)
        code.stop()
        started = datetime.now(UTC)
        code = start(CODE)
        machine.wait_until_well(webserver, daemon, code)
        assert datetime.now(UTC) - started < timedelta(minutes=4)
        assert start(SUPPRESSIONS).supervisor.wait(60) == 0
        assert (machine.folder / "suppressions.jsonl").read_text().count("\n") == 1
        webserver.stop()
        ill = {part.name for part in machine.health(later=timedelta(minutes=6)) if not part.healthy}
        assert ill == {"daemon", "sensors", "web server"}
