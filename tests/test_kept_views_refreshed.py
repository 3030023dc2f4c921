"""Kept views say what their definitions say after every kind of change, and only what changed is written."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import make_url

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.views import KeptView
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.kept import (
    A_MESSAGE,
    differences,
    keep,
    kept_names,
    migrate,
    modes,
    old_session,
    one,
    refresh,
    refresh_and_compare,
)
from tests.partitioned import BEHAVIOR, partition, rotate_all, set_policy

KEYED_ALL_TIME = ("chat_usage_by_account", "session_details")


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


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


@pytest.mark.every_version
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


@pytest.mark.every_version
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


def test_a_note_stays_until_every_view_has_seen_it(url: str) -> None:
    with connect(url) as conn:
        refresh(conn)
        session, _ = old_session(conn)
        conn.execute("delete from chat_messages where session_id = %s", (session,))
        outcomes = rows(conn, "select outcome from refresh_derived_statistics('session_details')")
        assert outcomes == [("keyed",)]
        assert value(conn, "select message_count from session_details where session_id = %s", (session,)) == 0
        done = refresh_and_compare(conn)
        assert done["chat_usage_by_account"][:2] == ("keyed", 2)
        conn.execute("select lifecycle.forget_changed_rows()")
        assert value(conn, "select count(*) from lifecycle.changed_rows") == 0
