"""The command `lifecycle`: its errors, its plan, its migration."""

import json
import re
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.database import connect, value
from orchestration.cli.main import app
from orchestration.cli.plan_parts import COLLECT
from resources.variables import APPLICATION_VARIABLE, BINARIES_VARIABLE, URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION_FOLDER, EVENT_TABLES

pytestmark = pytest.mark.one_server

RUNNER = CliRunner()
OBJECTS = (
    "select count(*) from pg_class where relnamespace not in ('pg_toast'::regnamespace, 'pg_catalog'::regnamespace)"
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.delenv(BINARIES_VARIABLE, raising=False)
    # `demo` names its own.
    monkeypatch.setenv(APPLICATION_VARIABLE, str(APPLICATION_FOLDER))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("command", ["plan", "migrate", "check"])
def test_a_missing_variable_is_named_with_an_example(command: str) -> None:
    result = RUNNER.invoke(app, [command])
    assert result.exit_code == 2
    assert f"export {URL_VARIABLE}=postgresql://" in result.stderr


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://nobody:secret@127.0.0.1:1/none", "can the server be reached"),
        ("mysql://nobody@127.0.0.1/none", "only postgresql is supported"),
    ],
)
def test_an_unusable_database_is_a_message_and_no_traceback(
    url: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, url)
    for command in ("plan", "migrate"):
        result = RUNNER.invoke(app, [command])
        assert result.exit_code == 1
        assert says in result.stderr
        assert "Traceback" not in result.output
        assert "secret" not in result.output


def test_migrate_prints_its_sql_without_a_database() -> None:
    result = RUNNER.invoke(app, ["migrate", "--sql"])
    assert result.exit_code == 0
    assert "create or replace function public.rotate_event_partitions" in result.stdout
    assert "-- Contents" in result.stdout


def test_the_release_is_told() -> None:
    assert re.fullmatch(r"lifecycle \d+\.\d+\.\d+\n", RUNNER.invoke(app, ["--version"]).stdout)


@pytest.mark.parametrize("command", ["plan", "migrate", "check", "docs"])
def test_broken_declarations_are_a_message(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "event_tables.yaml").write_text("app.visits: {time: at, keep: 2 monts}\n")
    monkeypatch.setenv(APPLICATION_VARIABLE, str(tmp_path))
    monkeypatch.setenv(URL_VARIABLE, "postgresql://nobody@127.0.0.1:1/none")
    result = RUNNER.invoke(app, [command])
    assert result.exit_code == 1
    assert "did you mean months?" in result.stderr
    assert "Traceback" not in result.output


def test_check_prints_lines_to_paste_and_has_an_exit_code(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_application_db(rows=False, migrated=True)
    monkeypatch.setenv(URL_VARIABLE, url)
    assert RUNNER.invoke(app, ["check"]).exit_code == 0
    with connect(url) as conn:
        conn.execute("create table public.wishes (id int primary key, account_id uuid references accounts, words text)")
    result = RUNNER.invoke(app, ["check"])
    assert result.exit_code == 1
    assert "To add to personal_data.yaml" in result.stdout
    assert "{by: account_id, key: person}" in result.stdout
    found = json.loads(RUNNER.invoke(app, ["check", "--json"]).stdout)
    assert {(one["object"], one["file"]) for one in found} >= {("public.wishes", "personal_data.yaml")}


def test_undo_says_what_it_took_back(make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, make_application_db(rows=False, migrated=True))
    assert RUNNER.invoke(app, ["undo", "cold"]).exit_code == 0
    result = RUNNER.invoke(app, ["undo", "partitions"])
    assert result.exit_code == 0
    assert "revision partitions_0001: taken back" in result.stdout
    assert "Nothing to take back" in RUNNER.invoke(app, ["undo", "partitions"]).stdout
    assert RUNNER.invoke(app, ["undo", "ledger"]).exit_code == 1


def test_migrate_twice(make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_application_db(rows=False)
    monkeypatch.setenv(URL_VARIABLE, url)
    for told in ("revision partitions_0001", "Nothing to change"):
        result = RUNNER.invoke(app, ["migrate"])
        assert result.exit_code == 0, result.output
        assert told in result.stdout
    with connect(url) as conn:
        assert value(conn, "select count(*) from lifecycle.event_table_policies") == len(EVENT_TABLES)


def test_plan_changes_nothing_and_says_what_would_happen(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_application_db(migrated=True)
    monkeypatch.setenv(URL_VARIABLE, url)
    with connect(url) as conn:
        before = value(conn, OBJECTS)
    screen = RUNNER.invoke(app, ["plan"])
    assert screen.exit_code == 0, screen.output
    for table in EVENT_TABLES:
        assert table.qualified_name in screen.stdout
    result = RUNNER.invoke(app, ["plan", "partitions"])
    for words in ("Conversion of public.", "ON CONFLICT", "run the job convert_event_tables"):
        assert words in result.stdout
    as_json = json.loads(RUNNER.invoke(app, ["plan", "--json"]).stdout)
    conversions = as_json["partitions"]["conversions"]
    assert [conversion["state"] for conversion in conversions] == ["ready"] * len(EVENT_TABLES)
    assert conversions[0]["rows"] > 0
    assert as_json["database"]["transaction_pooler"] is False
    with connect(url) as conn:
        assert value(conn, OBJECTS) == before


def test_plan_before_the_migration_says_what_to_do(empty_application_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, empty_application_db)
    result = RUNNER.invoke(app, ["plan"])
    assert result.exit_code == 0, result.output
    assert "run `lifecycle migrate`, then the job" in " ".join(result.stdout.replace("│", " ").split())
    assert "there is one for partitions" in RUNNER.invoke(app, ["plan", "partition"]).stderr


@pytest.mark.parametrize("migrated", [False, True])
@pytest.mark.every_version
def test_plan_fits_a_screen_of_80_columns(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch, migrated: bool
) -> None:
    monkeypatch.setenv(URL_VARIABLE, make_application_db(migrated=migrated))
    monkeypatch.setenv("COLUMNS", "80")
    screen = RUNNER.invoke(app, ["plan"])
    assert screen.exit_code == 0, screen.output
    printed = screen.stdout.splitlines()
    assert len(printed) <= 40
    assert max(map(len, printed)) <= 80
    told = [line.split()[0] for line in printed if line and not line.startswith(" ")]
    for capability in COLLECT:
        assert capability in told
        page = RUNNER.invoke(app, ["plan", capability])
        assert page.exit_code == 0, page.output
        assert capability in page.stdout


def test_a_revision_of_nobody_is_a_message(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_application_db(rows=False, migrated=True)
    monkeypatch.setenv(URL_VARIABLE, url)
    with connect(url) as conn:
        conn.execute("update lifecycle.alembic_version set version_num = 'views_9999' where version_num like 'views_%'")
    result = RUNNER.invoke(app, ["migrate"])
    assert result.exit_code == 1
    assert "are not those of this release: Can't locate revision identified by 'views_9999'" in result.stderr
    assert "Install the release" in result.stderr


def test_a_file_that_cannot_be_written_is_a_message(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(URL_VARIABLE, make_application_db(rows=False, migrated=True))
    nowhere = tmp_path / "none" / "person"
    result = RUNNER.invoke(app, ["person", "export", "00000000-0000-0000-0000-000000000000", "--to", str(nowhere)])
    assert result.exit_code == 1
    assert not re.search(r"Error|Errno|Traceback", result.output + result.stderr)


def test_demo_refuses_a_taken_port_before_it_starts_anything() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = RUNNER.invoke(app, ["demo", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert "choose another one with --port" in result.stderr
    assert "PostgreSQL" not in result.output


def test_demo_without_its_data_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = RUNNER.invoke(app, ["demo", "--once", "--data", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "absent" in result.stderr
    assert not list(tmp_path.glob("lifecycle-demo-*"))
