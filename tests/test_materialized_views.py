"""refresh_analytics_hourly(): one row per view, no queue, no blocked reader, a clear outcome."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import BusyError, LifecycleError
from lifecycle.migrating.migrate import upgrade
from lifecycle.views.materialized import REFRESHED_VIEWS, refresh_view
from tests.conftest import MakeApplicationDb
from tests.statistics_agreement import differences
from tests.statistics_changes import CHANGES, SOME_SESSION

CONTENT = {
    "top_search_keywords": "select search_query, search_count, unique_users, last_searched_at",
    "daily_user_behavior_summary": "select event_date, account_id, session_count, event_count, unique_pages_visited,"
    " avg_time_on_page",
}


def refresh(conn: Connection, view: str | None = None) -> dict[str, tuple[str, int, str | None]]:
    found = rows(conn, "select name, outcome, rows, error from refresh_analytics_hourly(%s)", (view,))
    return {name: (outcome, count, error) for name, outcome, count, error in found}


def ledger(conn: Connection, view: str) -> list[tuple[str, str]]:
    return rows(
        conn,
        "select event_type, payload ->> 'outcome' from audit_events where entity_type = 'job' "
        "and entity_id = 'refresh_analytics_hourly' and payload ->> 'object' = %s order by created_at, ctid",
        (view,),
    )


def search(conn: Connection, text: str) -> None:
    conn.execute("insert into search_queries (search_query) values (%s)", (text,))
    conn.execute("select pg_stat_force_next_flush()")


def defined(conn: Connection, view: str) -> list[tuple[object, ...]]:
    """What the view's definition returns now."""
    definition = value(conn, "select pg_get_viewdef(to_regclass(%s))", (view,)).rstrip(";")
    return sorted(rows(conn, f"{CONTENT[view]} from ({definition}) q"), key=repr)


@pytest.mark.parametrize("view", list(CONTENT))
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
        conn.execute("update lifecycle.refresh_states set refreshed_at = now() - interval '23 hours'")
        assert refresh(conn, "top_search_keywords")["top_search_keywords"][0] == "skipped"
        conn.execute("update lifecycle.refresh_states set refreshed_at = now() - interval '25 hours'")
        assert refresh(conn, "top_search_keywords")["top_search_keywords"][0] == "success"


def test_dropped_and_new_partitions_count_as_changes(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute("create table parted (id int, at date) partition by range (at)")
        conn.execute("create table parted_1 partition of parted for values from ('2026-01-01') to ('2026-02-01')")
        conn.execute("create table parted_2 partition of parted for values from ('2026-02-01') to ('2026-03-01')")

        def changes() -> object:
            conn.execute("select pg_stat_force_next_flush()")
            return value(conn, "select lifecycle.source_changes(array['public.parted'])")

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
        assert found["top_search_keywords"][0] == found["account_function_usage"][0] == "success"
        assert ledger(conn, "daily_user_behavior_summary")[-1] == ("job_failure", "failure")
        with pytest.raises(LifecycleError, match="daily_user_behavior_summary: invalid input syntax"):
            refresh_view(conn, "daily_user_behavior_summary")
        conn.execute("""delete from user_behavior_events where engagement ->> 'timeOnPage' = 'secret words'""")
        assert refresh(conn)["daily_user_behavior_summary"][0] == "success"
        notifications = rows(conn, "select kind from lifecycle.notifications order by id")
        assert notifications == [("failure",), ("recovery",)]


def test_a_view_without_a_unique_index_is_reported_not_refreshed(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute("drop index top_search_keywords_search_query_idx")
        search(conn, "x")
        outcome, _, error = refresh(conn)["top_search_keywords"]
        assert outcome == "failure"
        assert error is not None
        assert "create unique index" in error
        for index in ("(search_query) where search_count > 0", "(lower(search_query))"):
            conn.execute(f"create unique index not_enough on top_search_keywords {index}".encode())
            assert refresh(conn)["top_search_keywords"][0] == "failure", index
            conn.execute("drop index not_enough")


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
        conn.execute("insert into lifecycle.materialized_view_policies values ('public', 'no_more', '{}', '1 day')")
        conn.execute("drop materialized view top_search_keywords")
        refresh(conn)
        causes = "select cause from lifecycle.open_problems order by 1"
        assert rows(conn, causes) == [("no_more",), ("top_search_keywords",)]
        upgrade(url)
        assert rows(conn, causes) == [("top_search_keywords",)]


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
            refresh_view(second, "top_search_keywords")


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


def test_account_function_usage_equals_a_full_recount(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        for change in ("a message of a year ago arrives", "tool calls are rewritten", "a session changes hands"):
            conn.execute(CHANGES[change].encode())
            assert refresh(conn)["account_function_usage"][0] == "success"
            assert differences(conn, "account_function_usage") == []
        conn.execute(
            f"insert into chat_messages (session_id, role, content, tool_calls) "
            f"""values ({SOME_SESSION}, 'tool', '', '[{{"tool": "brand_new"}}]')""".encode()
        )
        assert differences(conn, "account_function_usage") != []
        refresh(conn, "account_function_usage")
        assert differences(conn, "account_function_usage") == []


def test_between_two_jobs_no_feature_shows_up_half(make_application_db: MakeApplicationDb) -> None:
    """The totals run ahead of the summary that rests on them; dashboards see neither half a row nor a gone one."""
    feature = "select total_uses, last_used_at is null from feature_usage_summary where feature_name = 'brand_new'"
    with connect(make_application_db(migrated=True)) as conn:
        for change, after in (
            (
                f"insert into chat_messages (session_id, role, content, tool_calls) "
                f"""values ({SOME_SESSION}, 'tool', '', '[{{"tool": "brand_new"}}]')""",
                [(1, False)],
            ),
            ("""delete from chat_messages where tool_calls @> '[{"tool": "brand_new"}]'""", []),
        ):
            conn.execute(change.encode())
            refresh(conn, "account_function_usage")
            assert all(uses > 0 and not half for uses, half in rows(conn, feature))
            rows(conn, "select * from refresh_derived_statistics()")
            assert rows(conn, feature) == after
