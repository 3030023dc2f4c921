"""Derived statistics under failures, kills, concurrent callers and live writers."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.database import connect, rows, value
from lifecycle.errors import AlreadyRunningError
from lifecycle.statistics import STATISTICS, reconcile_statistics, refresh_roll_ups, refresh_statistics
from tests.conftest import MakeApplicationDb
from tests.statistics_agreement import contents, disagreements
from tests.statistics_changes import CHANGES, SOME_SESSION

pytestmark = pytest.mark.one_server

BREAK = """
create or replace function lifecycle.{function}(as_of timestamptz) returns bigint language plpgsql as $$
begin raise exception 'broken on purpose' using detail = 'row (secret)'; end $$
"""
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'refresher'"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def outcomes(conn: psycopg.Connection[tuple[object, ...]]) -> dict[object, tuple[object, object]]:
    found = conn.execute("select name, outcome, error from refresh_derived_statistics()").fetchall()
    return {name: (outcome, error) for name, outcome, error in found}


def test_one_that_fails_stops_no_other_and_catches_up(make_application_db: MakeApplicationDb) -> None:
    problems = "select job, cause, error from lifecycle.open_problems"
    with connect(make_application_db(migrated=True)) as conn:
        for broken in [statistic.name for statistic in STATISTICS]:
            signature = f"lifecycle.refresh_{broken}(timestamptz)"
            sound = value(conn, "select pg_get_functiondef(to_regprocedure(%s))", (signature,))
            conn.execute(BREAK.format(function=f"refresh_{broken}").encode())
            conn.execute(CHANGES["events arrive late"].encode())
            conn.execute(CHANGES["a session changes hands"].encode())
            found = outcomes(conn)
            assert found.pop(broken) == ("failure", "broken on purpose")
            assert set(found.values()) == {("success", None)}
            ledger = rows(
                conn,
                "select event_type, payload ->> 'error' from audit_events where payload ->> 'object' = %s "
                "order by created_at desc limit 1",
                (broken,),
            )
            assert ledger == [("job_failure", "broken on purpose")]
            assert rows(conn, problems) == [("refresh_derived_statistics", broken, "broken on purpose")]
            conn.execute(sound.encode())
            assert disagreements(conn) == {}
            assert rows(conn, problems) == []
        kinds = [kind for (kind,) in rows(conn, "select kind from lifecycle.notifications order by id")]
        assert kinds == ["failure", "recovery"] * len(STATISTICS)


def test_a_roll_up_that_fails_keeps_its_log_and_its_watermark(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        signature = "lifecycle.function_usage(timestamptz, timestamptz)"
        sound = value(conn, "select pg_get_functiondef(to_regprocedure(%s))", (signature,))
        conn.execute(
            """create or replace function lifecycle.function_usage(from_time timestamptz, to_time timestamptz)
               returns setof lifecycle.function_usage_hourly language plpgsql as $$
               begin raise exception 'broken on purpose'; end $$"""
        )
        conn.execute(CHANGES["tool calls are rewritten"].encode())
        mark = rows(conn, "select safe_until::text from lifecycle.roll_up_watermarks where name = 'chat'")
        found = outcomes(conn)
        for name in ("chat_session_hours", "function_usage_hourly", "chat_performance_history"):
            assert found[name] == ("failure", "broken on purpose")
        assert found["account_session_days"] == ("success", None)
        assert rows(conn, "select safe_until::text from lifecycle.roll_up_watermarks where name = 'chat'") == mark
        assert value(conn, "select count(*) from lifecycle.changed_chat_hours") > 0
        conn.execute(sound.encode())
        assert disagreements(conn) == {}


def test_the_second_caller_is_told_who_refreshes(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as first, connect(url) as second, first.transaction():
        assert value(first, "select lifecycle.lock_analytics()") is None
        pid = value(first, "select pg_backend_pid()")
        before = value(second, "select count(*) from audit_events")
        ((name, outcome, error),) = rows(second, "select name, outcome, error from refresh_derived_statistics()")
        assert (name, outcome) == ("refresh_derived_statistics", "busy")
        assert f"pid {pid}" in error
        for call in (lambda: refresh_roll_ups(second), lambda: refresh_statistics(second, ["daily_active_users"])):
            with pytest.raises(AlreadyRunningError, match=f"pid {pid}"):
                call()
        with pytest.raises(psycopg.errors.LockNotAvailable, match=f"pid {pid}"):
            reconcile_statistics(second)
        assert value(second, "select count(*) from audit_events") == before


def test_killed_in_the_middle_changes_nothing_and_a_rerun_finishes(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn, connect(url) as holder:
        outcomes(conn)
        conn.execute(CHANGES["a message of a year ago arrives"].encode())
        before, logged = contents(conn), rows(conn, "select * from lifecycle.changed_chat_hours")
        with holder.transaction():
            holder.execute("lock table lifecycle.hourly_usage_patterns in access exclusive mode")

            def doomed() -> None:
                with connect(url, application_name="refresher") as victim:
                    victim.execute("select * from refresh_derived_statistics()")

            with ThreadPoolExecutor() as pool:
                run = pool.submit(doomed)
                wait_until(lambda: value(conn, WAITING))
                rows(
                    conn, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'refresher'"
                )
                assert isinstance(run.exception(30), psycopg.OperationalError)
        assert contents(conn) == before
        assert rows(conn, "select * from lifecycle.changed_chat_hours") == logged
        assert disagreements(conn) == {}
        assert contents(conn) != before


def test_the_watermark_waits_for_open_transactions(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn, connect(url) as writer:
        with writer.transaction():
            began = value(writer, "select now()")
            writer.execute(
                f"insert into chat_messages (session_id, role, content, created_at) "
                f"values ({SOME_SESSION}, 'user', '', now() - interval '119 minutes')".encode()
            )
            time.sleep(0.2)
            outcomes(conn)
            marks = rows(conn, "select safe_until from lifecycle.roll_up_watermarks")
            assert all(mark <= began for (mark,) in marks)
        assert value(conn, "select count(*) from lifecycle.changed_chat_hours") == 0
        assert disagreements(conn) == {}


def test_live_writers_lose_nothing_and_are_all_counted(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    stop = threading.Event()
    statements = [text for name, text in CHANGES.items() if name not in ("nothing is left", "an account is deleted")]

    def write(seed: int) -> int:
        rng, done = Random(seed), 0
        with connect(url) as conn:
            while not stop.is_set():
                # Writers delete each other's sessions and rows: that is theirs to sort out.
                with suppress(psycopg.errors.ForeignKeyViolation, psycopg.errors.DeadlockDetected):
                    conn.execute(rng.choice(statements).encode())
                    done += 1
        return done

    with connect(url) as conn, ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, seed) for seed in range(3)]
        try:
            for _ in range(5):
                found = outcomes(conn)
                assert {outcome for outcome, _ in found.values()} == {"success"}, found
        finally:
            stop.set()
        assert all(writer.result(60) > 0 for writer in writers)
        assert disagreements(conn) == {}


def test_what_no_trigger_sees_is_found_and_repaired_at_night(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        assert all(found.repaired == 0 for found in reconcile_statistics(conn, days=1000, accounts=1000))
        conn.execute("alter table chat_messages disable trigger user")
        conn.execute("alter table user_behavior_events disable trigger user")
        conn.execute(CHANGES["old messages are deleted"].encode())
        conn.execute(CHANGES["events arrive late"].encode())
        conn.execute("update lifecycle.feature_usage_summary set total_uses = total_uses + 1")
        outcomes(conn)
        repaired = {found.name: found.repaired for found in reconcile_statistics(conn, days=1000, accounts=1000)}
        for name in ("chat_session_hours", "function_usage_hourly", "account_session_days", "account_function_usage"):
            assert repaired[name] > 0, name
        assert disagreements(conn) == {}
        assert value(conn, "select rows from lifecycle.refresh_states where name = 'reconcile_statistics'") == sum(
            repaired.values()
        )
        assert all(found.repaired == 0 for found in reconcile_statistics(conn, days=1000, accounts=1000))


MOMENTS = st.sampled_from(
    [
        "now()",
        "now() - interval '119 minutes'",
        "now() - interval '121 minutes'",
        "date_trunc('day', now(), 'UTC')",
        "date_trunc('day', now(), 'UTC') - interval '1 microsecond'",
        "date_trunc('month', now(), 'UTC')",
        "now() - interval '7 days'",
        "now() - interval '30 days'",
        "now() - interval '90 days'",
        "now() - interval '3 years'",
        "now() + interval '1 hour'",
    ]
)
ACCOUNTS = st.sampled_from(["a", "b", "c"])
CALLS = st.sampled_from(["null", "'[]'", '\'[{"tool": "x"}]\'', '\'[{"tool": "x"}, {"tool": "y"}]\'', "'{}'", "'[1]'"])
ONE_MESSAGE = "(select id from chat_messages order by created_at, id limit 1)"
ONE_SESSION = "(select id from chat_sessions order by started_at, id limit 1)"
ONE_EVENT = "(select id from user_behavior_events order by event_timestamp, id limit 1)"


def account(letter: str) -> str:
    return f"'{letter * 8}-{letter * 4}-4{letter * 3}-8{letter * 3}-{letter * 12}'::uuid"


STATEMENTS = st.one_of(
    st.builds(
        lambda who, when: (
            "insert into chat_sessions (account_id, started_at, last_activity_at) "
            f"values ({account(who)}, {when}, {when})"
        ),
        ACCOUNTS,
        MOMENTS,
    ),
    st.builds(
        lambda role, calls, latency, when: (
            "insert into chat_messages (session_id, role, content, tool_calls, latency_ms, created_at) "
            f"select id, '{role}', '', {calls}, {latency}, {when} from chat_sessions where id = {ONE_SESSION}"
        ),
        st.sampled_from(["user", "assistant", "tool"]),
        CALLS,
        st.sampled_from(["null", "0", "100", "100", "99999"]),
        MOMENTS,
    ),
    st.builds(
        lambda who, session, when: (
            "insert into user_behavior_events (account_id, session_id, page_url, event_timestamp) "
            f"values ({who}, '{session}', '/', {when})"
        ),
        st.one_of(st.just("null"), ACCOUNTS.map(account)),
        st.sampled_from(["s1", "s2"]),
        MOMENTS,
    ),
    st.builds(lambda when: f"update chat_messages set created_at = {when} where id = {ONE_MESSAGE}", MOMENTS),
    st.builds(
        lambda calls: f"update chat_messages set tool_calls = {calls}, latency_ms = 5 where id = {ONE_MESSAGE}", CALLS
    ),
    st.builds(lambda who: f"update chat_sessions set account_id = {account(who)} where id = {ONE_SESSION}", ACCOUNTS),
    st.builds(lambda when: f"update chat_sessions set started_at = {when} where id = {ONE_SESSION}", MOMENTS),
    st.builds(
        lambda who: f"update user_behavior_events set account_id = {account(who)} where id = {ONE_EVENT}", ACCOUNTS
    ),
    st.builds(lambda when: f"update user_behavior_events set event_timestamp = {when} where id = {ONE_EVENT}", MOMENTS),
    st.sampled_from(
        [
            f"delete from chat_messages where id = {ONE_MESSAGE}",
            f"delete from chat_sessions where id = {ONE_SESSION}",
            f"delete from user_behavior_events where id = {ONE_EVENT}",
            f"delete from accounts where id = {account('c')}",
            "select * from refresh_derived_statistics()",
            "select * from refresh_analytics_hourly('account_function_usage')",
        ]
    ),
)


def test_any_history_of_writes_and_refreshes_ends_in_agreement(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(STATEMENTS, min_size=1, max_size=14))
        def check(statements: list[str]) -> None:
            conn.execute("delete from chat_sessions")
            conn.execute("delete from user_behavior_events")
            conn.execute("delete from accounts")
            for letter in "abc":
                conn.execute(f"insert into accounts (id) values ({account(letter)})".encode())
            for statement in statements:
                with suppress(psycopg.errors.ForeignKeyViolation):  # the third account may be gone
                    conn.execute(statement.encode())
            assert disagreements(conn) == {}

        check()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_old_snapshot_is_refused(make_application_db: MakeApplicationDb, level: str) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        conn.execute(f"set default_transaction_isolation = '{level}'".encode())
        for call in ("refresh_derived_statistics()", "refresh_analytics_hourly()", "lifecycle.reconcile_statistics()"):
            with pytest.raises(psycopg.errors.InvalidTransactionState, match="read committed"):
                rows(conn, f"select * from {call}")
        with conn.transaction():
            conn.execute("set transaction isolation level read committed")
            assert {outcome for outcome, _ in outcomes(conn).values()} == {"success"}
