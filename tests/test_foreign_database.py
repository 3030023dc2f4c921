"""An empty database, somebody else's and one before `lifecycle migrate`: one sentence with the next step from every
command, and nothing left behind.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import typer
from psycopg import sql
from typer.testing import CliRunner

from lifecycle.database import connect, rows
from orchestration.cli.main import app
from resources.variables import COLD_URL_VARIABLE, URL_VARIABLE
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb

pytestmark = pytest.mark.one_server

RUNNER = CliRunner()
REQUEST = str(uuid4())
# What each command is called with; the folder is a fresh one.
ARGUMENTS = {
    "migrate": [],
    "index": ["public.user_behavior_events", "page_url"],
    "undo": ["views"],
    "plan": [],
    "check": [],
    "schema": [],
    "access matrix": [],
    "access check": [],
    "access accept": [],
    "chat read": [REQUEST],
    "chat restore": [REQUEST],
    "chat archive": [],
    "cold status": [],
    "cold query": ["select 1"],
    "cold restore": ["2026-01", "--table", "public.user_behavior_events"],
    "cold verify": [],
    "cold adopt": [],
    "consent status": [],
    "consent apply": [],
    "erasure plan": [REQUEST],
    "erasure receipt": [REQUEST],
    "erasure status": [],
    "erasure request": [REQUEST],
    "erasure hold": [REQUEST, "--reason", "a doubt"],
    "erasure release": [REQUEST],
    "erasure cancel": [REQUEST, "--reason", "a doubt"],
    "erasure run": [],
    "erasure export": ["{folder}/list"],
    "erasure replay": ["{folder}/list"],
    "person export": [REQUEST, "--to", "{folder}/person"],
    "views": [],
    "views compare": [],
    "views refresh": [],
}
# They ask no database of the user's.
WITHOUT_DATABASE = {"docs", "demo"}
# Any database will do; tests/test_init.py.
OF_ANY_DATABASE = {"init"}
# They ask for Dagster's database as well; tests/test_release.py and test_health.py.
OF_DAGSTER = {"home", "serve", "health"}
# Before a migration these work, and say what would be.
BEFORE_MIGRATING = {"migrate", "undo", "plan", "check", "schema", "access matrix", "index"}
CLASS_NAMES = ("Error", "Exception", "Traceback", "LINE 1", "psycopg", "sqlalchemy")
CATALOG = """
select n.nspname, c.relname from pg_namespace n left join pg_class c on c.relnamespace = n.oid
 where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1, 2
"""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command by its words; a group that does something alone counts as one."""
    below = getattr(group, "commands", {})
    for name, command in below.items():
        yield from commands(command, (*path, name))
    if path and (not below or group.invoke_without_command):
        yield " ".join(path)


def call(command: str, folder: Path) -> tuple[int, str]:
    arguments = [word.format(folder=folder) for word in ARGUMENTS[command]]
    result = RUNNER.invoke(app, [*command.split(), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
    return result.exit_code, result.stderr


@pytest.fixture(scope="module", params=[pytest.param("empty", marks=pytest.mark.every_version), "foreign"])
def elsewhere(server: Server, request: pytest.FixtureRequest) -> str:
    name = f"elsewhere_{request.param}"
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
        admin.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("create database {} owner postgres").format(sql.Identifier(name)))
    if request.param == "foreign":
        with connect(server.url(name)) as conn:
            conn.execute("create table public.invoices (id int primary key, total numeric)")
    return server.url(name)


def test_every_command_is_called_here() -> None:
    assert set(commands(typer.main.get_command(app))) == {*ARGUMENTS, *WITHOUT_DATABASE, *OF_ANY_DATABASE, *OF_DAGSTER}


@pytest.mark.every_version
def test_a_database_of_nobody_or_of_somebody_else_is_refused(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(URL_VARIABLE, elsewhere)
    monkeypatch.setenv(COLD_URL_VARIABLE, (tmp_path / "cold").as_uri())
    with connect(elsewhere) as conn:
        before = rows(conn, CATALOG)
    for command in ARGUMENTS:
        code, told = call(command, tmp_path)
        assert code == 1, command
        assert told.startswith("Not done: database elsewhere_"), (command, told)
        assert "holds nothing that is declared, such as public." in told
        assert "Name the application's database in LIFECYCLE_DATABASE_URL" in told
        assert len(told.strip().splitlines()) == 1
    with connect(elsewhere) as conn:
        assert rows(conn, CATALOG) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.every_version
def test_before_the_migration_the_next_step_is_told(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = make_application_db(rows=False)
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv(COLD_URL_VARIABLE, (tmp_path / "cold").as_uri())
    with connect(url) as conn:
        before = rows(conn, CATALOG)
    for command in ARGUMENTS.keys() - BEFORE_MIGRATING:
        code, told = call(command, tmp_path)
        assert code == 1, command
        assert "lifecycle migrate" in told, (command, told)
        assert not [word for word in CLASS_NAMES if word in told], (command, told)
    with connect(url) as conn:
        assert rows(conn, CATALOG) == before
    assert list(tmp_path.iterdir()) == []


def test_each_command_says_when_one_would_run_it() -> None:
    for command in (*ARGUMENTS, *WITHOUT_DATABASE, *OF_ANY_DATABASE, *OF_DAGSTER):
        told = " ".join(RUNNER.invoke(app, [*command.split(), "--help"]).stdout.split())
        assert " When: " in told, command
