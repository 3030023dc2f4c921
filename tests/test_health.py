"""`lifecycle health` tells each part that does not work; tests/test_systemd.py and test_release.py have all that do."""

import json
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from lifecycle.database import connect
from orchestration.cli.main import app
from orchestration.health import application_database, daemon, sensors, web_server
from resources.variables import HOME_VARIABLE, STORAGE_VARIABLE, URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.test_watchdog import listening

pytestmark = pytest.mark.one_server
NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none"
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_the_database_has_to_answer_and_to_be_of_this_release(make_application_db: MakeApplicationDb) -> None:
    unreachable = application_database(NOBODY)
    assert not unreachable.healthy
    assert "secret" not in unreachable.told
    assert "is not prepared" in application_database(make_application_db(rows=False)).told
    url = make_application_db(rows=False, migrated=True)
    assert application_database(url).healthy
    with connect(url) as conn:
        conn.execute("update lifecycle.releases set release = '0.0.9'")
    older = application_database(url)
    assert not older.healthy
    assert "was migrated by release 0.0.9" in older.told


def test_a_daemon_of_which_nothing_is_heard_is_told(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert "sensor" in daemon(instance, NOW).told
        assert not daemon(instance, NOW).healthy
        assert "has never looked" in sensors(instance, NOW).told


def test_a_web_server_answers_or_is_told() -> None:
    with listening() as server:
        where = server.url.rpartition("/ping")[0]
        assert web_server(where).healthy
        server.answer = 401
        assert "answers 401" in web_server(where).told
    assert not web_server(where).healthy
    assert not web_server("no address").healthy


def test_one_line_a_part_and_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {URL_VARIABLE: NOBODY, HOME_VARIABLE: str(tmp_path), STORAGE_VARIABLE: NOBODY}.items():
        monkeypatch.setenv(name, text)
    told = CliRunner().invoke(app, ["health", "--ui", "", "--json"])
    assert told.exit_code == 1
    parts = {part["name"]: part for part in json.loads(told.stdout)}
    assert [name for name, part in parts.items() if not part["healthy"]] == ["database", "Dagster's database"]
    assert "run `lifecycle home`" in told.stdout
    (tmp_path / "dagster.yaml").write_text("")
    told = CliRunner().invoke(app, ["health", "--ui", ""])
    assert told.exit_code == 1
    assert told.stdout.count("ILL") == 2
    assert "nobody listens" in told.stdout
    assert "secret" not in told.stdout
