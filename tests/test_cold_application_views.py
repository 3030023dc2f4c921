"""Every view of the application says the same before and after each month that is due goes cold."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lifecycle.cold.plan import plan_cold_months
from lifecycle.cold.tables import cold_tables
from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from tests.cold import local_storage, move_all, with_cold_months
from tests.conftest import MakeApplicationDb
from tests.declared import EVENT_TABLES
from tests.kept import refresh_and_compare

# Columns whose value depends on the order of equal rows, or tells the second, say nothing here.
VIEWS = """
select format('%I.%I', n.nspname, c.relname), string_agg(quote_ident(a.attname), ', ' order by a.attnum)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join lifecycle.kept_views k on (k.schema_name, k.view_name) = (n.nspname, c.relname)
 where n.nspname = 'public' and c.relkind in ('v', 'm')
   and a.attname <> all (coalesce(k.unstable, '{}')) and a.attname not in ('last_checked', 'duration_minutes')
 group by 1 order by 1
"""


# No row leaves a window of whole days while a test runs.
NEAR_AN_EDGE = """
delete from {table} where abs(mod(extract(epoch from now() - {time})::numeric + 43200, 86400) - 43200) < 1800
"""
NOTED = "select count(*) from lifecycle.changed_rows where held <> '{}'"
TIMES = {
    "user_behavior_events": "event_timestamp",
    "business_metrics_events": "event_timestamp",
    "chat_messages": "created_at",
    "chat_sessions": "started_at",
}


def every_view(conn: Connection) -> dict[str, list[str]]:
    """The rows of every view, refreshed."""
    conn.execute("set timezone = 'UTC'")
    conn.execute("select refresh_analytics_hourly()")
    conn.execute("update lifecycle.kept_views set whole_due = 'test'")
    with conn.transaction():
        refresh_and_compare(conn)
    found = {}
    for view, columns in rows(conn, VIEWS):
        found[view] = sorted(text for (text,) in rows(conn, f"select row ({columns})::text from {view}"))
    return found


@pytest.mark.every_version
@pytest.mark.parametrize(
    ("cold_after", "far"), [("3 months", 6), pytest.param("4 months", 3, marks=pytest.mark.one_server)]
)
def test_every_view_of_the_application(
    make_application_db: MakeApplicationDb, tmp_path: Path, cold_after: str, far: int
) -> None:
    """Windows of 90 days look back further than three months are long at least; of four months they do not."""
    cold = with_cold_months(user_behavior_events=cold_after, business_metrics_events=cold_after)
    url = make_application_db(migrated=True)
    now = datetime.now(UTC)
    for each in EVENT_TABLES:
        convert_table(url, each, now=now, progress=lambda _message, _fraction: None)
    with connect(url) as conn:
        for name, time in TIMES.items():
            conn.execute(NEAR_AN_EDGE.format(table=name, time=time))
        before = every_view(conn)
        told = upgrade(url, cold).changes
        assert not [line for line in told if "does not see" in line or "stays as it is" in line], told
        assert every_view(conn) == before
        events, business = plan_cold_months(conn, cold, now)
        assert (len(events.readers), business.readers, events.refused, business.refused) == (far, (), (), ())
        noted = value(conn, NOTED)
        for table in cold_tables(cold):
            moved = move_all(url, local_storage(tmp_path), table)
            assert sum(month.rows for month in moved) > 0
        assert value(conn, NOTED) == noted
        assert every_view(conn) == before
