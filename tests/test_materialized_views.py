"""refresh_analytics_hourly(): one row per view, no queue, no blocked reader, a clear outcome."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import BusyError, LifecycleError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.views.plan import plan_refreshes
from lifecycle.views.refreshing import RefreshOutcome, refresh_view
from sandbox.application import apply_december
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

# What November has of the declared ones.
REFRESHED_VIEWS = ("account_function_usage", "daily_user_behavior_summary", "top_search_keywords")
KEYWORDS = QualifiedName("public", "top_search_keywords")
CONTENT = {
    "account_function_usage": "select account_id, function_name, usage_count, first_used_at, last_used_at",
    "top_search_keywords": "select search_query, search_count, unique_users, last_searched_at",
    "daily_user_behavior_summary": "select event_date, account_id, session_count, event_count, unique_pages_visited,"
    " avg_time_on_page",
}


def refresh(conn: Connection, view: str | None = None) -> dict[str, tuple[str, int, str | None]]:
    found = rows(conn, "select name, outcome, rows, error from refresh_analytics_hourly(%s)", (view,))
    return {name.removeprefix("public."): (outcome, count, error) for name, outcome, count, error in found}


def ledger(conn: Connection, view: str) -> list[tuple[str, str]]:
    return rows(
        conn,
        "select event_type, payload ->> 'outcome' from audit_events where entity_type = 'job' "
        "and entity_id = 'refresh_analytics_hourly' and payload ->> 'object' = %s order by created_at, ctid",
        (f"public.{view}",),
    )


INDEXES = "select indexrelid::regclass::text from pg_index where indrelid = 'top_search_keywords'::regclass"


def search(conn: Connection, text: str) -> None:
    conn.execute("insert into search_queries (search_query) values (%s)", (text,))
    conn.execute("select pg_stat_force_next_flush()")


def defined(conn: Connection, view: str) -> list[tuple[object, ...]]:
    """What the view's definition returns now."""
    definition = value(conn, "select pg_get_viewdef(to_regclass(%s))", (view,)).rstrip(";")
    return sorted(rows(conn, f"{CONTENT[view]} from ({definition}) q"), key=repr)


@pytest.mark.parametrize("view", REFRESHED_VIEWS)
def test_a_view_is_refreshed_and_then_left_alone(make_application_db: MakeApplicationDb, view: str) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        first = refresh(conn)
        assert set(first) == set(REFRESHED_VIEWS)
        outcome, count, error = first[view]
        assert (outcome, error) == ("success", None)
        assert count == value(conn, f"select count(*) from {view}") > 0
        assert refresh(conn)[view] == ("skipped", count, None)
        search(conn, "新しい")
        conn.execute("insert into user_behavior_events (session_id, page_url) values ('s', '/new')")
        conn.execute("""update chat_messages set tool_calls = '[{"tool": "brand_new"}]' where role = 'tool'""")
        conn.execute("select pg_stat_force_next_flush()")
        assert refresh(conn)[view][0] == "success"
        assert sorted(rows(conn, f"{CONTENT[view]} from {view}"), key=repr) == defined(conn, view)
        assert ledger(conn, view) == [
            ("job_success", "success"),
            ("job_success", "skipped"),
            ("job_success", "success"),
        ]


def test_a_view_is_refreshed_at_the_latest_when_its_window_has_moved(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh(conn)
        conn.execute(
            "update lifecycle.refresh_states set refreshed_at = now() - interval '23 hours', right_at = 'epoch'"
        )
        assert refresh(conn, "top_search_keywords")["top_search_keywords"][0] == "skipped"
        right = "select now() - right_at < interval '1 minute' from lifecycle.refresh_states where name = %s"
        assert value(conn, right, ("public.top_search_keywords",))
        conn.execute("update lifecycle.refresh_states set refreshed_at = now() - interval '25 hours'")
        assert refresh(conn, "top_search_keywords")["top_search_keywords"][0] == "success"


def test_dropped_and_new_partitions_count_as_changes(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute("create table parted (id int, at date) partition by range (at)")
        conn.execute("create table parted_1 partition of parted for values from ('2026-01-01') to ('2026-02-01')")
        conn.execute("create table parted_2 partition of parted for values from ('2026-02-01') to ('2026-03-01')")

        def changes() -> object:
            conn.execute("select pg_stat_force_next_flush()")
            return value(conn, "select lifecycle.source_changes(array['public.parted'::regclass::oid])")

        empty = changes()
        conn.execute("insert into parted values (1, '2026-01-05')")
        filled = changes()
        assert filled != empty
        conn.execute("drop table parted_2")
        assert changes() != filled


def test_a_truncated_source_counts_as_changed(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh(conn)
        conn.execute("truncate search_queries")
        assert refresh(conn)["top_search_keywords"] == ("success", 0, None)


def test_one_broken_view_stops_no_other_and_recovers(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        refresh(conn)
        search(conn, "x")
        conn.execute(
            "insert into user_behavior_events (session_id, page_url, engagement) "
            """values ('s', '/', '{"timeOnPage": "secret words"}')"""
        )
        conn.execute("select pg_stat_force_next_flush()")
        found = refresh(conn)
        assert found["daily_user_behavior_summary"][0] == "failure"
        assert (found["top_search_keywords"][0], found["account_function_usage"][0]) == ("success", "skipped")
        assert ledger(conn, "daily_user_behavior_summary")[-1] == ("job_failure", "failure")
        with pytest.raises(LifecycleError, match="daily_user_behavior_summary: invalid input syntax"):
            refresh_view(conn, QualifiedName("public", "daily_user_behavior_summary"))
        conn.execute("""delete from user_behavior_events where engagement ->> 'timeOnPage' = 'secret words'""")
        assert refresh(conn)["daily_user_behavior_summary"][0] == "success"
        notifications = rows(conn, "select kind from lifecycle.notifications order by id")
        assert notifications == [("failure",), ("recovery",)]


@pytest.mark.parametrize("index", [None, "(search_query) where search_count > 0", "(lower(search_query))"])
def test_a_view_without_a_usable_index_is_rewritten_with_a_note(
    make_application_db: MakeApplicationDb, index: str | None
) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        for (name,) in rows(conn, INDEXES):
            conn.execute(f"drop index {name}".encode())
        if index:
            conn.execute(f"create unique index not_enough on top_search_keywords {index}".encode())
        search(conn, "x")
        outcome, count, error = refresh(conn)["top_search_keywords"]
        assert (outcome, count) == ("rewritten", value(conn, "select count(*) from top_search_keywords"))
        assert error is not None
        assert "no unique index over plain columns" in error
        assert sorted(rows(conn, f"{CONTENT['top_search_keywords']} from top_search_keywords"), key=repr) == defined(
            conn, "top_search_keywords"
        )
        assert ledger(conn, "top_search_keywords")[-1] == ("job_success", "rewritten")
        assert rows(conn, "select * from lifecycle.open_problems") == []


def test_the_index_that_is_gone_is_advised_as_it_was_and_can_be_pasted(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        search(conn, "x")
        assert refresh(conn)["top_search_keywords"][0] == "success"
        made = (
            "select pg_get_indexdef(indexrelid) || ';' from pg_index where indrelid = 'top_search_keywords'::regclass"
        )
        definition = value(conn, made)
        for (name,) in rows(conn, INDEXES):
            conn.execute(f"drop index {name}".encode())
        search(conn, "y")
        view = QualifiedName("public", "top_search_keywords")
        (planned,) = plan_refreshes(conn, {view: APPLICATION.views.materialized[view]})
        outcome, _, error = refresh(conn)["top_search_keywords"]
        assert outcome == "rewritten"
        for told in (planned.would, error or ""):
            assert told.partition("To build it again: ")[2] == definition
        conn.execute((error or "").partition("To build it again: ")[2].encode())
        search(conn, "z")
        assert refresh(conn)["top_search_keywords"][0] == "success"


def test_rows_that_a_unique_index_tells_apart_only_by_nulls(make_application_db: MakeApplicationDb) -> None:
    """daily_user_behavior_summary has them: CONCURRENTLY takes NULLs, and two equal rows beside them it refuses."""
    with connect(make_application_db(migrated=True)) as conn:
        assert value(conn, "select count(*) from daily_user_behavior_summary where account_id is null") > 0
        conn.execute("create table twice (a int, b int)")
        conn.execute("insert into twice values (1, null), (2, 3)")
        conn.execute("create materialized view doubled as select a, b from twice")
        conn.execute("create unique index on doubled (a, b)")
        conn.execute("insert into lifecycle.materialized_view_policies values ('public', 'doubled', '1 day', false)")
        assert refresh(conn, "doubled")["doubled"] == ("success", 2, None)
        conn.execute("insert into twice values (1, null)")
        conn.execute("select pg_stat_force_next_flush()")
        outcome, count, error = refresh(conn, "doubled")["doubled"]
        assert count == 3
        assert outcome in ("success", "rewritten")
        assert (error is None) == (outcome == "success")


def test_a_view_that_was_never_populated_is_populated(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh(conn)
        conn.execute("refresh materialized view top_search_keywords with no data")
        outcome, count, error = refresh(conn)["top_search_keywords"]
        assert (outcome, error) == ("populated", None)
        assert count == value(conn, "select count(*) from top_search_keywords")


@pytest.mark.parametrize("what", ["missing", "a table"])
def test_a_view_that_is_none_is_reported(make_application_db: MakeApplicationDb, what: str) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute("drop materialized view top_search_keywords")
        if what == "a table":
            conn.execute("create table top_search_keywords (search_query text)")
        found = refresh(conn)
        outcome, _, error = found["top_search_keywords"]
        assert outcome == "failure"
        assert error is not None
        assert ("missing" in error) == (what == "missing")
        assert found["daily_user_behavior_summary"][0] == "success"


def test_a_view_that_leaves_the_policy_takes_its_problem_along(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        conn.execute("insert into lifecycle.materialized_view_policies values ('public', 'no_more', '1 day', false)")
        conn.execute("drop materialized view top_search_keywords")
        refresh(conn)
        causes = "select cause from lifecycle.open_problems order by 1"
        assert rows(conn, causes) == [("public.no_more",), ("public.top_search_keywords",)]
        # As a release does whose declarations are others.
        conn.execute("delete from lifecycle.migrated_declarations")
        upgrade(url, APPLICATION)
        assert rows(conn, causes) == [("public.top_search_keywords",)]


def test_an_unknown_name_is_refused(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn, pytest.raises(psycopg.errors.UndefinedTable):
        refresh(conn, "no_such_view")


def test_the_second_caller_is_told_and_nobody_queues(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as first, connect(url) as second, first.transaction():
        refresh(first)
        started = time.perf_counter()
        found = refresh(second)
        assert time.perf_counter() - started < 5
        assert {outcome for outcome, _, _ in found.values()} == {"busy"}
        assert all("another session refreshes" in str(error) for _, _, error in found.values())
        with pytest.raises(BusyError, match="another session refreshes"):
            refresh_view(second, KEYWORDS)


def test_a_waiting_alter_ends_in_busy_and_readers_go_on(make_application_db: MakeApplicationDb) -> None:
    """A reader holds the view, an ALTER waits behind it; the refresh must neither queue for long nor stop readers."""
    url = make_application_db(migrated=True)
    with connect(url) as conn, connect(url) as reader, connect(url) as other_reader:
        refresh(conn)
        search(conn, "x")
        reader.execute("begin")
        value(reader, "select count(*) from top_search_keywords")

        def alter() -> None:
            with connect(url, application_name="alterer") as session:
                session.execute("alter materialized view top_search_keywords owner to postgres")

        with ThreadPoolExecutor() as pool:
            pending = pool.submit(alter)
            waiting = (
                "select count(*) from pg_stat_activity where application_name = 'alterer' and wait_event_type = 'Lock'"
            )
            while not value(conn, waiting):
                assert not pending.done()
                time.sleep(0.02)
            found = refresh(conn)
            assert found["top_search_keywords"][0] == "busy"
            assert found["daily_user_behavior_summary"][0] == "skipped"
            assert rows(conn, "select * from lifecycle.open_problems") == []
            reader.execute("rollback")
            pending.result(30)
        assert value(other_reader, "select count(*) from top_search_keywords") > 0
        assert refresh(conn)["top_search_keywords"][0] == "success"


def test_readers_never_wait_for_a_refresh(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    stop = threading.Event()

    def read() -> int:
        done = 0
        with connect(url) as conn:
            conn.execute("set lock_timeout = '20ms'")
            while not stop.is_set():
                for view in REFRESHED_VIEWS:
                    value(conn, f"select count(*) from {view}")
                done += 1
        return done

    with connect(url) as conn, ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(8):
            search(conn, str(number))
            with conn.transaction():
                assert refresh(conn)["top_search_keywords"][0] == "success"
                time.sleep(0.05)
        stop.set()
        assert all(reader.result(30) > 0 for reader in readers)


def test_killed_in_the_middle_leaves_the_old_rows(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    victim = connect(url)
    with connect(url) as conn:
        refresh(conn)
        before = rows(conn, "select * from top_search_keywords order by 1")
        search(conn, "x")
        victim.execute("begin")
        refresh(victim)
        value(conn, "select pg_terminate_backend(%s, 30000)", (victim.info.backend_pid,))
        assert rows(conn, "select * from top_search_keywords order by 1") == before
        assert refresh(conn)["top_search_keywords"][0] == "success"
        assert rows(conn, "select * from top_search_keywords order by 1") != before


def test_views_upon_views_come_after_what_they_read(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute("create view popular as select search_query from top_search_keywords where search_count > 1")
        conn.execute("create materialized view a_count as select count(*) as n from popular")
        conn.execute("insert into lifecycle.materialized_view_policies values ('public', 'a_count', '1 day', false)")
        search(conn, "only now")
        search(conn, "only now")
        names = list(refresh(conn))
        assert names.index("top_search_keywords") < names.index("a_count")
        assert value(conn, "select n from a_count") == value(conn, "select count(*) from popular")
        assert refresh(conn)["a_count"][0] == "skipped"
        search(conn, "only now")
        refresh(conn, "top_search_keywords")
        conn.execute("select pg_stat_force_next_flush()")
        assert refresh(conn)["a_count"][:2] == ("rewritten", 1)


def test_an_optional_view_is_refreshed_from_when_the_application_has_it(make_application_db: MakeApplicationDb) -> None:
    name = QualifiedName("public", "daily_kpi_summary")
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        assert refresh_view(conn, name) == RefreshOutcome("public.daily_kpi_summary", "missing")
        assert "daily_kpi_summary" not in refresh(conn)
        apply_december(url)
        found = refresh(conn)
        assert found["daily_kpi_summary"][0] == "success"
        assert {outcome for outcome, _, _ in found.values()} <= {"success", "skipped"}


def test_the_applications_own_functions_go_on_working(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        refresh(conn)
        search(conn, "新しい")
        conn.execute("select refresh_chat_analytics(), refresh_content_analytics()")
        assert value(conn, "select count(*) from top_search_keywords where search_query = '新しい'") == 1
        apply_december(url)
        conn.execute("select refresh_chat_analytics(), refresh_content_analytics(), refresh_daily_kpi_summary()")
