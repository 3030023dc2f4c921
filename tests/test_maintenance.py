"""`run_daily_maintenance()`: leaves to rotation what rotation drops, cleans what is not converted, hides no error."""

from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, value
from lifecycle.partitions.convert import convert_table
from tests.conftest import MakeApplicationDb
from tests.declared import EVENT_TABLES
from tests.partitioned import BEHAVIOR, BUSINESS, REPLAYS, insert_events, plain_session, server_clock

pytest_plugins = ("tests.partitioned_fixtures",)

RUN = "select run_daily_maintenance()"


def insert_old_rows(conn: Connection) -> None:
    """In each event table one row just past retention and one just inside."""
    now = server_clock(conn)
    for table in EVENT_TABLES:
        cutoff = value(
            conn,
            "select %s - retention from lifecycle.event_table_policies where table_name = %s",
            (
                now,
                table.name,
            ),
        )
        insert_events(conn, table, cutoff - timedelta(hours=1), session="past")
        insert_events(conn, table, cutoff + timedelta(hours=1), session="kept")


def sessions(conn: Connection, table: str) -> list[str]:
    query = sql.SQL("select session_id from {} order by 1").format(sql.Identifier(table))
    return [row[0] for row in conn.execute(query).fetchall()]


def test_plain_tables_are_cleaned_as_before(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        conn.execute("insert into accounts default values")
        insert_old_rows(conn)
        report = value(conn, RUN)
        for table in EVENT_TABLES:
            assert sessions(conn, table.name) == ["kept"]
            assert f"{table.name}: 1 rows deleted" in report
        assert "account_function_usage: refreshed" in report


def test_partitioned_tables_are_left_to_rotation(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        convert_table(url, REPLAYS, now=server_clock(conn), progress=lambda _message, _fraction: None)
        convert_table(url, BUSINESS, split_now=False, now=server_clock(conn), progress=lambda _message, _fraction: None)
        insert_old_rows(conn)
        report = value(conn, RUN)
        assert sessions(conn, REPLAYS.name) == sessions(conn, BUSINESS.name) == ["kept", "past"]
        assert sessions(conn, BEHAVIOR.name) == ["kept"]
        for table in (REPLAYS, BUSINESS):
            assert f"{table.name}: rotated by month" in report
        assert f"{BEHAVIOR.name}: 1 rows deleted" in report


def test_the_planner_gets_fresh_figures(partitioned: Connection) -> None:
    insert_events(partitioned, BEHAVIOR, "2099-01-01", session="new", rows=500)
    partitioned.execute(RUN)
    analyzed = "select reltuples from pg_class where oid = 'event_partitions.user_behavior_events_default'::regclass"
    assert value(partitioned, analyzed) == 500


def test_an_error_reaches_the_caller(partitioned_db: str) -> None:
    with plain_session(partitioned_db) as conn:
        conn.execute("drop table lifecycle.function_usage_totals cascade")
        with pytest.raises(psycopg.errors.RaiseException, match=r"account_function_usage.*function_usage_totals"):
            conn.execute(RUN)


def test_an_error_undoes_the_deletion(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        insert_old_rows(conn)
        conn.execute("drop table lifecycle.function_usage_totals cascade")
        with pytest.raises(psycopg.errors.RaiseException, match="account_function_usage"):
            conn.execute(RUN)
        assert sessions(conn, BEHAVIOR.name) == ["kept", "past"]


def test_another_refresh_under_way_is_said(partitioned_db: str) -> None:
    with connect(partitioned_db) as holder, connect(partitioned_db) as conn, holder.transaction():
        assert value(holder, "select lifecycle.lock_analytics()") is None
        assert "account_function_usage: busy" in value(conn, RUN)


def test_a_missing_event_table_is_said(partitioned: Connection) -> None:
    partitioned.execute("drop table session_replay_events")
    assert "session_replay_events: does not exist" in value(partitioned, RUN)


def test_it_runs_as_the_role_postgres_with_any_search_path(partitioned_db: str) -> None:
    with plain_session(partitioned_db) as conn:
        conn.execute("set search_path = ''")
        assert value(conn, "select public.run_daily_maintenance()").count(";") == 3
