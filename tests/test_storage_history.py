"""What the database weighs: measured once a day, kept for a year, compared with a week ago."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.review.report import report_content
from lifecycle.review.storage import RelationGrowth, StorageGrowth, record_storage, storage_growth
from lifecycle.review.weekly import weekly_review
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES

pytestmark = pytest.mark.one_server

pytest_plugins = ("tests.partitioned_fixtures",)

NINE = datetime(2026, 11, 23, 9, tzinfo=ZoneInfo("Asia/Tokyo"))
MEASURED = "insert into lifecycle.storage_history values (%s, %s, %s, %s)"


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """An autocommit session in a migrated database whose only row is one account."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        session.execute("insert into accounts (id) values (gen_random_uuid())")
        yield session


def test_sizes_of_partitions_are_summed_and_views_are_measured(partitioned: Connection) -> None:
    sizes = {size.relation: size for size in record_storage(partitioned)}
    for table in EVENT_TABLES:
        summed = value(
            partitioned,
            "select sum(pg_total_relation_size(inhrelid)) from pg_inherits where inhparent = %s::regclass",
            (table.qualified_name,),
        )
        assert sizes[table.qualified_name].bytes == summed > 0
    assert not [name for name in sizes if name.startswith("event_partitions.")]
    assert {"public.top_search_keywords", "public.accounts", "lifecycle.storage_history"} <= set(sizes)
    assert not {name for name in sizes if value(partitioned, "select to_regclass(%s) is null", (name,))}


def test_measured_once_per_day_and_kept_400_days(conn: Connection) -> None:
    today = value(conn, "select (now() at time zone 'UTC')::date")
    conn.execute(MEASURED, (today - timedelta(days=400), "public.kept", 1, 1))
    conn.execute(MEASURED, (today - timedelta(days=401), "public.gone", 1, 1))
    conn.execute(MEASURED, (today, "public.dropped_at_noon", 1, 1))
    conn.execute("set timezone = 'Pacific/Kiritimati'")
    first = record_storage(conn)
    conn.execute("insert into accounts (id) select gen_random_uuid() from generate_series(1, 5000)")
    again = record_storage(conn)
    stored = rows(conn, "select relation, bytes from lifecycle.storage_history where measured_on = %s", (today,))
    assert dict(stored) == {size.relation: size.bytes for size in again}
    assert len(first) == len(again)
    before, after = (next(s.bytes for s in sizes if s.relation == "public.accounts") for sizes in (first, again))
    assert after > before
    assert [
        row[0] for row in rows(conn, "select relation from lifecycle.storage_history where measured_on < %s", (today,))
    ] == ["public.kept"]
    assert value(conn, "select count(*) from audit_events where entity_id = 'record_storage'") == 2


def test_measuring_gives_up_behind_a_lock(conn: Connection) -> None:
    with psycopg.connect(conn.info.dsn, password=conn.info.password) as other:
        other.execute("lock table accounts in access exclusive mode")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            record_storage(conn)
    assert value(conn, "select count(*) from lifecycle.storage_history") == 0
    assert record_storage(conn)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_api_reaches_none_of_it(make_application_db: MakeApplicationDb, role: str, auto_grant: bool) -> None:
    with connect(make_application_db(rows=False, auto_grant=auto_grant, migrated=True)) as conn:
        for privilege in ("select", "insert", "update", "delete", "truncate"):
            closed = "select has_table_privilege(%s, 'lifecycle.storage_history', %s)"
            assert not value(conn, closed, (role, privilege))
        assert not value(conn, "select has_function_privilege(%s, 'lifecycle.record_storage()', 'execute')", (role,))


def test_growth_against_the_measurement_nearest_to_a_week_ago(conn: Connection) -> None:
    latest = date(2026, 11, 23)
    assert storage_growth(conn) == StorageGrowth(None, None, ())
    conn.execute(MEASURED, (latest, "public.a", 300, 3))
    conn.execute(MEASURED, (latest, "public.new", 50, 5))
    first = storage_growth(conn)
    assert (first.compared_with, first.total.bytes) == (None, 350)
    assert any("no comparison yet" in line for line in report_content(weekly_review(conn, APPLICATION, NINE))["lines"])
    days = [1, 8, 9, 20]
    for distance in days:
        conn.execute(MEASURED, (latest - timedelta(days=distance), "public.a", 100 + distance, 1))
    conn.execute(MEASURED, (latest - timedelta(days=8), "public.gone", 30, 1))
    growth = storage_growth(conn)
    assert growth.compared_with == latest - timedelta(days=8)
    assert growth.relations == (
        RelationGrowth("public.a", 300, 108, 3),
        RelationGrowth("public.new", 50, 0, 5),
        RelationGrowth("public.gone", 0, 30, 0),
    )
    assert (growth.total.delta, growth.relations[1].percent) == (350 - 138, None)
    conn.execute(MEASURED, (latest - timedelta(days=6), "public.a", 1, 1))
    assert storage_growth(conn).compared_with == latest - timedelta(days=8)
    conn.execute(MEASURED, (latest - timedelta(days=7), "public.a", 1, 1))
    assert storage_growth(conn).compared_with == latest - timedelta(days=7)
