"""What became of every row that existed and every write that was acknowledged."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from benchmarks.clients import USER_AGENT
from benchmarks.load import LoadRecord
from lifecycle.database import connect_directly, rows

TEMPORARY: Final = """
create temp table acknowledged_inserts (id uuid);
create temp table acknowledged_updates (id uuid, version int)
"""
# Rows of the load by a scan: an index that lost a row would hide it here too.
FOUND: Final = """
create temp table found as
select id, (engagement ->> 'version')::int as version from user_behavior_events where user_agent = %s
"""
FIGURES: Final = """
select (select count(*) from user_behavior_events) - (select count(*) from found),
       (select count(*) from acknowledged_inserts a where not exists (select from found f where f.id = a.id)),
       (select count(*) - count(distinct id) from found),
       (select count(*) from acknowledged_updates a
         where not exists (select from found f where f.id = a.id and f.version >= a.version))
"""


@dataclass(frozen=True)
class Audit:
    """Rows lost or doubled, of those there before and of the load's, and acknowledged updates that left no trace."""

    lost: int
    doubled: int
    updates_lost: int


def audit(url: str, record: LoadRecord, before: int) -> Audit:
    """Compare the table with what the load was told; `before` is the number of rows ahead of the load."""
    last: dict[UUID, int] = {}
    for entry in sorted(record.writes, key=lambda entry: entry.done):
        if entry.kind == "update" and entry.rows == 1:
            last[entry.id] = entry.version
    with connect_directly(url, application_name="benchmark audit") as conn:
        conn.execute("set enable_indexscan = off")
        conn.execute("set enable_indexonlyscan = off")
        conn.execute("set enable_bitmapscan = off")
        conn.execute(TEMPORARY.encode())
        with conn.cursor().copy("copy acknowledged_inserts from stdin") as copy:
            for entry in record.writes:
                if entry.kind == "insert" and entry.error is None:
                    copy.write_row((entry.id,))
        with conn.cursor().copy("copy acknowledged_updates from stdin") as copy:
            for row in last.items():
                copy.write_row(row)
        conn.execute(FOUND.encode(), (USER_AGENT,))
        old, inserts_lost, inserts_doubled, updates_lost = rows(conn, FIGURES)[0]
    return Audit(
        lost=max(before - old, 0) + inserts_lost,
        doubled=max(old - before, 0) + inserts_doubled,
        updates_lost=updates_lost,
    )
