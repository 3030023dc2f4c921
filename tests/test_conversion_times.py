"""Every timestamp lands in the partition that the months' arithmetic names, whatever clock, zone or format wrote it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from lifecycle.database import connect, rows, value
from lifecycle.partitions.capture import Target
from lifecycle.partitions.months import add_months, before_name, month_range, month_start, partition_name
from lifecycle.partitions.tables import MonthlyTable
from tests.conversion_load import (
    BEHAVIOUR,
    BUSINESS,
    REPLAY,
    RETENTION,
    convert,
    expected_partition,
    fill,
    fingerprint,
    insert_event,
    leftovers,
    places,
)
from tests.declared import EVENT_TABLES

MakeDb = Callable[..., str]
ZONES = [UTC, ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York"), timezone(timedelta(hours=-12))]
MOMENTS = st.datetimes(
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 12, 31),
    timezones=st.sampled_from(ZONES),
)
MONTHS = MOMENTS.map(month_start)


@given(MOMENTS)
def test_month_holds_its_moment(moment: datetime) -> None:
    start = month_start(moment)
    assert start <= moment < add_months(start, 1)
    assert month_start(start) == start
    assert month_start(add_months(start, 1) - timedelta(microseconds=1)) == start
    assert (start.day, start.hour, start.minute, start.second, start.microsecond) == (1, 0, 0, 0, 0)
    assert start.utcoffset() == timedelta(0)


@given(MONTHS, st.integers(-12, 12), st.integers(-12, 12))
def test_adding_months_adds_up(month: datetime, first: int, second: int) -> None:
    if month.year in (2, 3, 9997, 9998):
        return
    assert add_months(add_months(month, first), second) == add_months(month, first + second)
    assert add_months(month, 12) == month.replace(year=month.year + 1)
    assert month_start(add_months(month, first)) == add_months(month, first)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)), st.integers(0, 60))
def test_months_in_a_range_touch(moment: datetime, count: int) -> None:
    first = month_start(moment)
    months = month_range(first, add_months(first, count))
    assert len(months) == count + 1
    assert all(add_months(earlier, 1) == later for earlier, later in pairwise(months))
    assert len({partition_name("t", month) for month in months}) == len(months)
    assert month_range(first, add_months(first, -1)) == []


def test_month_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="without time zone"):
        month_start(datetime(2026, 1, 1))


def test_names() -> None:
    november = datetime(2025, 11, 1, tzinfo=UTC)
    assert partition_name("user_behavior_events", november) == "user_behavior_events_2025_11"
    assert before_name("session_replay_events", november) == "session_replay_events_before_2025_11"


@pytest.mark.parametrize("table", [BUSINESS, REPLAY], ids=lambda table: table.name)
def test_any_timestamps(make_application_db: MakeDb, now: datetime, table: MonthlyTable) -> None:
    """Property: rows written before and after the conversion are all in the partition that months.py names."""
    near = st.timedeltas(timedelta(days=-900), timedelta(days=200)).map(lambda ago: now + ago)
    edges = st.builds(
        lambda month, offset: add_months(month_start(now), month) + offset,
        st.integers(-30, 6),
        st.sampled_from([timedelta(microseconds=n) for n in (-1, 0, 1)] + [timedelta(hours=n) for n in (-9, 5)]),
    )
    # Many rows for each conversion, which takes seconds: where one lands does not depend on the others.
    some = st.lists(st.one_of(near, edges, MOMENTS), min_size=12, max_size=24)

    @settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(some, some)
    def lands(earlier: list[datetime], later: list[datetime]) -> None:
        url = make_application_db(rows=False, migrated=True)
        with connect(url) as conn:
            insert_event(conn, table, datetime(1970, 1, 1, tzinfo=UTC))
            oldest = RETENTION[table.name](now)
            insert_event(conn, table, oldest)
            written = {insert_event(conn, table, moment): moment for moment in earlier}
            convert(url, table, now)
            written |= {insert_event(conn, table, moment): moment for moment in later}
            found = places(conn, table)
        for row, moment in written.items():
            assert found[row] == expected_partition(table, moment, now, oldest), moment

    lands()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_month_edges_in_the_session_zone(make_application_db: MakeDb, now: datetime, zone: str) -> None:
    """The database's zone and date style are odd; bounds are months in UTC all the same."""
    url = make_application_db(rows=False, migrated=True)
    database = sql.Identifier(url.rsplit("/", 1)[1])
    with connect(url) as conn:
        conn.execute(sql.SQL("alter database {} set timezone to {}").format(database, sql.Literal(zone)))
        conn.execute(sql.SQL("alter database {} set datestyle to 'SQL, DMY'").format(database))
    local = ZoneInfo(zone)
    month = month_start(now)
    edges = [
        edge.replace(tzinfo=tz) + offset
        for edge in (add_months(month, -1), month, add_months(month, 1))
        for tz in (UTC, local)
        for offset in (timedelta(microseconds=-1), timedelta(0), timedelta(microseconds=1))
    ]
    with connect(url) as conn:
        conn.execute(sql.SQL("set timezone to {}").format(sql.Literal(zone)))
        # As text without a zone, the session's zone decides what it means.
        written = {
            insert_event(conn, REPLAY, edge.astimezone(local).replace(tzinfo=None).isoformat()): edge for edge in edges
        }
        convert(url, REPLAY, now)
        written |= {
            insert_event(conn, REPLAY, edge.astimezone(local).replace(tzinfo=None).isoformat()): edge for edge in edges
        }
        conn.execute("set datestyle to 'ISO'")
        bounds = rows(conn, "select lower_bound, upper_bound from lifecycle.event_partitions_of(%s)", (REPLAY.name,))
        assert {bound.astimezone(UTC) for row in bounds for bound in row if bound} == {
            add_months(month, offset) for offset in range(-2, 5)
        }
        found = places(conn, REPLAY)
    assert {row: partition_name(REPLAY.name, month_start(edge)) for row, edge in written.items()} == found


@pytest.mark.parametrize("table", EVENT_TABLES, ids=lambda table: table.name)
def test_clocks_that_are_wrong(make_application_db: MakeDb, now: datetime, table: MonthlyTable) -> None:
    """Past retention: one partition. Ahead of the months ahead: the default. Refused: never, before or after."""
    url = make_application_db(rows=False, migrated=True)
    past, ahead = ("-infinity", "0044-03-15 BC", "1970-01-01"), ("2099-01-01", "294276-12-31", "infinity")
    with connect(url) as conn:
        old = [insert_event(conn, table, moment) for moment in past]
        new = [insert_event(conn, table, moment) for moment in ahead]
        convert(url, table, now)
        old += [insert_event(conn, table, moment) for moment in past]
        new += [insert_event(conn, table, moment) for moment in ahead]
        found = places(conn, table)
    before = before_name(table.name, RETENTION[table.name](now))
    assert {found[row] for row in old} == {before}
    assert {found[row] for row in new} == {f"{table.name}_default"}


@pytest.mark.parametrize("table", EVENT_TABLES, ids=lambda table: table.name)
def test_empty_table(make_application_db: MakeDb, now: datetime, table: MonthlyTable) -> None:
    """This month, the months ahead and the default; the next insert has its place."""
    url = make_application_db(rows=False, migrated=True)
    result = convert(url, table, now)
    assert (result.rows, result.months, result.default_rows) == (0, 1 + table.months_ahead, 0)
    assert leftovers(url) == []
    with connect(url) as conn:
        new = insert_event(conn, table)
        assert places(conn, table) == {new: partition_name(table.name, month_start(value(conn, "select now()")))}


def test_moved_rows_follow_their_month(make_application_db: MakeDb, now: datetime) -> None:
    """An UPDATE of the time by id alone moves the row, before and after the exchange."""
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=20, odd=False)
    count, _ = fingerprint(url, BEHAVIOUR)
    with connect(url) as conn:
        convert(url, BEHAVIOUR, now)
        conn.execute("update user_behavior_events set event_timestamp = %s where session_id = 's1'", (now,))
        moved = rows(conn, "select distinct tableoid::regclass::text from user_behavior_events where session_id = 's1'")
    assert moved == [(f"event_partitions.{partition_name(BEHAVIOUR.name, month_start(now))}",)]
    assert fingerprint(url, BEHAVIOUR)[0] == count


def test_a_bound_takes_the_type_of_its_column() -> None:
    """A cast would keep PostgreSQL from proving a CHECK by it: it would read each month under the lock of ATTACH."""
    month = Target("visits_2026_11", "month", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    for told in (month.condition(sql.Identifier("at"), []), month.for_values()):
        assert "2026-11-01" in told.as_string(None)
        assert "::" not in told.as_string(None)
