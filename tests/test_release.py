"""The wheel works outside of the repository: installed, from an empty folder, on a database that is new to us."""

import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import connect, value
from lifecycle.release import release
from orchestration.shipped import PROJECT
from sandbox.server import SUPERUSER, Server
from sandbox.supervise import SupervisedProcess, supervised
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION_FOLDER, EVENT_TABLES
from tests.installed import Installed, build_wheel, install, names_in
from tests.webserver import free_port

pytestmark = pytest.mark.one_server

DAGSTER = "dagster_of_the_wheel"
PACKAGES = {"orchestration", "assets", "resources", "sensors", "lifecycle", "migrations", "sandbox"}
# What a package reads beside its code.
CARRIED = (".sql", ".po", ".mako")
PARTITIONED = "select count(*) from pg_class where relkind = 'p' and relnamespace = 'public'::regnamespace"
REFRESHED = "select count(*) from lifecycle.kept_views where refreshed_at > now() - interval '10 minutes'"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("release"), "cold")


@pytest.fixture
def variables(server: Server, make_application_db: MakeApplicationDb, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What an adopter sets: declarations and DAGSTER_HOME elsewhere, a fresh database, another one for Dagster."""
    shutil.copytree(APPLICATION_FOLDER, tmp_path / "mine")
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(DAGSTER)))
        yield {
            "LIFECYCLE_APPLICATION": str(tmp_path / "mine"),
            "LIFECYCLE_DATABASE_URL": make_application_db(),
            "LIFECYCLE_COLD_URL": (tmp_path / "cold").as_uri(),
            "DAGSTER_HOME": str(tmp_path / "dagster_home"),
            "DAGSTER_PG_URL": server.url(DAGSTER, user=SUPERUSER, driver="psycopg2"),
        }
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(DAGSTER)))


def test_the_wheel_holds_the_packages_and_every_file_that_they_read(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    names = names_in(wheel)
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, f"supabase_data_lifecycle-{release()}.dist-info"}
    tracked = subprocess.run(["git", "ls-files", *sorted(PACKAGES)], cwd=PROJECT, capture_output=True, text=True)
    there = {name for name in tracked.stdout.splitlines() if (PROJECT / name).is_file()}
    assert there
    assert there <= names
    for folder, packed in (("application", "orchestration"), ("docs/reference/schemas", "lifecycle/declarations")):
        for file in (PROJECT / folder).iterdir():
            assert f"{packed}/{Path(folder).name}/{file.name}" in names
    assert {"orchestration/dagster.yaml", "orchestration/workspace.yaml"} <= names


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    headings = re.findall(r"^## \[(\d[^\]]*)\]", (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == release()


def wait_until_all_is_well(installed: Installed, ui: str, variables: dict[str, str], serving: SupervisedProcess) -> str:
    """What `lifecycle health` says once daemon, sensors, UI and both databases work."""
    deadline = time.monotonic() + 250
    while (asked := installed.try_("lifecycle", "health", "--ui", ui, **variables)).returncode:
        told = asked.stdout + asked.stderr + serving.log.read_text()
        assert asked.returncode == 1, told
        assert serving.poll() is None, told
        assert time.monotonic() < deadline, told
        time.sleep(3)
    return asked.stdout


@pytest.mark.every_version
@pytest.mark.timeout(900)
def test_from_an_empty_folder_to_a_running_dagster(
    installed: Installed, variables: dict[str, str], tmp_path: Path
) -> None:
    assert installed.run("lifecycle", "--version") == f"lifecycle {release()}\n"
    url = variables["LIFECYCLE_DATABASE_URL"]
    drafted = {"LIFECYCLE_APPLICATION": str(tmp_path / "drafted")}
    installed.run("lifecycle", "init", "--seconds", "0", drafted["LIFECYCLE_APPLICATION"], **variables)
    assert "event_tables.yaml" in os.listdir(drafted["LIFECYCLE_APPLICATION"])
    assert "event_tables" not in installed.try_("lifecycle", "check", **{**variables, **drafted}).stderr
    before = installed.try_("lifecycle", "check", **variables)
    assert (before.returncode, before.stderr) == (1, "")
    assert "has nothing of the declared: run `lifecycle migrate`" in before.stdout
    assert EVENT_TABLES[0].qualified_name in installed.run("lifecycle", "plan", **variables)
    assert "revision partitions_0001" in installed.run("lifecycle", "migrate", **variables)
    installed.run("lifecycle", "check", **variables)
    assert "written" in installed.run("lifecycle", "home", **variables)
    for job in ("convert_event_tables", "refresh_derived_statistics"):
        installed.run("dg", "launch", "-m", "orchestration.definitions", "--job", job, **variables)
    with connect(url) as conn:
        assert value(conn, PARTITIONED) == len(EVENT_TABLES)
        assert value(conn, REFRESHED) > 0
    ui = f"http://127.0.0.1:{free_port()}"
    serving = supervised(
        [str(installed.program("lifecycle")), "serve", "--port", ui.rpartition(":")[2]],
        env=installed.environment | variables,
        cwd=installed.folder,
        log=tmp_path / "serve.log",
        # It stops two processes, each of which has twenty seconds.
        grace=120.0,
    )
    try:
        assert "ILL" not in wait_until_all_is_well(installed, ui, variables, serving)
    finally:
        ended = serving.stop()
    assert f"Dagster's UI is at {ui}" in serving.log.read_text()
    assert ended == 0, serving.log.read_text()
    after = installed.try_("lifecycle", "health", "--ui", ui, **variables)
    assert (after.returncode, f"ILL  web server: {ui}" in after.stdout) == (1, True), after.stdout
    assert os.listdir(installed.folder) == []


@pytest.mark.every_version
def test_what_an_installed_package_lacks_is_told(installed: Installed, variables: dict[str, str]) -> None:
    for name, command in (
        ("LIFECYCLE_APPLICATION", ("check",)),
        ("DAGSTER_HOME", ("home",)),
        ("DAGSTER_PG_URL", ("serve",)),
        ("LIFECYCLE_DATABASE_URL", ("serve",)),
    ):
        done = installed.try_("lifecycle", *command, **{key: text for key, text in variables.items() if key != name})
        assert done.returncode in (1, 2)
        assert f"export {name}=" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    done = installed.try_("lifecycle", "serve", **variables)
    assert "run `lifecycle migrate`" in done.stderr
    # The demo brings its own declarations; all of it runs in tests/test_demo.py.
    done = installed.try_("lifecycle", "demo", "--once", "--data", "absent")
    assert "no folder absent" in done.stderr, done.stderr
    done = installed.try_("lifecycle", "docs", **variables)
    assert "Run it in a clone" in done.stderr
