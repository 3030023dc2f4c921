"""Kept views: what the application and its readers see of them, and that they say what their definitions say."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import make_url

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.views import KeptView
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.undo import undo
from lifecycle.names import QualifiedName
from lifecycle.views.archived import archive_layouts, hide_archive, show_archives
from sandbox.server import SUPERUSER, Server
from tests.archived import archive, restore
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.kept import A_MESSAGE, definition, differences, modes, one, refresh, refresh_and_compare
from tests.partitioned import BEHAVIOR, partition, rotate_all, set_policy

KEYED_ALL_TIME = ("chat_usage_by_account", "session_details")
CATALOG = """
select c.relname::text, c.relkind::text, pg_get_userbyid(c.relowner)::text, c.reloptions,
       -- Our line below the application's comment aside.
       split_part(obj_description(c.oid, 'pg_class'), E'\nlifecycle: answers from a table', 1),
       array(select row (a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, a.attacl,
                         col_description(c.oid, a.attnum))::text
               from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum),
       array(select a::text from unnest(c.relacl) a order by 1)
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('v', 'm') order by 1
"""
VIEWS = """
select c.relname::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
   and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') order by 1
"""


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


def keep(url: str, **views: KeptView) -> str:
    """Declare these views of schema public beside the shipped ones, and migrate; what that said."""
    kept = {**APPLICATION.views.kept, **{QualifiedName("public", name): view for name, view in views.items()}}
    declared = APPLICATION.model_copy(update={"views": APPLICATION.views.model_copy(update={"kept": kept})})
    return "\n".join(upgrade(url, declared).changes)


def migrate(url: str) -> str:
    with connect(url) as conn:  # as a release does whose declarations are others
        conn.execute("delete from lifecycle.migrated_declarations")
    return "\n".join(upgrade(url, APPLICATION).changes)


def kept_names(conn: Connection) -> set[str]:
    return {name for (name,) in rows(conn, "select view_name from lifecycle.kept_views")}


def old_session(conn: Connection) -> tuple[object, object]:
    """A session with messages, none of them recent, and its account."""
    return rows(
        conn,
        "select s.id, s.account_id from chat_sessions s join chat_messages m on m.session_id = s.id"
        " where s.started_at between now() - interval '80 days' and now() - interval '2 days'"
        " group by 1 having count(*) > 2 order by 1 limit 1",
    )[0]


# What everybody sees


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
        conn.execute(
            "create or replace view session_details as "
            + definition(conn, "session_details").replace(" ORDER BY", " AND false ORDER BY", 0)
            + ""
        )
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


def definition_of(conn: Connection, view: str) -> str:
    return str(value(conn, "select pg_get_viewdef(to_regclass(%s))", (view,)))


# What it says


def steps(conn: Connection) -> Iterator[str]:
    """Do something to the rows, and say what."""
    session, account = old_session(conn)
    for said, at in (
        ("now", "now"),
        ("late", "(now() - interval '3 hours')"),
        ("very late", "(now() - interval '70 days')"),
        ("in the future", "(now() + interval '40 days')"),
        ("at the beginning of time", "'0001-01-01 BC'"),
        ("infinitely late", "'infinity'"),
        ("before all time", "'-infinity'"),
    ):
        moment = "now()" if at == "now" else at
        conn.execute(A_MESSAGE.replace("%s::timestamptz", f"{moment}::timestamptz").encode(), (session,))
        yield f"a message {said}"
    conn.execute("update chat_messages set latency_ms = 99999, role = 'assistant' where session_id = %s", (session,))
    yield "corrected"
    conn.execute(
        "update chat_messages set created_at = created_at - interval '30 days' where session_id = %s"
        " and isfinite(created_at) and created_at > '2000-01-01'",
        (session,),
    )
    yield "moved in time"
    conn.execute(
        "update chat_messages set session_id ="
        " (select id from chat_sessions where account_id <> %s order by id limit 1),"
        " sequence = sequence + 100000 where session_id = %s",
        (account, session),
    )
    yield "moved to another session"
    conn.execute(
        "update chat_sessions set account_id = (select id from accounts where id <> %s order by id limit 1)"
        " where id = (select id from chat_sessions where account_id <> %s order by id desc limit 1)",
        (account, account),
    )
    yield "a session moved to another account"
    conn.execute(
        "update chat_sessions set last_activity_at = now(), metadata = '{\"errors\": [1]}' where id = %s", (session,)
    )
    yield "a session goes on"
    conn.execute(
        "delete from chat_messages where id in (select id from chat_messages order by created_at, id limit 20)"
    )
    conn.execute(
        "delete from chat_messages where id in (select id from chat_messages order by created_at desc, id limit 20)"
    )
    yield "messages deleted"
    conn.execute("delete from chat_sessions where id in (select id from chat_sessions order by id limit 3)")
    yield "sessions deleted, their messages by cascade"
    conn.execute(
        "insert into search_queries (search_query, searched_at, search_source, results_count)"
        " select 'tie', now() - interval '1 day', 'chat', 3 from generate_series(1, 4)"
    )
    conn.execute(
        "update search_queries set search_query = 'other' where search_query <> 'tie'"
        " and id in (select id from search_queries order by id limit 3)"
    )
    yield "ties, and keys that change"
    conn.execute(
        "update user_behavior_events set account_id = null, session_id = 'erased' where account_id = %s", (account,)
    )
    conn.execute("update search_queries set account_id = null, search_query = '' where account_id = %s", (account,))
    yield "a person's rows scrubbed"
    conn.execute("delete from accounts where id = %s", (account,))
    yield "an account deleted"
    conn.execute("truncate search_queries cascade")
    yield "search queries emptied"
    conn.execute("truncate chat_sessions cascade")
    yield "conversations emptied"


def test_kept_equals_definition_after_every_kind_of_change(url: str) -> None:
    with connect(url) as conn:
        refresh(conn)
        for said in steps(conn):
            with conn.transaction():
                conn.execute("set local timezone = 'UTC'")
                refresh(conn)
                assert differences(conn) == {}, said
        assert value(conn, "select count(*) from chat_usage_by_account where total_messages > 0") == 0


def test_only_what_changed_is_computed_and_written(url: str) -> None:
    with connect(url) as conn:
        # No row is recent: nothing is looked at again.
        conn.execute("delete from chat_sessions where started_at > now() - interval '5 hours'")
        conn.execute("delete from chat_messages where created_at > now() - interval '5 hours'")
        refresh(conn)
        assert modes(refresh(conn), KEYED_ALL_TIME) == {"skipped"}
        session, account = old_session(conn)
        conn.execute(A_MESSAGE, (datetime.now(UTC) - timedelta(days=1), session))
        xmin = (
            "select xmin::text, ctid::text from lifecycle.kept_chat_usage_by_account where account_id <> %s order by 2"
        )
        before = rows(conn, xmin, (account,))
        done = refresh_and_compare(conn)
        assert done["chat_usage_by_account"] == ("keyed", 2, None)  # a row away, a row written
        assert done["session_details"] == ("keyed", 2, None)
        assert done["daily_chat_usage"][0::2] == ("whole", "rows changed")
        assert done["search_analytics"][0] == "skipped" or done["search_analytics"][1] == 0
        assert rows(conn, xmin, (account,)) == before
        assert value(conn, "select lifecycle.forget_changed_rows()") > 0
        assert value(conn, "select count(*) from lifecycle.changed_rows") == 0


def test_a_new_row_leaves_no_note_and_a_late_one_does(url: str) -> None:
    with connect(url) as conn:
        refresh(conn)
        conn.execute("select lifecycle.forget_changed_rows()")
        session, _ = old_session(conn)
        conn.execute(A_MESSAGE, (datetime.now(UTC), session))
        assert value(conn, "select count(*) from lifecycle.changed_rows") == 0
        conn.execute(A_MESSAGE, (datetime.now(UTC) - timedelta(hours=3), session))
        assert rows(conn, "select source_name, held ->> 'session_id' from lifecycle.changed_rows") == [
            ("chat_messages", str(session))
        ]


def test_an_empty_database(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        refresh_and_compare(conn)
        conn.execute(
            "with a as (insert into accounts default values returning id)"
            " insert into chat_sessions (account_id) select id from a"
        )
        refresh_and_compare(conn)
        assert value(conn, "select count(*) from session_details") == 1


def test_a_truncate_is_never_taken_for_seen(url: str) -> None:
    """It commits after a refresh of all has read what there is to refresh, and before it comes to this view."""
    with connect(url) as conn, connect(url) as other:
        refresh(conn)
        with conn.transaction():
            conn.execute(
                "create temp table to_do on commit drop as"
                " select v from lifecycle.kept_views v where v.view_name = 'user_content_journey'"
            )
            other.execute("truncate search_queries")
            ((mode, note),) = rows(conn, "select r.mode, r.note from to_do t, lifecycle.refresh_kept_view(t.v) r")
            assert (mode, note) == ("whole", "a table that it reads was emptied")
        refresh_and_compare(conn)


def test_months_that_expire_take_their_figures_along(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    partition(url, datetime.now(UTC))
    with connect(url) as conn:
        refresh_and_compare(conn)
        days = "select coalesce(sum(total_days_active), 0) from user_engagement_scores"
        before = value(conn, days)
        set_policy(conn, BEHAVIOR, retention="2 months")
        dropped = [action for action in rotate_all(conn, table=BEHAVIOR) if action.action == "drop"]
        assert dropped
        assert value(conn, "select count(*) from lifecycle.changed_rows where source_name = %s", (BEHAVIOR.name,)) > 0
        refresh_and_compare(conn)
        assert value(conn, days) < before


def test_what_goes_to_the_archive_and_comes_back_changes_no_figure(url: str) -> None:
    now = datetime.now(UTC)
    views = ("chat_usage_by_account", "session_details", "account_function_usage")
    with connect(url) as conn:
        refresh(conn)
        conn.execute("select refresh_analytics_hourly()")
        conn.execute("select lifecycle.forget_changed_rows()")
        before = {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views}
        moved = archive(url, now)
        assert moved.moved > 0
        assert value(conn, "select count(*) from lifecycle.changed_rows") == 0
        refresh_and_compare(conn)
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before
        conn.execute("refresh materialized view concurrently account_function_usage")
        conn.execute("select refresh_chat_analytics()")  # the application's own
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before
        conn.execute("update lifecycle.kept_views set whole_due = 'test'")
        refresh_and_compare(conn)
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before
        session = value(conn, "select session_id from chat_messages_archive order by 1 limit 1")
        restore(conn, session, now)
        refresh_and_compare(conn)
        assert {view: sorted(rows(conn, f"select * from {view}"), key=repr) for view in views} == before


def test_the_materialized_view_over_the_archive_is_dressed_as_it_was(make_application_db: MakeApplicationDb) -> None:
    indexes = "select indexdef from pg_indexes where tablename = 'account_function_usage' order by 1"
    with connect(make_application_db()) as plain, connect(make_application_db(migrated=True)) as conn:
        assert "chat_messages_archive" in definition_of(conn, "account_function_usage")
        assert rows(conn, indexes) == rows(plain, indexes)
        mine, theirs = (
            next(row for row in rows(each, CATALOG) if row[0] == "account_function_usage") for each in (conn, plain)
        )
        assert mine[:-1] == theirs[:-1]
    with connect(make_application_db(migrated=True)) as conn:
        layouts = archive_layouts(conn, APPLICATION)
        ((source, layout),) = layouts.items()
        assert list(hide_archive(conn, source, layout.archive.declared.archive))
        conn.execute("grant select on account_function_usage to authenticator with grant option")
        conn.execute("comment on column account_function_usage.usage_count is 'how often'")
        before = [row for row in rows(conn, CATALOG) if row[0] == "account_function_usage"]
        assert list(show_archives(conn, layouts))
        assert "chat_messages_archive" in definition_of(conn, "account_function_usage")
        assert [row for row in rows(conn, CATALOG) if row[0] == "account_function_usage"] == before


def test_compare_finds_and_repairs_what_nothing_changed(url: str) -> None:
    with connect(url) as conn:
        refresh(conn)
        assert {outcome for (outcome,) in rows(conn, "select outcome from reconcile_statistics()")} == {"equal"}
        conn.execute(
            "delete from lifecycle.kept_session_details where ctid in"
            " (select ctid from lifecycle.kept_session_details where started_at < now() - interval '2 days' limit 2)"
        )
        ((outcome, differing, error),) = rows(
            conn, "select outcome, differing, error from reconcile_statistics('session_details')"
        )
        assert (outcome, differing) == ("repaired", 2)
        assert "2 rows differed" in error
        refresh_and_compare(conn)
        assert rows(conn, "select outcome from reconcile_statistics('session_details')") == [("equal",)]


def test_what_a_view_said_stays_as_long_as_declared(url: str) -> None:
    with connect(url) as conn:
        for _ in range(2):
            refresh(conn)
        said = "select count(distinct said_at) from lifecycle.kept_data_quality_metrics_history"
        assert value(conn, said) >= 2
        conn.execute("update lifecycle.kept_data_quality_metrics_history set said_at = now() - interval '3 years'")
        refresh(conn)
        assert value(conn, said) == 1
        now = "select figures_as_of(%s) between now() - interval '1 minute' and now()"
        assert value(conn, now, ("public.session_details",))
        assert value(conn, now, ("session_details",))
        assert value(conn, "select figures_as_of('chat_messages')") is None


# Who does it, and when


def test_one_refresh_at_a_time(url: str) -> None:
    with connect(url) as first, connect(url) as second, first.transaction():
        first.execute("select * from refresh_derived_statistics('session_details')")
        ((outcome, error),) = rows(second, "select outcome, error from refresh_derived_statistics('session_details')")
        assert outcome == "busy"
        assert "another session refreshes" in error
        assert value(second, "select count(*) from session_details") > 0


def test_a_refresh_that_is_killed_leaves_nothing_half(url: str) -> None:
    with connect(url) as conn:
        session, _ = old_session(conn)
        refresh(conn)
        conn.execute(A_MESSAGE, (datetime.now(UTC) - timedelta(days=1), session))
        state = (
            "select array(select t::text from lifecycle.kept_session_details t order by 1),"
            " array(select (seen, refreshed_at)::text from lifecycle.kept_views order by place)"
        )
        before = rows(conn, state)
        victim = connect(url)
        victim.execute("begin")
        assert refresh(victim)["session_details"][:2] == ("keyed", 2)
        value(conn, "select pg_terminate_backend(%s, 30000)", (victim.info.backend_pid,))
        assert rows(conn, state) == before
        assert refresh_and_compare(conn)["session_details"][:2] == ("keyed", 2)


def test_readers_and_a_refresh_do_not_wait_for_each_other(url: str) -> None:
    with connect(url) as conn, connect(url) as reader:
        session, _ = old_session(conn)
        refresh(conn)
        reader.execute("begin isolation level repeatable read")
        before = rows(reader, "select * from session_details order by session_id")
        conn.execute(A_MESSAGE, (datetime.now(UTC) - timedelta(days=1), session))
        conn.execute("set lock_timeout = '100ms'")
        assert refresh(conn)["session_details"][:2] == ("keyed", 2)
        assert rows(reader, "select * from session_details order by session_id") == before
        reader.execute("rollback")
        assert rows(reader, "select * from session_details order by session_id") != before
        with conn.transaction():
            refresh(conn)
            reader.execute("set statement_timeout = '2s'")
            assert value(reader, "select count(*) from session_details") == len(before)


def test_migrate_waits_for_no_reader_for_long_and_goes_on_afterwards(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn, connect(url) as reader:
        conn.execute(
            "create view hourly as"
            " select date_trunc('hour', started_at) as hour, count(*) from chat_sessions group by 1"
        )
        reader.execute("begin")
        value(reader, "select count(*) from hourly")
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            reader.execute("rollback")

        kept = {**APPLICATION.views.kept, QualifiedName("public", "hourly"): KeptView()}
        declared = APPLICATION.model_copy(update={"views": APPLICATION.views.model_copy(update={"kept": kept})})
        assert "view public.hourly answers from lifecycle.kept_hourly" in upgrade(url, declared, sleep=sleep).changes
        assert slept
        refresh_and_compare(conn)


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


def test_a_base_column_that_changes_makes_the_view_whole(url: str) -> None:
    with connect(url) as conn:
        refresh(conn)
        conn.execute("alter table chat_sessions add column mood text")
        done = refresh_and_compare(conn)
        assert done["session_details"][0::2] == ("whole", "the definition or what it reads has changed")
        conn.execute("alter table chat_sessions rename column account_id to person_id")
        session, _ = rows(conn, "select id, person_id from chat_sessions order by id limit 1")[0]
        conn.execute(A_MESSAGE, (datetime.now(UTC) - timedelta(days=1), session))
        assert refresh_and_compare(conn)["chat_usage_by_account"][0] == "whole"
    migrate(url)
    with connect(url) as conn:
        refresh_and_compare(conn)
        conn.execute(
            "update chat_sessions set person_id = (select min(person_id::text)::uuid from chat_sessions)"
            " where id = (select max(id::text)::uuid from chat_sessions)"
        )
        assert refresh_and_compare(conn)["chat_usage_by_account"][0] == "keyed"


def test_views_upon_kept_views_follow_in_their_order(url: str) -> None:
    with connect(url) as conn:
        conn.execute(
            "create view a_top as select account_id, sum(total_sessions) as n from chat_usage_by_account group by 1"
        )
    with connect(url) as conn:
        columns = value(conn, "select column_names from lifecycle.kept_views where view_name = 'chat_usage_by_account'")
    assert columns
    keep(url, a_top=KeptView())
    with connect(url) as conn:
        assert "a_top" in kept_names(conn)
        session, _ = old_session(conn)
        conn.execute(A_MESSAGE, (datetime.now(UTC) - timedelta(days=1), session))
        refresh_and_compare(conn)


def test_a_publication_of_all_tables_refuses_no_refresh(url: str, server: Server) -> None:
    admin = make_url(server.url(user=SUPERUSER)).set(database=make_url(url).database)
    with psycopg.connect(admin.render_as_string(hide_password=False), autocommit=True) as conn:
        conn.execute("create publication everything for all tables")
    with connect(url) as conn:
        session, _ = old_session(conn)
        conn.execute(A_MESSAGE, (datetime.now(UTC) - timedelta(days=1), session))
        refresh_and_compare(conn)
        conn.execute("delete from chat_sessions where id = %s", (session,))
        refresh_and_compare(conn)
        assert one(conn, "select lifecycle.forget_changed_rows()") > 0
