"""Derived statistics: the tables agree with the application's views row by row, whatever happened to the rows."""

import os
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from lifecycle.database import connect, rows, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.policy import DATA_QUALITY, EVENT_TABLES, LATE_AFTER, event_table
from lifecycle.statistics import ROLL_UPS, STATISTICS
from sandbox.application import create_application_database
from sandbox.real_data.load import load
from sandbox.server import Server
from tests.conftest import AsRole, MakeApplicationDb
from tests.docs_pages import convert
from tests.statistics_agreement import COMPARED, contents, differences, disagreements, refresh
from tests.statistics_changes import CHANGES, SOME_SESSION

GROUPS = 3
REAL_FOLDER = os.environ.get("LIFECYCLE_DATA_DIR")


@pytest.mark.parametrize("first", range(GROUPS))
def test_tables_agree_with_the_views_after_every_change(make_application_db: MakeApplicationDb, first: int) -> None:
    """Each change is committed on top of those before it; the last one leaves nothing."""
    with connect(make_application_db(migrated=True)) as conn:
        assert disagreements(conn) == {}
        for change in [*list(CHANGES)[first::GROUPS], "nothing is left"]:
            conn.execute(CHANGES[change].encode())
            assert disagreements(conn) == {}, change


def test_the_first_fill_happens_before_the_views_change_over(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        assert value(conn, "select count(*) from account_function_usage") > 0
        for statistic in STATISTICS:
            assert value(conn, f"select count(*) from public.{statistic.name}") > 0, statistic.name


def test_an_empty_database(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        assert disagreements(conn) == {}
        assert value(conn, "select count(*) from data_quality_metrics") == len(DATA_QUALITY)


def test_repeating_changes_nothing(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        refresh(conn)
        before = contents(conn)
        for _ in range(2):
            found = rows(
                conn, "select name, rows from refresh_derived_statistics() where name <> 'data_quality_metrics'"
            )
            assert {name for name, changed in found if changed} <= {"chat_performance_metrics", "hourly_usage_patterns"}
        assert contents(conn) == before


def test_a_backfill_gives_the_same_rows_as_the_hourly_runs(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        assert disagreements(conn) == {}
        hourly = contents(conn)
        for roll_up in ROLL_UPS:
            old = f"{roll_up.time_column} < now() - interval '10 days'"
            conn.execute(f"delete from lifecycle.{roll_up.name} where {old}".encode())
        assert contents(conn) != hourly
        found = rows(
            conn,
            "select name, outcome from refresh_derived_statistics(%s, now() - interval '9 days')",
            (datetime(1970, 1, 1, tzinfo=UTC),),
        )
        assert {outcome for _, outcome in found} == {"success"}
        assert contents(conn) == hourly
        assert disagreements(conn) == {}


@pytest.mark.parametrize("window", [("now()", "null"), ("null", "now()"), ("now()", "now()"), ("now()", "'infinity'")])
def test_half_a_range_is_refused(make_application_db: MakeApplicationDb, window: tuple[str, str]) -> None:
    with (
        connect(make_application_db(rows=False, migrated=True)) as conn,
        pytest.raises(psycopg.errors.InvalidParameterValue),
    ):
        rows(conn, f"select * from refresh_derived_statistics({window[0]}, {window[1]})")


def test_dropped_partitions_are_noticed(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        for table in EVENT_TABLES:
            convert(url, table, split=True)
        assert disagreements(conn) == {}
        events = value(conn, "select count(*) from user_behavior_events")
        for row in rows(conn, "select action, outcome from rotate_event_partitions()"):
            assert row[1] == "success"
        assert value(conn, "select count(*) from user_behavior_events") < events
        with conn.transaction():
            before = value(conn, "select sum(total_days_active) from lifecycle.user_engagement_scores")
            assert disagreements(conn) == {}
            assert value(conn, "select sum(total_days_active) from lifecycle.user_engagement_scores") < before
        # The triggers came along: what is written through the parent is noticed.
        conn.execute(CHANGES["events arrive late"].encode())
        assert disagreements(conn) == {}


def test_counts_of_dropped_months_are_kept(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        convert(url, event_table("user_behavior_events"), split=True)
        rows(conn, "select * from rotate_event_partitions()")
        rows(conn, "select * from refresh_derived_statistics()")
        select = "select count(*), sum(events) from lifecycle.data_quality_hourly where hour < lifecycle.source_floor()"
        kept = rows(conn, select)
        assert kept[0][0] > 0
        rows(conn, "select * from refresh_derived_statistics(now() - interval '3 years', now())")
        assert rows(conn, select) == kept


def test_the_history_says_what_the_metrics_said(make_application_db: MakeApplicationDb) -> None:
    """The metrics over the 24 whole hours up to a full hour are those of the history's row of the last of them."""
    with connect(make_application_db(migrated=True)) as conn:
        rows(conn, "select * from refresh_derived_statistics()")
        for hours_ago in (1, 7, 30):
            found = rows(
                conn,
                """
                with edge as (select date_trunc('hour', now(), 'UTC') - %(ago)s * interval '1 hour' as at)
                select metric_name, metric_value from lifecycle.data_quality_history h, edge
                 where h.hour = edge.at - interval '1 hour' order by 1""",
                {"ago": hours_ago},
            )
            expected = rows(
                conn,
                """
                with edge as (select date_trunc('hour', now(), 'UTC') - %(ago)s * interval '1 hour' as at), e as (
                    select count(*) as n, count(*) filter (where account_id is null) as anonymous
                      from user_behavior_events, edge
                     where event_timestamp >= at - interval '24 hours' and event_timestamp < at)
                select 'avg_event_latency_ms', coalesce(round(avg(latency_ms), 2), 0) from chat_messages, edge
                 where created_at >= at - interval '24 hours' and created_at < at
                union all select 'chat_sessions_24h', count(*) from chat_sessions, edge
                 where started_at >= at - interval '24 hours' and started_at < at
                union all select 'null_account_id_rate', coalesce(round(100.0 * anonymous / nullif(n, 0), 2), 0) from e
                union all select 'user_behavior_events_24h', n from e order by 1""",
                {"ago": hours_ago},
            )
            assert found == expected


def test_thresholds_come_from_the_policy(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        conn.execute("update lifecycle.data_quality_thresholds set threshold = 1e9 where healthy_if = 'at_least'")
        rows(conn, "select * from refresh_derived_statistics()")
        alerts = rows(conn, "select metric_name, status from detect_data_quality_alerts() order by 1")
        assert alerts == [("chat_sessions_24h", "warning"), ("user_behavior_events_24h", "warning")]
        upgrade(url)
        rows(conn, "select * from refresh_derived_statistics()")
        assert rows(conn, "select * from detect_data_quality_alerts()") == []
        written = {
            name: float(threshold)
            for name, threshold in rows(conn, "select metric_name, threshold from data_quality_metrics")
        }
        assert written == {quality.metric_name: quality.threshold for quality in DATA_QUALITY}


def test_triggers_look_back_as_far_as_the_overlap(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        assert value(conn, "select lifecycle.overlap()") == LATE_AFTER
        late = rows(conn, "select pg_get_triggerdef(oid) from pg_trigger where tgname like 'lifecycle_late_%'")
        assert len(late) == 10
        for (definition,) in late:
            assert "now() - '02:00:00'::interval" in definition


def test_ordinary_rows_leave_no_trace(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        conn.execute(
            f"insert into chat_messages (session_id, role, content) values ({SOME_SESSION}, 'user', 'x')".encode()
        )
        conn.execute("insert into user_behavior_events (session_id, page_url) values ('s', '/')")
        conn.execute(
            "update user_behavior_events set engagement = '{}' where event_timestamp < now() - interval '1 day'"
        )
        conn.execute("update chat_messages set content = 'y' where created_at < now() - interval '1 day'")
        conn.execute("update chat_sessions set title = 'z', closed_at = now()")
        for log in ("changed_chat_hours", "changed_chat_sessions", "changed_activity"):
            assert value(conn, f"select count(*) from lifecycle.{log}") == 0, log


@pytest.mark.parametrize("auto_grant", [True, False])
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_api_writes_as_before_and_may_refresh_nothing(
    make_application_db: MakeApplicationDb, as_role: AsRole, auto_grant: bool, role: str
) -> None:
    url = make_application_db(auto_grant=auto_grant, migrated=True)
    with connect(url) as conn:
        user, account = rows(conn, "select supabase_user_id, account_id from account_linkages order by 1 limit 1")[0]
    with as_role(url, role, {"sub": str(user)}) as conn:
        conn.execute(
            "insert into user_behavior_events (account_id, session_id, page_url, event_timestamp) "
            "values (%s, 'late', '/', now() - interval '3 days')",
            (account,),
        )
        if role != "anon":
            session = conn.execute(
                "insert into chat_sessions (account_id, started_at) values (%s, now() - interval '3 days') "
                "returning id",
                (account,),
            ).fetchone()
            conn.execute(
                "insert into chat_messages (session_id, role, content, created_at) "
                "values (%s, 'user', '', now() - interval '3 days')",
                session,
            )
            conn.execute("update chat_sessions set last_activity_at = now() where id = %s", session)
    with connect(url) as conn:
        assert value(conn, "select count(*) from lifecycle.changed_activity") == (1 if role == "anon" else 2)
        assert disagreements(conn) == {}
    for call in ("refresh_derived_statistics()", "refresh_analytics_hourly()"):
        with as_role(url, role) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f"select * from public.{call}".encode())


@pytest.mark.skipif(REAL_FOLDER is None, reason="LIFECYCLE_DATA_DIR names no folder with the real data sets")
def test_tables_agree_on_real_rows(server: Server) -> None:
    url = create_application_database(server, "real_statistics")
    load(url, Path(str(REAL_FOLDER)), now=datetime.now(UTC), progress=lambda *_: None)
    upgrade(url)
    with connect(url) as conn:
        assert disagreements(conn) == {}
        for name in COMPARED:
            assert value(conn, f"select count(*) from public.{name}") > 0, name
        conn.execute(CHANGES["latencies tie"].encode())
        conn.execute(CHANGES["a latency of last week is corrected"].encode())
        assert disagreements(conn) == {}


def test_a_difference_would_be_seen(make_application_db: MakeApplicationDb) -> None:
    """The comparison itself can fail."""
    with connect(make_application_db(migrated=True)) as conn, conn.transaction():
        refresh(conn)
        for name, column in (("daily_active_users", "dau"), ("user_engagement_scores", "total_messages")):
            conn.execute(f"update lifecycle.{name} set {column} = {column} + 1".encode())
            assert {row[0] for row in differences(conn, name)} == {"missing", "surplus"}
