"""`lifecycle cold query` as a person types it."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from sqlalchemy import make_url
from typer.testing import CliRunner, Result

from lifecycle.database import connect
from orchestration.cli import session
from orchestration.cli.main import app
from resources.variables import COLD_URL_VARIABLE, URL_VARIABLE
from tests.cold import COLD, MakeColdDb, local_storage, move_all

pytest_plugins = ("tests.cold_fixtures",)
pytestmark = pytest.mark.one_server

RUNNER = CliRunner()


@pytest.fixture
def url(make_cold_db: MakeColdDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with three cold months, which the environment names."""
    url = make_cold_db()
    move_all(url, local_storage(tmp_path / "cold"))
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv(COLD_URL_VARIABLE, (tmp_path / "cold").as_uri())
    monkeypatch.setattr("orchestration.cli.cold.declared_application", lambda: COLD)
    return url


def ask(*words: str, width: int = 80) -> Result:
    return RUNNER.invoke(app, ["cold", "query", *words], env={"COLUMNS": str(width)})


@pytest.mark.usefixtures("url")
def test_an_answer_fits_the_terminal() -> None:
    found = ask("select count(*) as events, max(page_url) as page from user_behavior_events")
    assert found.exit_code == 0, found.stderr
    assert [line.split() for line in found.stdout.splitlines()] == [["events", "page"], ["6", "/"]]
    wide = ask("select *, repeat('long ', 40) as text, E'\\x1b[31m\\n[red]' as odd from user_behavior_events")
    assert wide.exit_code == 0
    assert max(cell_len(line) for line in wide.stdout.splitlines()) <= 80
    assert wide.stdout.count("event_timestamp") == 6
    assert r"\x1b[31m\n[red]" in wide.stdout
    assert "\x1b" not in wide.stdout
    many = ask("select range from range(1234)")
    assert "100 of 1,234 rows; --csv FILE writes all." in many.stdout
    assert "\n   99\n" in many.stdout
    assert "\n  100\n" not in many.stdout


@pytest.mark.usefixtures("url")
def test_rows_are_written_to_files_that_are_not_there_yet(tmp_path: Path) -> None:
    query = "select id, event_timestamp, referrer from user_behavior_events order by 2"
    table, parquet = tmp_path / "rows.csv", tmp_path / "rows.parquet"
    found = ask(query, "--csv", str(table), "--parquet", str(parquet))
    assert found.exit_code == 0, found.stderr
    assert "6 rows written" in found.stdout
    with table.open() as file:
        written = list(csv.reader(file))
    assert written[0] == ["id", "event_timestamp", "referrer"]
    assert [row[0] for row in written[1:]] == [str(row) for row in pq.read_table(parquet).column("id").to_pylist()]
    again = ask(query, "--csv", str(table))
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_what_is_wrong_is_told_in_a_sentence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ask("select nothing from accounts", width=300)
    assert wrong.exit_code == 1
    assert 'Referenced column "nothing" not found' in wrong.stderr
    assert "Traceback" not in wrong.output
    assert ask("select 1", "--memory", "much").exit_code == 1
    with connect(url) as conn:
        conn.execute("drop table lifecycle.cold_files cascade")
    unprepared = ask("select 1", width=300)
    assert unprepared.exit_code == 1
    assert "lifecycle migrate" in unprepared.stderr
    monkeypatch.delenv(COLD_URL_VARIABLE)
    missing = ask("select 1", width=300)
    assert missing.exit_code == 2
    assert f"export {COLD_URL_VARIABLE}=s3://bucket/prefix" in missing.stderr
    monkeypatch.setenv(COLD_URL_VARIABLE, "s3://key:hidden@bucket/prefix")
    assert "hidden" not in ask("select 1").output
    monkeypatch.setenv(URL_VARIABLE, make_url(url).set(password="unmistakable").render_as_string(hide_password=False))  # noqa: S106
    assert "unmistakable" not in ask("select 1").output


def test_settings_of_the_store_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (
        (COLD_URL_VARIABLE, "s3://bucket/cold"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "hidden"),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", "https://any.example"),
    ):
        monkeypatch.setenv(name, text)
    found = session.cold_settings()
    assert (found.url, found.access_key, found.secret_key) == ("s3://bucket/cold", "key", "hidden")
    assert (found.session_token, found.region, found.endpoint) == ("token", "eu-west-1", "https://any.example")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example")
    assert session.cold_settings().endpoint == "https://s3.example"
    assert "hidden" not in repr(found)
