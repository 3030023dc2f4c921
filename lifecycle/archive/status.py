"""How an archive stands: what is where, what is overdue, and whether texts can still be read. Counts only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import sql

from lifecycle.archive.batches import Due, count_due
from lifecycle.archive.layout import GZIP, SHA256, Archive, Layout
from lifecycle.archive.pace import PACE
from lifecycle.archive.text import unpack
from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.errors import VerificationError

SIZES: Final = "select pg_total_relation_size(to_regclass(%s)), pg_total_relation_size(to_regclass(%s))"
ESTIMATE: Final = "select c.reltuples::bigint from pg_class c where c.oid = to_regclass(%s)"
# By chance, and without reading the archive: rows of pages drawn at random.
SAMPLE: Final = sql.SQL("select {columns} from {archive} a tablesample system (%s) limit %s")
SAMPLED: Final = 200
# Pages hold many rows; too few of them would give too few rows.
SURPLUS: Final = 50
MONTHS: Final = sql.SQL("""
select to_char(c.month, 'YYYY-MM'), sum(c.live)::bigint, sum(c.archived)::bigint
  from (select date_trunc('month', {instant}, 'UTC') as month, count(*) as live, 0 as archived
          from {source} m where {instant} >= %(now)s - interval '2 years' and {instant} < 'infinity' group by 1
         union all
        select date_trunc('month', {instant}, 'UTC'), 0, count(*)
          from {archive} m where {instant} >= %(now)s - interval '2 years' and {instant} < 'infinity' group by 1) c
 group by c.month order by c.month
""")


@dataclass(frozen=True)
class Sizes:
    """Bytes of both tables with indexes and TOAST."""

    live: int
    archive: int


@dataclass(frozen=True)
class Sample:
    """Archived texts that were unpacked by chance, and how many of them were damaged."""

    read: int
    damaged: int


def table_sizes(conn: Connection, archive: Archive) -> Sizes:
    """How large both tables are now."""
    live, kept = rows(conn, SIZES, (str(archive.source), str(archive.declared.archive)))[0]
    return Sizes(live or 0, kept or 0)


def overdue_rows(conn: Connection, layout: Layout, now: datetime, limit: int = 1_000_000) -> int:
    """Rows that should have been archived a day ago, groups that were brought back left out; counted up to `limit`."""
    return count_due(conn, Due(layout, now, PACE, late_by=PACE.grace), limit)


def sample_archive(conn: Connection, layout: Layout, size: int = SAMPLED) -> Sample:
    """Unpack some archived texts, chosen by chance, and compare each with its checksum."""
    name = layout.archive.declared.archive
    parts = [
        sql.SQL("a.{}::text" if end == "" else "a.{}").format(sql.Identifier(column.name + end))
        for column in layout.compressed
        for end in ("", GZIP, SHA256)
    ]
    if not parts:
        return Sample(0, 0)
    estimate = value(conn, ESTIMATE, (str(name),)) or 0
    percent = min(100.0, 100.0 * SURPLUS * size / estimate) if estimate > 0 else 100.0
    with without_statement_timeout(conn):
        query = SAMPLE.format(columns=sql.SQL(", ").join(parts), archive=name.identifier)
        found = conn.execute(query, (percent, size)).fetchall()
    read = damaged = 0
    for row in found:
        for start in range(0, len(parts), 3):
            read += 1
            try:
                unpack(*row[start : start + 3])
            except VerificationError:
                damaged += 1
    return Sample(read, damaged)


def months(conn: Connection, layout: Layout, now: datetime) -> list[tuple[str, int, int]]:
    """Rows by month of the last two years: how many are live, how many archived."""
    query = MONTHS.format(
        instant=layout.instant,
        source=layout.archive.source.identifier,
        archive=layout.archive.declared.archive.identifier,
    )
    with without_statement_timeout(conn):
        return [(month, live, archived) for month, live, archived in conn.execute(query, {"now": now}).fetchall()]
