"""The archive as assets and on the command line: a run moves, describes without a text, and checks what it left."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets.archive import (
    SPACE,
    Look,
    archive_key,
    archive_read_like_its_table,
    archive_readable,
    look_at,
    no_figure_changes,
    nothing_overdue,
)
from lifecycle.archive.layout import Archive
from lifecycle.database import connect, rows, value
from lifecycle.expiry.plan import plan_retention
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from tests.archived import CHAT, LONG, archive, archived, due, live, make_session, say
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

pytestmark = pytest.mark.one_server

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


ACCEPTED = {"ops": {"public__chat_messages_archive": {"config": {"accept_changed_views": True}}}}


def run(job: str, url: str, instance: dg.DagsterInstance, accepted: bool = False) -> dg.ExecuteInProcessResult:
    definition = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def(job)
    config = QUIET | (ACCEPTED if accepted else {})
    return definition.execute_in_process(instance=instance, raise_on_error=False, run_config=config)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {event.check_name: event.passed for event in result.get_asset_check_evaluations()}


def test_runs_move_delete_describe_and_check(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with dg.DagsterInstance.ephemeral() as instance, connect(url) as conn:
        expected = due(conn, datetime.now(UTC))
        plans = {plan.job: plan for plan in plan_retention(conn, APPLICATION, datetime.now(UTC))}
        assert set(plans) == {"archive_chat_messages", "delete_expired_vouchers"}
        assert not any(reader.startswith("view ") for reader in plans["archive_chat_messages"].changes)
        result = run("archive_chat_messages", url, instance, accepted=True)
        assert result.success
        assert len(archived(conn)) >= len(expected) > 0
        assert checks(result) == {
            "no_figure_changes": True,
            "nothing_overdue": True,
            "archive_readable": True,
            "archive_read_like_its_table": True,
        }
        event = instance.get_latest_materialization_event(archive_key(CHAT))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert metadata["rows_moved"].value == len(archived(conn))
        assert metadata["space"].value == SPACE
        assert "data:image/png;base64," in str(metadata["picture"].value)
        told = str(metadata)
        assert not any(str(message[0]) in told for message in archived(conn).values())
        before = value(conn, "select count(*) from vouchers")
        assert run("delete_expired_vouchers", url, instance).success
        assert 0 < value(conn, "select count(*) from vouchers") < before


def test_no_row_moves_while_figures_would_change(make_application_db: MakeApplicationDb) -> None:
    """The nightly run ends well all the same, names what would change, and takes up new columns."""
    url = make_application_db(migrated=True)
    with dg.DagsterInstance.ephemeral() as instance, connect(url) as conn:
        before = live(conn)
        conn.execute("create view of_all_messages as select count(*) from chat_messages")
        conn.execute("create view upon_it as select * from of_all_messages")
        conn.execute("alter table chat_messages add language text")
        result = run("archive_chat_messages", url, instance)
        assert result.success
        assert set(live(conn)) == set(before)
        assert archived(conn) == {}
        assert value(conn, "select count(language) from chat_messages_archive") == 0
        assert checks(result)["nothing_overdue"]
        (warning,) = (e for e in result.get_asset_check_evaluations() if e.check_name == "no_figure_changes")
        assert not warning.passed
        assert warning.severity is dg.AssetCheckSeverity.WARN
        for name in ("view public.of_all_messages", "view public.upon_it"):
            assert name in str(warning.description)
        event = instance.get_latest_materialization_event(archive_key(CHAT))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["rows_moved"].value == 0
        assert "view public.upon_it" in str(event.asset_materialization.metadata["waits_for"].value)


def test_checks_fail_when_they_should(make_application_db: MakeApplicationDb) -> None:
    url, now = make_application_db(rows=False, migrated=True), datetime.now(UTC)
    declared = APPLICATION.archived_tables[CHAT.source].model_copy(update={"accept_changed_views": True})
    accepted = Archive(CHAT.source, declared)
    with connect(url) as conn:

        def look() -> Look:
            return look_at(conn, APPLICATION, accepted)

        session, _ = make_session(conn)
        say(conn, session, "within the grace of a day", now - timedelta(days=90, hours=23))
        assert nothing_overdue(look()).passed
        say(conn, session, LONG, now - timedelta(days=91, hours=1))
        overdue = nothing_overdue(look())
        assert not overdue.passed
        assert "1 rows are older than 91 days" in overdue.description
        archive(url, now)
        assert archive_readable(look()).passed
        assert no_figure_changes(look()).passed
        conn.execute("update chat_messages_archive set content_gzip = '' where content_gzip is not null")
        assert not archive_readable(look()).passed
        conn.execute("grant select on chat_messages_archive to authenticator")
        assert not archive_read_like_its_table(look()).passed


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
        assert restored.output.startswith("1 rows are back, until ")
        assert len(live(conn)) == 2
        ((until,),) = rows(conn, "select until - restored_at from lifecycle.restored_groups")
        assert until == timedelta(days=7)
        conn.execute("create view of_all_messages as select count(*) from chat_messages")
        refused = CliRunner().invoke(app, ["chat", "archive"])
        assert refused.exit_code == 1
        assert "view public.of_all_messages" in refused.output
        assert len(live(conn)) == 2
        say(conn, make_session(conn)[0], "old", now - timedelta(days=100))
        moved = CliRunner().invoke(app, ["chat", "archive", "--accept-changed-views"])
        assert moved.output.startswith("1 rows moved")
        assert CliRunner().invoke(app, ["chat", "restore", "--all"]).output.startswith("1 rows are back")
        conn.execute("delete from chat_sessions")
        assert CliRunner().invoke(app, ["chat", "read", str(session)]).exit_code == 1
