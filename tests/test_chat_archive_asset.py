"""The archive as assets and on the command line: a run moves, describes without a text, and checks what it left."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets.archive import KEY, SPACE, archive_readable, nothing_overdue
from lifecycle.archive.status import overdue_messages, sample_archive
from lifecycle.database import connect, rows, value
from orchestration.cli.main import app
from orchestration.cli.plan_report import collect_plan
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from tests.archived import archive, archived, due, live, make_session, say
from tests.conftest import MakeApplicationDb

pytestmark = pytest.mark.one_server

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run(job: str, url: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    definition = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def(job)
    return definition.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)


def test_runs_move_delete_describe_and_check(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with dg.DagsterInstance.ephemeral() as instance, connect(url) as conn:
        expected = due(conn, datetime.now(UTC))
        plan = {plan.job: plan.rows for plan in collect_plan(url, datetime.now(UTC)).retention}
        assert set(plan) == {"archive_chat_messages", "delete_expired_vouchers"}
        result = run("archive_chat_messages", url, instance)
        assert result.success
        assert len(archived(conn)) >= len(expected) > 0
        assert {(e.check_name, e.passed) for e in result.get_asset_check_evaluations()} == {
            ("nothing_overdue", True),
            ("archive_readable", True),
            ("archive_read_like_messages", True),
        }
        event = instance.get_latest_materialization_event(KEY)
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert metadata["rows_moved"].value == len(archived(conn))
        assert metadata["space"].value == SPACE
        assert "data:image/png;base64," in str(metadata["chart"].value)
        told = str(metadata)
        assert not any(str(message[0]) in told for message in archived(conn).values())
        before = value(conn, "select count(*) from vouchers")
        assert run("delete_expired_vouchers", url, instance).success
        assert 0 < value(conn, "select count(*) from vouchers") < before


def test_checks_fail_when_they_should(make_application_db: MakeApplicationDb) -> None:
    url, now = make_application_db(rows=False, migrated=True), datetime.now(UTC)
    with connect(url) as conn:
        session, _ = make_session(conn)
        say(conn, session, "within the grace of a day", now - timedelta(days=90, hours=23))
        assert nothing_overdue(overdue_messages(conn, now)).passed
        say(conn, session, "overdue", now - timedelta(days=91, hours=1))
        overdue = nothing_overdue(overdue_messages(conn, now))
        assert not overdue.passed
        assert "1 messages are older than 91 days" in overdue.description
        archive(url, now)
        assert archive_readable(sample_archive(conn)).passed
        conn.execute("update chat_messages_archive set content_gzip = ''")
        assert not archive_readable(sample_archive(conn)).passed


def test_a_conversation_on_the_terminal_and_back(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, now = make_application_db(rows=False, migrated=True), datetime.now(UTC)
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv("COLUMNS", "120")
    with connect(url) as conn:
        session, _ = make_session(conn)
        say(conn, session, "雨の日は? [bold]", now - timedelta(days=100))
        say(conn, session, "恐竜博物館", now)
        archive(url, now)
        shown = CliRunner().invoke(app, ["chat", "read", str(session)])
        assert shown.exit_code == 0, shown.output
        (first,), (second,) = (
            [line for line in shown.output.splitlines() if text in line] for text in ("雨の日は? [bold]", "恐竜博物館")
        )
        assert "archive" in first
        assert "live" in second
        restored = CliRunner().invoke(app, ["chat", "restore", str(session), "--days", "7"])
        assert restored.output.startswith("1 messages are back, until ")
        assert len(live(conn)) == 2
        ((until,),) = rows(conn, "select until - restored_at from lifecycle.restored_chat_sessions")
        assert until == timedelta(days=7)
        conn.execute("delete from chat_sessions")
        assert CliRunner().invoke(app, ["chat", "read", str(session)]).exit_code == 1
