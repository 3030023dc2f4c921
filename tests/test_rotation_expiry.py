"""Expiry: whole months only, marked partitions only, and never what the server's own clock still keeps."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.database import Connection, value
from lifecycle.partitions.months import add_months, month_range, month_start, partition_name
from lifecycle.partitions.tables import MonthlyTable
from tests.declared import EVENT_TABLES
from tests.partitioned import (
    BEHAVIOR,
    MONTHS_BACK,
    REPLAYS,
    bounds,
    count_rows,
    done,
    insert_events,
    months,
    partition_tables,
    rotate_all,
    run_on,
    server_clock,
    set_policy,
)

pytest_plugins = ("tests.partitioned_fixtures",)

MICROSECOND = timedelta(microseconds=1)


def first_kept_month(retention: str, as_of: datetime) -> datetime:
    """What `lifecycle.first_kept_month` must compute, for a retention of whole days or whole months."""
    count, unit = retention.split()
    if unit == "days":
        return month_start(as_of - timedelta(days=int(count)))
    return add_months(month_start(as_of), -int(count))


def missing_months(
    existing: set[datetime], retention: str, ahead: int, waiting: set[datetime], as_of: datetime
) -> set[datetime]:
    """What `lifecycle.missing_event_months` must return."""
    first_kept, last = first_kept_month(retention, as_of), add_months(month_start(as_of), ahead)
    start = max(first_kept, min(*existing, month_start(as_of)))
    return {m for m in {*month_range(start, last), *waiting} if first_kept <= m <= last} - existing


def with_months_back(conn: Connection, table: MonthlyTable, back: int) -> list[datetime]:
    """Make `table` hold a partition for each of the last `back` months, with one row each."""
    this = month_start(server_clock(conn))
    wanted = [add_months(this, -offset) for offset in range(back, -1, -1)]
    set_policy(conn, table, retention="60 months", cold_after=None)
    for month in wanted:
        insert_events(conn, table, month, session="aged")
    rotate_all(conn, table=table)
    set_policy(conn, table, retention=table.retention)
    assert months(conn, table) >= set(wanted)
    return wanted


@pytest.mark.parametrize("retention", ["2 months", "60 days", "1 month"])
def test_months_wholly_past_retention_are_dropped_with_their_rows(partitioned: Connection, retention: str) -> None:
    now = server_clock(partitioned)
    set_policy(partitioned, BEHAVIOR, retention=retention)
    first_kept = first_kept_month(retention, now)
    past = month_range(add_months(month_start(now), -MONTHS_BACK), add_months(first_kept, -1))
    kept = months(partitioned, BEHAVIOR) - set(past)
    actions = rotate_all(partitioned, table=BEHAVIOR)
    assert done(actions, "drop") == [partition_name(BEHAVIOR.name, month) for month in past]
    assert all(action.bytes > 0 for action in actions)
    assert months(partitioned, BEHAVIOR) == kept
    assert value(partitioned, "select min(event_timestamp) from user_behavior_events") == first_kept
    assert done(rotate_all(partitioned, table=BEHAVIOR), "drop") == []


def test_a_month_of_replays_lives_until_its_last_instant_is_ninety_days_old(partitioned: Connection) -> None:
    wanted = with_months_back(partitioned, REPLAYS, 9)
    month = wanted[2]
    ninety_days_after = add_months(month, 1) + timedelta(days=90)
    rotate_all(partitioned, ninety_days_after - MICROSECOND, REPLAYS)
    assert month in months(partitioned, REPLAYS)
    assert wanted[1] not in months(partitioned, REPLAYS)
    actions = rotate_all(partitioned, ninety_days_after, REPLAYS)
    assert done(actions, "drop") == [partition_name(REPLAYS.name, month)]
    assert value(partitioned, "select min(timestamp) from session_replay_events") == wanted[3]


def test_a_date_in_the_far_future_drops_nothing_that_is_kept_today(partitioned: Connection) -> None:
    insert_events(partitioned, BEHAVIOR, add_months(month_start(server_clock(partitioned)), -10), session="late")
    before = {table.name: months(partitioned, table) for table in EVENT_TABLES}
    actions = rotate_all(partitioned, "2090-06-15")
    assert {action.action for action in actions} == {"create"}
    for table in EVENT_TABLES:
        assert months(partitioned, table) > before[table.name]
    assert count_rows(partitioned, "user_behavior_events_default", "late") == 1


def test_a_date_in_the_past_drops_only_what_was_past_retention_then(partitioned: Connection) -> None:
    wanted = with_months_back(partitioned, REPLAYS, 9)
    rotate_all(partitioned, add_months(wanted[-1], -4), REPLAYS)
    assert min(months(partitioned, REPLAYS)) == month_start(add_months(wanted[-1], -4) - timedelta(days=90))


def test_the_partition_for_everything_before_is_dropped_too(partitioned: Connection) -> None:
    first = min(months(partitioned, BEHAVIOR))
    partitioned.execute(
        "create table event_partitions.user_behavior_events_before"
        " partition of user_behavior_events for values from (minvalue) to ('2001-01-01')"
    )
    partitioned.execute(
        "comment on table event_partitions.user_behavior_events_before is"
        " 'lifecycle:before of public.user_behavior_events'"
    )
    assert done(rotate_all(partitioned, table=BEHAVIOR), "drop") == ["user_behavior_events_before"]
    assert min(months(partitioned, BEHAVIOR)) == first


def test_a_strangers_partition_past_retention_is_reported_not_dropped(partitioned: Connection) -> None:
    partitioned.execute("create table event_partitions.stranger (like user_behavior_events including all)")
    partitioned.execute("comment on table event_partitions.stranger is 'kept for the auditors'")
    partitioned.execute(
        "alter table user_behavior_events attach partition event_partitions.stranger"
        " for values from ('2001-01-01') to ('2001-02-01')"
    )
    insert_events(partitioned, BEHAVIOR, "2001-01-15", session="kept")
    for _ in range(2):
        failures = [action for action in rotate_all(partitioned, table=BEHAVIOR) if action.outcome == "failure"]
        assert [(action.action, action.partition) for action in failures] == [("skipped", "stranger")]
        assert "drop it by hand" in (failures[0].error or "")
    assert count_rows(partitioned, "stranger", "kept") == 1


def test_detached_partitions_are_nobodys_business(partitioned: Connection) -> None:
    oldest = partition_name(BEHAVIOR.name, min(months(partitioned, BEHAVIOR)))
    run_on(partitioned, "alter table user_behavior_events detach partition {}", oldest)
    set_policy(partitioned, BEHAVIOR, retention="1 month")
    assert oldest not in done(rotate_all(partitioned, table=BEHAVIOR), "drop")
    assert oldest in partition_tables(partitioned)


@given(
    retention=st.one_of(
        st.integers(1, 30).map(lambda count: f"{count} months"), st.integers(1, 400).map(lambda count: f"{count} days")
    ),
    ahead=st.integers(1, 6),
    offset=st.timedeltas(timedelta(days=-500), timedelta(days=500)),
    snap=st.sampled_from(("as drawn", "month start", "just before a month")),
    waiting=st.sets(st.integers(-30, 20), max_size=3),
    table=st.sampled_from(EVENT_TABLES),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_created_and_dropped_months_equal_the_model(
    partitioned: Connection,
    retention: str,
    ahead: int,
    offset: timedelta,
    snap: str,
    waiting: set[int],
    table: MonthlyTable,
) -> None:
    now = server_clock(partitioned)
    as_of = now + offset
    if snap != "as drawn":
        as_of = month_start(as_of) - (MICROSECOND if snap == "just before a month" else timedelta())
    kept = first_kept_month(retention, min(as_of, now))
    with partitioned.transaction(force_rollback=True):
        set_policy(partitioned, table, retention=retention, cold_after=None, months_ahead=ahead)
        before = bounds(partitioned, table)
        existing = months(partitioned, table)
        late = {add_months(month_start(now), count) for count in waiting} - existing
        for month in late:
            insert_events(partitioned, table, month, session="waiting")
        in_default = {month for month in late if month >= kept}
        expected = missing_months(existing, retention, ahead, in_default, as_of)
        dropped = {name for name, (_, upper) in before.items() if upper is not None and upper <= kept}

        actions = rotate_all(partitioned, as_of, table)

        assert {action.outcome for action in actions} == {"success"}
        assert set(done(actions, "drop")) == dropped
        assert set(done(actions, "create")) == {partition_name(table.name, month) for month in expected}
        assert sum(action.rows for action in actions if action.action == "move") == len(in_default & expected)
        assert sum(action.rows for action in actions if action.action == "purge") == len(late - in_default)
        left = {month for month in existing if add_months(month, 1) > kept}
        assert months(partitioned, table) == left | expected


@given(
    as_of=st.datetimes(datetime(1999, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)),
    days=st.integers(0, 4000),
    count=st.integers(0, 240),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_kept_month_equals_the_model(partitioned: Connection, as_of: datetime, days: int, count: int) -> None:
    query = (
        "select lifecycle.first_kept_month(jsonb_populate_record(p, jsonb_build_object('retention', %s::text)), %s)"
        " from lifecycle.event_table_policies p limit 1"
    )
    for retention in (f"{days} days", f"{count} months"):
        assert value(partitioned, query, (retention, as_of)) == first_kept_month(retention, as_of)
