"""Refreshes and migrations of kept views beside readers, writers and each other, and one that is killed."""

from datetime import UTC, datetime, timedelta

import pytest

from lifecycle.database import connect, rows, value
from lifecycle.declarations.views import KeptView
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.views.archived import replace_view
from lifecycle.views.catalog import read_view
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.kept import A_MESSAGE, definition_of, old_session, refresh, refresh_and_compare


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


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


def test_one_refresh_at_a_time(url: str) -> None:
    with connect(url) as first, connect(url) as second, first.transaction():
        first.execute("select * from refresh_derived_statistics('session_details')")
        ((outcome, error),) = rows(second, "select outcome, error from refresh_derived_statistics('session_details')")
        assert outcome == "busy"
        assert "another session refreshes" in error
        assert value(second, "select count(*) from session_details") > 0


def test_what_is_prepared_may_still_be_committed(url: str) -> None:
    """No session shows it any more, and its rows may be as old as it."""
    with connect(url) as conn:
        conn.execute("begin")
        conn.execute("insert into accounts default values")
        conn.execute("prepare transaction 'a test'")
        try:
            safe, prepared = rows(conn, "select lifecycle.safe_until(), prepared from pg_prepared_xacts")[0]
            assert safe == prepared < value(conn, "select now()")
        finally:
            conn.execute("rollback prepared 'a test'")
        assert value(conn, "select lifecycle.safe_until()") > prepared


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


@pytest.mark.every_version
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


def test_a_view_that_is_replaced_between_being_read_and_being_exchanged_stays_the_applications(url: str) -> None:
    name = QualifiedName("public", "hourly")
    with connect(url) as conn:
        conn.execute("create view hourly as select date_trunc('hour', started_at) as hour from chat_sessions")
        with conn.transaction():
            conn.execute("set local search_path = ''")
            read = read_view(conn, name)
        assert read is not None
        conn.execute("create or replace view hourly as select date_trunc('hour', closed_at) as hour from chat_sessions")
        replaced = definition_of(conn, "hourly")
        with conn.transaction():
            conn.execute("set local search_path = ''")
            with pytest.raises(RefusedError, match="replaced it at this moment"):
                replace_view(conn, read, read.plain)
        assert definition_of(conn, "hourly") == replaced
