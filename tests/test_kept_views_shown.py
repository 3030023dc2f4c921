"""How kept views stand, for people: commands, check, plan, the view's comment, and the check of each asset."""

from typing import Any

import dagster as dg
import psycopg
import pytest
from typer.testing import CliRunner

from assets.application import application_key
from lifecycle.checking.check import check_declarations
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.relations import live_relations
from lifecycle.database import connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.views import KeptView
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.views.age import with_age, without_age
from lifecycle.views.kept_plan import KeptPlan, plan_kept
from lifecycle.views.statistics import statistics_status
from lifecycle.views.undo import give_back_view
from orchestration.cli import migrate as migrate_command
from orchestration.cli import views as views_command
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.few_views import ABSENT, COMMENT, DAILY, DEFINITION, DETAILS, few, replaced_by_the_application

pytestmark = pytest.mark.one_server

RUNNER = CliRunner()
AS_OF = "select public.figures_as_of(%s)"


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db()


def of_views(url: str, application: Application) -> dict[str, list[Mismatch]]:
    found: dict[str, list[Mismatch]] = {}
    with connect(url) as conn:
        for mismatch in check_declarations(conn, application):
            if mismatch.capability == "views":
                found.setdefault(mismatch.object, []).append(mismatch)
    return found


def plans(url: str, application: Application) -> dict[QualifiedName, KeptPlan]:
    with connect(url) as conn, conn.transaction():
        conn.execute("set transaction read only")
        before = value(conn, "select current_setting('search_path')")
        found = {plan.name: plan for plan in plan_kept(conn, application)}
        assert value(conn, "select current_setting('search_path')") == before
    return found


def comment(url: str, view: QualifiedName) -> Any:
    with connect(url) as conn:
        return value(conn, COMMENT, (str(view),))


@pytest.mark.parametrize("said", [None, "one line", "two\nlines", "lifecycle: a word of theirs"])
def test_our_line_of_a_comment_comes_and_goes(said: str | None) -> None:
    told = with_age(said, DAILY, "1 hour")
    assert "refreshed every 1 hour; select public.figures_as_of('public.daily_active_users') says when" in told
    assert with_age(told, DAILY, "1 hour") == told
    assert with_age(told, DAILY, "2 days") == told.replace("1 hour", "2 days")
    assert without_age(told) == said
    assert without_age(said) == said


def test_the_comment_tells_the_age_and_is_the_applications_again_afterwards(url: str) -> None:
    before = comment(url, DAILY)
    upgrade(url, few())
    assert comment(url, DAILY) == with_age(before, DAILY, "1 hour")
    assert upgrade(url, few()).changes == ()
    with connect(url) as conn:
        assert without_age(before) == next(r.comment for r in live_relations(conn, few()) if r.name == DAILY)
        conn.execute("comment on view daily_active_users is 'says it anew'")
    changed = few(daily_active_users=KeptView(every="2 hours"))
    upgrade(url, changed)
    assert comment(url, DAILY) == with_age("says it anew", DAILY, "2 hours")
    assert upgrade(url, changed).changes == ()
    give_back_view(url, changed, "daily_active_users")
    assert comment(url, DAILY) == "says it anew"


def test_one_view_is_given_back_and_the_declaration_must_follow(url: str) -> None:
    with connect(url) as conn, conn.transaction():
        conn.execute("set local search_path = ''")
        before = value(conn, DEFINITION, (str(DAILY),))
    upgrade(url, few())
    with connect(url) as conn:
        assert value(conn, AS_OF, (str(DAILY),)) is not None
    changes = give_back_view(url, few(), "daily_active_users").changes
    assert "take public.daily_active_users out of `kept`" in changes[-1]
    with connect(url) as conn:
        assert [status.name for status in statistics_status(conn)] == [DETAILS]
        assert value(conn, AS_OF, (str(DAILY),)) is None
        assert value(conn, "select to_regclass('lifecycle.kept_daily_active_users')") is None
        with conn.transaction():
            conn.execute("set local search_path = ''")
            assert value(conn, DEFINITION, (str(DAILY),)) == before


def test_the_plan_says_how_and_why_before_anything_is_made(url: str) -> None:
    with connect(url) as conn:
        conn.execute("create table loose (id int); create view of_loose as select id from loose order by id + 1")
        conn.execute("create view as_caller with (security_invoker) as select id from loose")
    application = few(of_loose=KeptView(), as_caller=KeptView(), top_search_keywords=KeptView())
    found = plans(url, application)
    assert {name.name: plan.state for name, plan in found.items()} == {
        "session_details": "to be kept",
        "daily_active_users": "to be kept",
        "of_next_year": "absent",
        "of_loose": "stays",
        "as_caller": "stays",
        "top_search_keywords": "stays",
    }
    assert (found[DETAILS].key, found[DETAILS].moves) == ("session_id", "never")
    assert (found[DAILY].key, found[DAILY].moves) == (None, "daily")
    assert "security_invoker" in found[QualifiedName("public", "as_caller")].told
    upgrade(url, application)
    found = plans(url, application)
    assert {plan.name for plan in found.values() if plan.state == "kept"} == {DETAILS, DAILY}
    assert (found[DETAILS].key, found[DETAILS].moves) == ("session_id", "never")
    assert set(of_views(url, application)) == {"public.of_loose", "public.as_caller", "public.top_search_keywords"}


@pytest.mark.every_version
def test_what_became_of_a_kept_view_is_found_and_cured(url: str) -> None:
    application = few(archive=True)
    upgrade(url, application)
    assert of_views(url, application) == {}
    replaced_by_the_application(url, DETAILS)
    replaced_by_the_application(url, DAILY)
    found = of_views(url, application)
    assert set(found) == {str(DETAILS), str(DAILY)}
    assert all("was replaced by the application" in each[0].told for each in found.values())
    assert "reads only those rows of public.chat_messages that are not archived" in found[str(DETAILS)][1].told
    assert len(found[str(DAILY)]) == 1
    with connect(url) as conn:
        assert value(conn, AS_OF, (str(DAILY),)) is None
    upgrade(url, application)
    assert of_views(url, application) == {}

    with connect(url) as conn:
        conn.execute("alter table chat_sessions add column mood text")
    assert "computed whole each time" in of_views(url, application)[str(DETAILS)][0].told
    upgrade(url, application)
    assert of_views(url, application) == {}

    with connect(url) as conn:
        conn.execute("drop view session_details")
    told = [mismatch.told for mismatch in of_views(url, application)[str(DETAILS)]]
    assert any("is declared and does not exist" in each for each in told)
    may_lack = few(archive=True, session_details=KeptView(optional=True))
    assert [mismatch.told for mismatch in of_views(url, may_lack)[str(DETAILS)]] == [
        "is gone: `lifecycle migrate` drops the table that it answered from"
    ]
    upgrade(url, may_lack)
    assert of_views(url, may_lack) == {}
    with connect(url) as conn:
        assert rows(conn, "select name, error from refresh_derived_statistics()") == [(str(DAILY), None)]
        assert [status.name for status in statistics_status(conn)] == [DAILY]


def test_a_new_text_over_an_archived_table_is_red_within_the_hour(url: str, instance: dg.DagsterInstance) -> None:
    """The job of the timetable: what is not due and what is absent keeps no check from being evaluated."""
    application = few(archive=True)
    upgrade(url, application)
    definitions = build_definitions(application, database=ApplicationDatabase(url=url))
    job = definitions.resolve_job_def("refresh_derived_statistics")

    def evaluated() -> dict[tuple[dg.AssetKey, str], dg.AssetCheckEvaluation]:
        result = job.execute_in_process(
            instance=instance,
            tags={"dagster/schedule_name": "hourly"},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        return {(each.asset_key, each.check_name): each for each in result.get_asset_check_evaluations()}

    names = {(application_key(name), check) for name in (DETAILS, DAILY, ABSENT) for check in ("fresh", "proved")}
    found = evaluated()
    assert set(found) == names
    assert all(each.passed for each in found.values())
    replaced_by_the_application(url, DETAILS)
    found = evaluated()
    red = [key for key, each in found.items() if not each.passed]
    assert red == [(application_key(DETAILS), "fresh")]
    assert found[red[0]].severity is dg.AssetCheckSeverity.ERROR
    assert "reads only those rows of public.chat_messages" in str(found[red[0]].description)


def test_the_commands(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv("COLUMNS", "80")
    application = few()
    for module in (views_command, migrate_command):
        monkeypatch.setattr(module, "declared_application", lambda: application)
    upgrade(url, application)

    shown = RUNNER.invoke(app, ["views"])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert {line.split()[0]: line.split()[-1] for line in shown.stdout.splitlines()[1:]} == {
        "session_details": "kept",
        "daily_active_users": "kept",
    }
    assert RUNNER.invoke(app, ["views", "refresh"]).exit_code == 0
    assert RUNNER.invoke(app, ["views", "compare", "public.session_details"]).exit_code == 0
    with connect(url) as conn:
        conn.execute("update lifecycle.kept_session_details set message_count = message_count + 1")
    compared = RUNNER.invoke(app, ["views", "compare"])
    assert compared.exit_code == 1
    assert "repaired" in compared.stdout
    assert RUNNER.invoke(app, ["views", "compare", "session_details"]).exit_code == 0

    mistyped = RUNNER.invoke(app, ["views", "refresh", "session_detail"])
    assert (mistyped.exit_code, "there is session_details" in mistyped.stderr) == (1, True)
    assert RUNNER.invoke(app, ["undo", "archive", "session_details"]).exit_code == 1
    replaced_by_the_application(url, DAILY)
    assert "the application replaced it" in RUNNER.invoke(app, ["views"]).stdout
    for command in ("refresh", "compare"):
        found = RUNNER.invoke(app, ["views", command])
        assert found.exit_code == 1
        assert ["daily_active_users", "changed"] in [line.split()[:2] for line in found.stdout.splitlines()]
        assert "public.daily_active_users: the application replaced it" in found.stderr
        assert "`lifecycle migrate` keeps the new one" in found.stderr
    given_back = RUNNER.invoke(app, ["undo", "views", "session_details"])
    assert "take public.session_details out of `kept`" in given_back.stdout
    assert "Declared and not kept: session_details" in RUNNER.invoke(app, ["views"]).stdout


def test_a_view_that_reads_with_its_readers_rights_is_found_and_given_back(url: str) -> None:
    """As Supabase's linter advises. Readers have no rights on the table that it answers from."""
    application = few()
    upgrade(url, application)
    figures = f"select * from {DAILY} order by date"
    with connect(url) as conn:
        before = rows(conn, figures)
        conn.execute("grant usage on schema public to service_role")
        conn.execute(
            "grant select on accounts, chat_sessions, user_behavior_events, daily_active_users to service_role"
        )
        conn.execute("alter view daily_active_users set (security_invoker = true)")
        as_reader = "set local role service_role"
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            rows(conn, f"{as_reader}; {figures}")
        (found,) = of_views(url, application)[str(DAILY)]
        assert "answers its owner alone, until `lifecycle migrate`" in str(found)
        assert f"view {DAILY} computes its rows itself again" in upgrade(url, application).changes
        with conn.transaction():
            conn.execute(as_reader.encode())
            assert rows(conn, figures) == before
        assert value(conn, "select reloptions from pg_class where oid = %s::regclass", (str(DAILY),)) == [
            "security_invoker=true"
        ]
    assert "security_invoker is on" in str(of_views(url, application))
    assert DETAILS in plans(url, application)
