"""Rotation: months ahead at month edges and in any session, catching up, moving and purging, the ledger."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from lifecycle.database import Connection, connect, value
from lifecycle.partitions.months import add_months, month_range, month_start, partition_name
from lifecycle.partitions.rotate import rotate
from lifecycle.partitions.tables import MonthlyTable
from tests.declared import EVENT_TABLES
from tests.partitioned import (
    BEHAVIOR,
    BUSINESS,
    MONTHS_BACK,
    REPLAYS,
    audit_rows,
    bounds,
    count_rows,
    done,
    insert_events,
    months,
    plain_session,
    rotate_all,
    run_on,
    server_clock,
    set_policy,
)

pytest_plugins = ("tests.partitioned_fixtures",)

MICROSECOND = timedelta(microseconds=1)
TOKYO = ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize("table", EVENT_TABLES, ids=lambda table: table.name)
def test_conversion_leaves_nothing_to_rotate(partitioned: Connection, table: MonthlyTable) -> None:
    actions = rotate(partitioned, table)
    assert [(action.action, action.outcome) for action in actions] == [("unchanged", "success")]


@pytest.mark.parametrize("table", EVENT_TABLES, ids=lambda table: table.name)
def test_months_ahead_at_the_microseconds_around_a_month_edge(partitioned: Connection, table: MonthlyTable) -> None:
    edge = add_months(month_start(server_clock(partitioned)), 3)
    rotate_all(partitioned, edge - MICROSECOND)
    assert max(months(partitioned, table)) == add_months(edge, table.months_ahead - 1)
    actions = rotate_all(partitioned, edge, table)
    assert done(actions, "create") == [partition_name(table.name, add_months(edge, table.months_ahead))]
    assert done(rotate_all(partitioned, edge + MICROSECOND, table), "create") == []


def test_half_past_midnight_in_tokyo_is_still_last_month_in_utc(partitioned: Connection) -> None:
    edge = add_months(month_start(server_clock(partitioned)), 2)
    tokyo = datetime(edge.year, edge.month, 1, 0, 30, tzinfo=TOKYO)
    rotate_all(partitioned, tokyo)
    assert max(months(partitioned, BEHAVIOR)) == add_months(edge, BEHAVIOR.months_ahead - 1)
    partitioned.execute("set timezone = 'Asia/Tokyo'")
    rotate_all(partitioned, f"{edge:%Y-%m}-01 00:30")
    assert max(months(partitioned, BEHAVIOR)) == add_months(edge, BEHAVIOR.months_ahead - 1)
    rotate_all(partitioned, f"{edge:%Y-%m}-01 09:00")
    assert max(months(partitioned, BEHAVIOR)) == add_months(edge, BEHAVIOR.months_ahead)


@pytest.mark.parametrize(
    "settings",
    [
        "set timezone = 'Asia/Tokyo'",
        "set timezone = 'America/New_York'; set datestyle = 'SQL, DMY'",
        "set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set intervalstyle = 'sql_standard'",
        "set datestyle = 'Postgres, MDY'; set search_path = 'pg_temp'; set bytea_output = 'escape'",
    ],
)
def test_bounds_are_utc_months_whatever_the_session_says(partitioned_db: str, settings: str) -> None:
    with connect(partitioned_db) as utc, plain_session(partitioned_db) as odd:
        ahead = add_months(month_start(server_clock(utc)), 6)
        insert_events(utc, BEHAVIOR, add_months(ahead, -1), session="moved")
        odd.execute(settings.encode())
        actions = odd.execute("select action, outcome from public.rotate_event_partitions(%s)", (ahead,)).fetchall()
        assert {outcome for _, outcome in actions} == {"success"}
        for table in EVENT_TABLES:
            for name, (lower, upper) in bounds(utc, table).items():
                if lower and upper:
                    assert (lower, upper) == (month_start(lower), add_months(lower, 1))
                    assert name == partition_name(table.name, lower)
        assert count_rows(utc, partition_name(BEHAVIOR.name, add_months(ahead, -1)), "moved") == 1
        assert odd.execute("select action from public.rotate_event_partitions(%s)", (ahead,)).fetchall() == [
            ("unchanged",)
        ] * len(EVENT_TABLES)


def test_missed_months_are_caught_up_in_one_call(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    late = add_months(this, 7)
    actions = rotate_all(partitioned, late, BUSINESS)
    expected = month_range(add_months(this, 4), add_months(late, 3))
    assert done(actions, "create") == [partition_name(BUSINESS.name, month) for month in expected]


def test_a_gap_between_partitions_is_filled(partitioned: Connection) -> None:
    gap = partition_name(BEHAVIOR.name, add_months(month_start(server_clock(partitioned)), -2))
    run_on(partitioned, "drop table {}", gap)
    assert done(rotate_all(partitioned, table=BEHAVIOR), "create") == [gap]


def test_a_lost_default_partition_is_made_again(partitioned: Connection) -> None:
    partitioned.execute("drop table event_partitions.user_behavior_events_default")
    assert done(rotate_all(partitioned, table=BEHAVIOR), "create") == ["user_behavior_events_default"]
    insert_events(partitioned, BEHAVIOR, "2099-01-01", session="skewed")
    assert count_rows(partitioned, "user_behavior_events_default", "skewed") == 1


def test_rows_of_a_month_to_be_made_move_and_far_future_rows_stay(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    month = add_months(this, 4)
    for moment in (month, month + timedelta(days=10), add_months(month, 1) - MICROSECOND):
        insert_events(partitioned, BEHAVIOR, moment, session="moving")
    for stays in (month - MICROSECOND, add_months(month, 1)):
        insert_events(partitioned, BEHAVIOR, stays, session="edge")
    for skewed in ("2099-12-31", "infinity"):
        insert_events(partitioned, BEHAVIOR, skewed, session="skewed")
    before = value(partitioned, "select jsonb_agg(e order by id) from user_behavior_events e")

    actions = rotate_all(partitioned, add_months(this, 1), BEHAVIOR)

    name = partition_name(BEHAVIOR.name, month)
    assert [(a.action, a.partition, a.rows) for a in actions] == [
        ("create", name, 3),
        ("move", "user_behavior_events_default", 3),
    ]
    assert count_rows(partitioned, name) == 3
    assert count_rows(partitioned, "user_behavior_events_default", "skewed") == 2
    assert count_rows(partitioned, "user_behavior_events_default", "edge") == 1
    assert value(partitioned, "select jsonb_agg(e order by id) from user_behavior_events e") == before


def test_generated_columns_are_computed_again_for_moved_rows(partitioned: Connection) -> None:
    partitioned.execute(
        "alter table user_behavior_events add column page_length int generated always as (length(page_url)) stored"
    )
    this = month_start(server_clock(partitioned))
    insert_events(partitioned, BEHAVIOR, add_months(this, 4), session="moving")
    assert done(rotate_all(partitioned, add_months(this, 1), BEHAVIOR), "move") == ["user_behavior_events_default"]
    assert value(partitioned, "select page_length from user_behavior_events where session_id = 'moving'") == 1


def test_months_in_retention_get_a_partition_when_rows_wait_for_them(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    late = add_months(this, -MONTHS_BACK - 6)
    insert_events(partitioned, BEHAVIOR, late + timedelta(days=3), session="late")
    assert count_rows(partitioned, "user_behavior_events_default") == 1
    actions = rotate_all(partitioned, table=BEHAVIOR)
    name = partition_name(BEHAVIOR.name, late)
    assert done(actions, "create") == [name]
    assert count_rows(partitioned, name, "late") == 1
    assert count_rows(partitioned, "user_behavior_events_default") == 0


def test_moving_needs_no_second_try(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    set_policy(partitioned, BEHAVIOR, lock_tries=1)
    insert_events(partitioned, BEHAVIOR, add_months(this, 4), session="moving")
    actions = rotate_all(partitioned, add_months(this, 1), BEHAVIOR)
    assert [action.outcome for action in actions] == ["success", "success"]


def test_rows_past_retention_are_purged_from_the_default_partition(partitioned: Connection) -> None:
    first_kept = add_months(month_start(server_clock(partitioned)), -24)
    insert_events(partitioned, BEHAVIOR, first_kept, session="kept")
    for moment in (first_kept - MICROSECOND, "1970-01-01", "-infinity"):
        insert_events(partitioned, BEHAVIOR, moment, session="purged")
    actions = rotate_all(partitioned, table=BEHAVIOR)
    assert [(a.action, a.rows) for a in actions] == [("purge", 3), ("create", 1), ("move", 1)]
    assert value(partitioned, "select count(*) from user_behavior_events where session_id = 'purged'") == 0
    assert count_rows(partitioned, partition_name(BEHAVIOR.name, first_kept), "kept") == 1


def test_one_call_purges_a_bounded_number_of_rows(partitioned: Connection) -> None:
    insert_events(partitioned, REPLAYS, "2001-01-01", session="old", rows=50_005)
    sizes = [[(a.action, a.rows) for a in rotate_all(partitioned, table=REPLAYS)] for _ in range(3)]
    assert sizes == [[("purge", 50_000)], [("purge", 5)], [("unchanged", 0)]]


def test_a_psql_user_needs_nothing_but_the_function(partitioned_db: str) -> None:
    with plain_session(partitioned_db) as conn:
        assert value(conn, "select session_user::text") == "postgres"
        insert_events(conn, BEHAVIOR, "1999-01-01", session="old")
        found = conn.execute("select table_name, action, outcome from rotate_event_partitions()").fetchall()
    assert found == [
        ("public.business_metrics_events", "unchanged", "success"),
        ("public.session_replay_events", "unchanged", "success"),
        ("public.user_behavior_events", "purge", "success"),
    ]


def test_every_action_is_one_row_of_the_ledger_without_personal_data(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    insert_events(partitioned, BEHAVIOR, add_months(this, 4), session="visitor-4711")
    insert_events(partitioned, BEHAVIOR, "1970-01-01", session="visitor-4711")
    set_policy(partitioned, BEHAVIOR, retention="3 months")
    partitioned.execute("create table event_partitions.stranger (like session_replay_events including all)")
    partitioned.execute(
        "alter table session_replay_events attach partition event_partitions.stranger"
        " for values from ('2001-01-01') to ('2001-02-01')"
    )
    actions = rotate_all(partitioned, add_months(this, 1))
    assert {action.action for action in actions} == {"create", "move", "purge", "drop", "skipped"}
    ledger = audit_rows(partitioned)
    assert [(f"job_{a.outcome}", a.table_name, a.action, a.partition, a.rows, a.bytes, a.error) for a in actions] == [
        (event_type, *(payload[key] for key in ("table", "action", "partition", "rows", "bytes", "error")))
        for event_type, payload in ledger
    ]
    assert {frozenset(payload) for _, payload in ledger} == {
        frozenset({"table", "action", "partition", "rows", "bytes", "duration_ms", "error"})
    }
    assert all(payload["duration_ms"] >= 0 for _, payload in ledger)
    accounts = partitioned.execute("select id::text from accounts").fetchall()
    text = json.dumps(ledger)
    assert "visitor-4711" not in text
    assert not any(account in text for (account,) in accounts)


def test_the_clock_of_the_call_is_the_callers(partitioned: Connection) -> None:
    as_of = datetime(2031, 5, 31, 23, 59, 59, 999999, tzinfo=UTC)
    rotate(partitioned, REPLAYS, as_of)
    assert max(months(partitioned, REPLAYS)) == datetime(2031, 8, 1, tzinfo=UTC)
