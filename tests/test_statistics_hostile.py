"""What an API user may write into a row must stop no statistic: neither for the hour nor for ever."""

import pytest

from lifecycle.database import connect, rows, value
from tests.conftest import MakeApplicationDb
from tests.statistics_agreement import contents, disagreements, refresh
from tests.statistics_changes import FIRST_ACCOUNT, SOME_SESSION

LAST_HOUR_OF_TIME = "294276-12-31 23:30+00"
# Of letters that no compression makes shorter.
RANDOM_TEXT = "(select left(string_agg(md5(g::text), ''), {length}) from generate_series(1, 300) g)"


@pytest.mark.parametrize("moment", ["infinity", "-infinity", LAST_HOUR_OF_TIME, "4714-11-24 00:00+00 BC"])
@pytest.mark.parametrize("there_before", [True, False])
def test_moments_beyond_reason_come_and_go(
    make_application_db: MakeApplicationDb, moment: str, there_before: bool
) -> None:
    """Those of infinity are counted nowhere; none stops a refresh, none leaves a trace once it is gone."""
    with connect(make_application_db(migrated=True)) as conn:
        refresh(conn)
        before = contents(conn)
        if there_before:
            conn.execute("update lifecycle.roll_up_watermarks set safe_until = '-infinity'")
        conn.execute(
            f"insert into chat_messages (session_id, role, content, latency_ms, tool_calls, created_at) "
            f"values ({SOME_SESSION}, 'assistant', 'far', 5, '[]', now() - interval '1 day')".encode()
        )
        conn.execute(
            f"insert into chat_sessions (account_id, title, started_at) "
            f"values ({FIRST_ACCOUNT}, 'far', now() - interval '1 day')".encode()
        )
        conn.execute(
            f"insert into user_behavior_events (account_id, session_id, page_url, event_timestamp) "
            f"values ({FIRST_ACCOUNT}, 'far', '/', now() - interval '1 day')".encode()
        )
        conn.execute("update chat_messages set created_at = %s where content = 'far'", (moment,))
        conn.execute("update chat_sessions set started_at = %s where title = 'far'", (moment,))
        conn.execute("update user_behavior_events set event_timestamp = %s where session_id = 'far'", (moment,))
        assert refresh(conn) == []
        if "infinity" in moment:
            assert contents(conn) == before
        rows(conn, "select * from lifecycle.reconcile_statistics()")
        conn.execute("delete from chat_messages where content = 'far'")
        conn.execute("delete from chat_sessions where title = 'far'")
        conn.execute("delete from user_behavior_events where session_id = 'far'")
        assert disagreements(conn) == {}
        assert contents(conn) == before


def test_a_row_of_another_age_does_not_thin_out_the_nightly_sample(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute(
            f"insert into chat_sessions (account_id, started_at) values ({FIRST_ACCOUNT}, '0001-01-01')".encode()
        )
        found = rows(
            conn, "select checked from lifecycle.reconcile_statistics(1000000) where name = 'chat_session_hours'"
        )
        assert found[0][0] < 366 * 11


def test_a_name_of_a_tool_that_no_index_holds_is_cut(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute(
            f"insert into chat_messages (session_id, role, content, tool_calls) select {SOME_SESSION}, 'tool', '', "
            f"jsonb_build_array(jsonb_build_object('tool', {RANDOM_TEXT.format(length=9000)}))".encode()
        )
        assert refresh(conn) == []
        found = rows(conn, "select length(feature_name), total_uses from feature_usage_summary order by 1 desc limit 1")
        assert found == [(500, 1)]


def test_odd_names_of_tools_and_sessions_are_counted(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute(
            f"""insert into chat_messages (session_id, role, content, tool_calls, created_at)
                select {SOME_SESSION}, 'tool', '', '["tool", null, [], {{"tool": ""}}, {{"tool": 5}}, {{"tool": true}},
                    {{"tool": "a\\"b''c{{}},"}}, {{"tool": {{"tool": "x"}}}}]', now() - d * interval '1 day'
                  from generate_series(0, 3) d""".encode()
        )
        # As long as the application's own index holds, and ours with its further column does not.
        conn.execute(
            f"insert into user_behavior_events (account_id, session_id, page_url) "
            f"select {FIRST_ACCOUNT}, {RANDOM_TEXT.format(length=2680)}, '/'".encode()
        )
        assert disagreements(conn) == {}


def test_a_session_that_gets_another_id_takes_its_days_along(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute(
            f"insert into chat_sessions (account_id, title, started_at) "
            f"values ({FIRST_ACCOUNT}, 'renamed', now() - interval '9 days')".encode()
        )
        assert disagreements(conn) == {}
        conn.execute("update chat_sessions set id = gen_random_uuid() where title = 'renamed'")
        conn.execute(
            "insert into user_behavior_events (account_id, session_id, page_url, event_timestamp) "
            "select account_id, id::text, '/', now() from chat_sessions where title = 'renamed'"
        )
        assert disagreements(conn) == {}


LATENCIES = "select sum(latencies) from lifecycle.data_quality_hourly"
LATE_MESSAGE = f"""
insert into chat_messages (session_id, role, content, latency_ms, created_at)
values ({SOME_SESSION}, 'assistant', '', 77, now() - interval '9 days')
"""


def test_a_late_message_reaches_the_history_of_data_quality(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh(conn)
        before = value(conn, LATENCIES)
        conn.execute(LATE_MESSAGE.encode())
        assert refresh(conn) == []
        assert value(conn, LATENCIES) == before + 1


def test_late_hours_of_the_chat_wait_for_a_failing_roll_up_of_activity(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh(conn)
        signature = "lifecycle.roll_up_data_quality_hourly(timestamptz, timestamptz)"
        sound = value(conn, "select pg_get_functiondef(to_regprocedure(%s))", (signature,))
        conn.execute(
            """create or replace function
               lifecycle.roll_up_data_quality_hourly(from_time timestamptz, to_time timestamptz) returns bigint
               language plpgsql as $$ begin raise exception 'broken on purpose'; end $$"""
        )
        before = value(conn, LATENCIES)
        conn.execute(LATE_MESSAGE.encode())
        assert {name for name, *_ in refresh(conn)} == {"account_session_days", "data_quality_hourly"}
        conn.execute(sound.encode())
        assert refresh(conn) == []
        assert value(conn, LATENCIES) == before + 1


def test_late_hours_read_their_own_sessions_and_not_all(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute("alter table chat_messages disable trigger user; alter table chat_sessions disable trigger user")
        conn.execute(
            f"""with made as (insert into chat_sessions (account_id, started_at)
                              select {FIRST_ACCOUNT}, now() - n * interval '30 minutes'
                                from generate_series(100, 12000) n returning id, started_at)
                insert into chat_messages (session_id, role, content, created_at)
                select id, 'user', '', started_at from made, generate_series(1, 8)""".encode()
        )
        conn.execute("alter table chat_messages enable trigger user; alter table chat_sessions enable trigger user")
        conn.execute("analyze chat_messages, chat_sessions")
        refresh(conn)
        conn.execute(
            f"""insert into chat_messages (session_id, role, content, created_at)
                select {SOME_SESSION}, 'user', '', now() - d * interval '2 days'
                  from generate_series(1, 50) d""".encode()
        )
        scans = "select pg_stat_get_numscans('chat_sessions'::regclass)"
        conn.execute("select pg_stat_force_next_flush()")
        before = value(conn, scans)
        assert refresh(conn) == []
        conn.execute("select pg_stat_force_next_flush()")
        assert value(conn, scans) - before < 10
