"""`partition_status` sees each thing that an asset check asks for, broken here on purpose."""

from datetime import UTC, datetime, timedelta

import pytest

from lifecycle.database import Connection, connect
from lifecycle.names import QualifiedName
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start, partition_name
from lifecycle.partitions.status import PartitionStatus, partition_status
from lifecycle.partitions.tables import MonthlyTable
from tests.conftest import MakeApplicationDb
from tests.declared import EVENT_TABLES
from tests.partitioned import (
    BEHAVIOR,
    MONTHS_BACK,
    REPLAYS,
    insert_events,
    months,
    rotate_all,
    run_on,
    server_clock,
    set_policy,
)

pytest_plugins = ("tests.partitioned_fixtures",)


def status(conn: Connection, table: MonthlyTable = BEHAVIOR, now: datetime | None = None) -> PartitionStatus:
    return partition_status(conn, table, now or server_clock(conn))


@pytest.mark.parametrize("table", EVENT_TABLES, ids=lambda table: table.name)
def test_a_converted_table_is_healthy(partitioned: Connection, table: MonthlyTable) -> None:
    found = status(partitioned, table)
    assert found.partitioned
    assert not found.split_pending
    assert found.months_ahead == table.months_ahead
    assert (found.missing_months, found.expired, found.exposed, found.stale_dependents) == ((), (), (), ())
    assert (found.default_rows, found.default_oldest, found.default_newest) == (0, None, None)
    assert found.rows == sum(partition.rows for partition in found.partitions) > 0
    assert found.bytes == sum(partition.bytes for partition in found.partitions) > 0
    assert {partition.marker for partition in found.partitions} == {"month", "default"}
    assert [partition.name for partition in found.partitions if partition.is_default] == [f"{table.name}_default"]
    this = month_start(server_clock(partitioned))
    assert partition_name(table.name, this) in {partition.name for partition in found.partitions}


def test_a_plain_a_missing_and_an_unmigrated_table_are_not_partitioned(make_application_db: MakeApplicationDb) -> None:
    for migrated in (True, False):
        with connect(make_application_db(rows=False, migrated=migrated)) as conn:
            found = status(conn)
            assert not found.partitioned
            assert found.bytes > 0
            assert found.partitions == ()
            assert not status(conn, MonthlyTable(QualifiedName("public", "no_such_table"), "at", "1 day")).partitioned


def test_a_table_attached_whole_awaits_its_split(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        convert_table(url, REPLAYS, split_now=False, now=server_clock(conn), progress=lambda _message, _fraction: None)
        found = status(conn, REPLAYS)
    assert (found.partitioned, found.split_pending, found.missing_months) == (True, True, ())
    assert [(partition.lower, partition.upper) for partition in found.partitions] == [(None, None)]


def test_missing_months(partitioned: Connection) -> None:
    this = month_start(server_clock(partitioned))
    gone = [add_months(this, 3), add_months(this, -1)]
    for month in gone:
        run_on(partitioned, "drop table {}", partition_name(BEHAVIOR.name, month))
    found = status(partitioned)
    assert set(found.missing_months) == {f"{month:%Y-%m}" for month in gone}
    assert found.months_ahead == 2
    rotate_all(partitioned)
    assert status(partitioned).missing_months == ()


def test_a_month_later_one_is_missing(partitioned: Connection) -> None:
    edge = add_months(month_start(server_clock(partitioned)), 1)
    assert status(partitioned, now=edge - timedelta(microseconds=1)).missing_months == ()
    assert status(partitioned, now=edge).missing_months == (f"{add_months(edge, 3):%Y-%m}",)


def test_expired_partitions(partitioned: Connection) -> None:
    set_policy(partitioned, BEHAVIOR, retention="2 months")
    oldest = sorted(months(partitioned, BEHAVIOR))
    found = status(partitioned)
    assert found.expired == tuple(partition_name(BEHAVIOR.name, month) for month in oldest[: MONTHS_BACK - 2])
    assert found.first_kept == oldest[MONTHS_BACK - 2]
    rotate_all(partitioned)
    assert status(partitioned).expired == ()


def test_the_default_partition_is_counted_with_its_range(partitioned: Connection) -> None:
    for moment in ("1970-01-01", "2099-12-31 23:59:59+00", "infinity", "-infinity", "20000-01-01"):
        insert_events(partitioned, BEHAVIOR, moment, session="skewed")
    found = status(partitioned)
    assert found.default_rows == 5
    assert found.default_oldest == datetime(1970, 1, 1, tzinfo=UTC)
    assert found.default_newest == datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("breakage", "complaint"),
    [
        ("grant select on event_partitions.user_behavior_events_default to anon", "_default anon SELECT"),
        (
            "grant truncate on event_partitions.user_behavior_events_default to public",
            "_default authenticated TRUNCATE",
        ),
        ("grant usage on schema event_partitions to authenticated", "schema event_partitions is open to authenticated"),
        ("grant usage on schema event_partitions to public", "schema event_partitions is open to anon"),
    ],
)
def test_exposure(partitioned: Connection, breakage: str, complaint: str) -> None:
    partitioned.execute(breakage.encode())
    assert any(line.endswith(complaint) for line in status(partitioned).exposed)


def test_exposure_of_one_column(partitioned: Connection) -> None:
    partitioned.execute("grant select (page_url) on event_partitions.user_behavior_events_default to anon")
    assert any("anon SELECT" in line for line in status(partitioned).exposed)


@pytest.mark.parametrize("create", ["create view recent", "create materialized view recent"])
def test_a_view_of_a_partition_is_stale(partitioned: Connection, create: str) -> None:
    partitioned.execute(f"{create} as table event_partitions.user_behavior_events_default".encode())
    assert status(partitioned).stale_dependents == ("recent reads event_partitions.user_behavior_events_default",)
    assert status(partitioned, REPLAYS).stale_dependents == ()
