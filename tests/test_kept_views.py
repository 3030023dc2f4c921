"""What a view is to the application and its readers once it is kept, what cannot be, and what is given back."""

import psycopg
import pytest
from sqlalchemy import make_url

from lifecycle.database import connect, rows, value
from lifecycle.declarations.views import KeptView
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.undo import undo
from lifecycle.names import QualifiedName
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.kept import CATALOG, definition, definition_of, keep, kept_names, migrate, refresh, refresh_and_compare

VIEWS = """
select c.relname::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
   and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') order by 1
"""


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


@pytest.mark.one_server
def test_to_everybody_else_a_kept_view_is_the_view_that_it_was(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db()) as plain, connect(make_application_db(migrated=True)) as conn:
        declared = {name.name for name, view in APPLICATION.views.kept.items() if not view.optional}
        assert kept_names(conn) >= declared
        before = {row[0]: row[1:] for row in rows(plain, CATALOG)}
        after = {row[0]: row[1:] for row in rows(conn, CATALOG)}
        for name, row in before.items():
            assert after[name][:-1] == row[:-1], name
        for view in ("daily_active_users", "daily_chat_usage", "hourly_usage_patterns"):
            with conn.transaction():
                refresh(conn)
                assert rows(conn, f"select * from {view}") == rows(conn, definition(conn, view)), view
        plan = "\n".join(line for (line,) in rows(conn, "explain select * from chat_usage_by_account"))
        assert "kept_chat_usage_by_account" in plan
        assert "chat_messages" not in plan


@pytest.mark.one_server
@pytest.mark.every_version
def test_every_view_of_the_application_can_be_kept(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(december=True)
    with connect(url) as conn:
        views = [name for (name,) in rows(conn, VIEWS)]
    said = keep(
        url, **{name: KeptView() for name in views if QualifiedName("public", name) not in APPLICATION.views.kept}
    )
    with connect(url) as conn:
        assert set(views) <= kept_names(conn), said
        refresh_and_compare(conn)
        table = "select xmin::text from pg_class where relname like 'kept\\_%%' or relname = any (%s) order by oid"
        before = rows(conn, table, (views,))
        keep(url, **{name: KeptView() for name in views if name not in kept_names_declared()})
        assert rows(conn, table, (views,)) == before


def kept_names_declared() -> set[str]:
    return {name.name for name in APPLICATION.views.kept}


def test_the_catalog_knows_what_a_kept_view_depends_on(url: str) -> None:
    with connect(url) as conn:
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="session_details"):
            conn.execute("drop table chat_messages")
        with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="chat_performance_metrics"):
            conn.execute("alter table chat_messages drop column latency_ms")
        conn.execute("alter table chat_messages rename column latency_ms to took_ms")
        conn.execute("alter view daily_chat_usage rename to daily_chats")
        assert value(conn, "select count(*) from daily_chats") > 0
        conn.execute("drop view session_details")
        conn.execute("drop table chat_messages cascade")
        assert value(conn, "select to_regclass('chat_usage_by_account')") is None


def test_a_view_that_the_application_replaces_answers_by_its_new_definition(url: str) -> None:
    with connect(url) as conn:
        conn.execute(f"create or replace view session_details as {definition(conn, 'session_details')}".encode())
        text = definition_of(conn, "session_details")
        assert "lifecycle_kept" not in text
        ((outcome, error),) = rows(
            conn, "select outcome, error from refresh_derived_statistics('public.session_details')"
        )
        assert (outcome, error) == ("changed", None)
        others = rows(conn, "select outcome from refresh_derived_statistics('chat_usage_by_account')")
        assert others == [("keyed",)]
    assert "view public.session_details answers from lifecycle.kept_session_details" in migrate(url)
    with connect(url) as conn:
        refresh_and_compare(conn)
        conn.execute("drop view session_details")
        ((outcome, error),) = rows(conn, "select outcome, error from refresh_derived_statistics('session_details')")
        assert (outcome, error) == ("gone", None)
    assert "public.session_details stays as it is: it does not exist" in migrate(url)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("create view v as select id from accounts", "rows can be written through it"),
        (
            "create view v with (security_invoker = true) as select count(*) as n from accounts",
            "security_invoker is on",
        ),
        (
            "create view v as select count(*) as n from accounts; alter view v owner to service_role",
            "it belongs to service_role",
        ),
        (
            "create view v as select count(*) as n from accounts where current_user = 'postgres'",
            "may answer each reader",
        ),
        (
            "create view v as select count(*) as n from accounts where id = auth.uid()",
            "may answer each reader differently",
        ),
        ("create view v as select count(*) as n from accounts a order by min(a.created_at)", "it orders by"),
        ("create table v (n int)", "it is no view"),
        ("create materialized view v as select count(*) as n from accounts", "a materialized view stays one"),
    ],
)
def test_a_view_that_cannot_be_kept_stays_and_is_named(
    make_application_db: MakeApplicationDb, server: Server, made: str, reason: str
) -> None:
    url = make_application_db(rows=False, migrated=True)
    admin = make_url(server.url(user=SUPERUSER)).set(database=make_url(url).database)
    with psycopg.connect(admin.render_as_string(hide_password=False), autocommit=True) as conn:
        conn.execute("set role postgres" if "owner to" not in made else "select 1")
        for statement in made.split("; "):
            conn.execute(statement)
    with connect(url) as conn:
        before = value(conn, "select pg_get_viewdef(to_regclass('v'))") if "table" not in made else None
        said = keep(url, v=KeptView())
        assert "view public.v stays as it is: " in said
        assert reason in said
        assert before is None or value(conn, "select pg_get_viewdef(to_regclass('v'))") == before
        assert "v" not in kept_names(conn)


@pytest.mark.one_server
def test_given_back_a_view_is_what_it_was(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        before = {row[0]: row[1:] for row in rows(conn, CATALOG)}
        undo(url, APPLICATION, "views")
        after = {row[0]: row[1:] for row in rows(conn, CATALOG)}
        for name, row in before.items():
            assert after[name] == row, name
        for view in kept_names_declared() & set(before):
            text = definition_of(conn, view)
            assert "lifecycle." not in text, view
        assert rows(conn, "select tgname from pg_trigger where tgname like 'lifecycle\\_changed%'") == []
        assert rows(conn, "select relname from pg_class where relname like 'kept\\_%' and relkind = 'r'") in (
            [],
            [("kept_data_quality_metrics_history",)],
        )


@pytest.mark.one_server
def test_a_view_that_is_declared_no_longer_is_given_back(url: str) -> None:
    kept = {name: view for name, view in APPLICATION.views.kept.items() if name.name == "session_details"}
    declared = APPLICATION.model_copy(update={"views": APPLICATION.views.model_copy(update={"kept": kept})})
    upgrade(url, declared)
    with connect(url) as conn:
        assert kept_names(conn) == {"session_details"}
        assert "lifecycle_kept" not in definition_of(conn, "chat_usage_by_account")
        refresh_and_compare(conn)


def test_triggers_that_an_older_release_made_are_made_anew(url: str) -> None:
    condition = (
        "select pg_get_triggerdef(oid) from pg_trigger"
        " where tgrelid = 'chat_messages'::regclass and tgname = 'lifecycle_changed_update'"
    )
    with connect(url) as conn:
        made = value(conn, condition)
        conn.execute(
            "create or replace trigger lifecycle_changed_update after update on chat_messages for each row"
            " when (false) execute function lifecycle.note_changed_rows('public', 'chat_messages', 'session_id');"
            "update lifecycle.watched_tables set made_by = 'other statements' where source_name = 'chat_messages'"
        )
        assert "table public.chat_messages: changed rows are noted" in migrate(url)
        assert value(conn, condition) == made
        assert "changed rows are noted" not in migrate(url)
