"""Which rows are next, and their texts: read without a lock that outlasts the reading."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg import sql

from lifecycle.archive.layout import Layout
from lifecycle.archive.pace import Pace
from lifecycle.database import Connection, without_statement_timeout

# Of a group, not brought back by somebody, past its time, and behind the last row that was looked at.
DUE: Final = sql.SQL("""
       m.{time} < {cutoff}{behind}{group_stays}
   and m.{group} <> all (array(select r.group_key::{group_type} from lifecycle.restored_groups r
                                where r.archive_schema = {schema} and r.archive_table = {table} and r.until > %(now)s))
""")
# A group that began a short while ago keeps its rows, whatever their own time.
GROUP_STAYS: Final = sql.SQL("""
   and not exists (select from {groups} g where g.{groups_id} = m.{group} and g.{groups_time} >= %(groups_cutoff)s)
""")
# PostgreSQL's calendar begins in 4714 BC; before it lies only -infinity, which has no day of its own.
NEXT_DAYS: Final = sql.SQL("""
select d.day::text, greatest(d.day + interval '1 day', '4714-11-24 00:00+00 BC')::text
  from (select distinct date_trunc('day', n.at, 'UTC') as day
          from (select {instant} as at from {source} m where {due} order by m.{time}, m.{id} limit %(batch_size)s) n) d
 order by d.day
""")
# One text may be as large as thousands of others: the batch ends with the one that fills it.
READ: Final = sql.SQL("""
select b.at, b.place, b.id, b.grp{texts}
  from (select d.*, sum(d.bytes) over (order by d.row_at, d.id) - d.bytes as before
          from (select m.{time} as row_at, {instant}::text as at, m.{id}::text as place, m.{id} as id, m.{group} as grp,
                       {bytes} as bytes{columns}
                  from {source} m
                 where {due} and m.{time} < {end}
                   and date_trunc('day', {instant}, 'UTC') = any (%(days)s::timestamptz[])
                 order by m.{time}, m.{id} limit %(batch_size)s) d) b
 where b.before < %(batch_bytes)s order by b.row_at, b.id
""")
COUNT: Final = sql.SQL("select count(*) from (select from {source} m where {due} limit %(limit)s) due")


@dataclass(frozen=True)
class Place:
    """The last row that was looked at, in order of time: both as text, as Python knows no -infinity.

    Without an id: before the first row of that moment.
    """

    at: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Day:
    """A UTC day with rows that are due. `name` identifies it; `end` is where the next one begins."""

    name: str
    end: str


@dataclass(frozen=True)
class Row:
    """A row to move: its place, its key and its group as COPY writes them, and its texts in UTF-8."""

    place: Place
    id: bytes
    group: bytes
    texts: tuple[bytes | None, ...]


class Due:
    """What a run archives, as seen at `now`, and the queries for it; only what is late, with `late_by`."""

    def __init__(self, layout: Layout, now: datetime, pace: Pace, late_by: timedelta = timedelta()) -> None:
        self.layout, self.now, self.pace, self.late_by = layout, now, pace, late_by
        declared = layout.archive.declared
        texts = [sql.SQL("m.{}::text").format(sql.Identifier(column.name)) for column in layout.compressed]
        sizes = [sql.SQL("coalesce(octet_length({}), 0)").format(text) for text in texts]
        named = [sql.Identifier(f"text_{number}") for number in range(len(texts))]
        groups = {
            "groups": declared.groups.table.identifier,
            "groups_id": sql.Identifier(declared.groups.id),
            "groups_time": sql.Identifier(declared.groups.time or ""),
            "group": sql.Identifier(declared.group),
        }
        self._parts: dict[str, sql.Composable] = {
            "group_stays": GROUP_STAYS.format(**groups) if declared.groups.time else sql.SQL(""),
            "source": layout.archive.source.identifier,
            "time": sql.Identifier(declared.time),
            "id": sql.Identifier(declared.id),
            "group": sql.Identifier(declared.group),
            "group_type": layout.group_type,
            "schema": sql.Literal(declared.archive.schema),
            "table": sql.Literal(declared.archive.name),
            "instant": layout.instant,
            "cutoff": layout.moment(sql.Placeholder("cutoff")),
            "end": layout.moment(sql.Placeholder("end")),
            "bytes": sql.SQL(" + ").join(sizes) if sizes else sql.SQL("0"),
            "columns": sql.SQL("").join(
                sql.SQL(", {} as {}").format(text, name) for text, name in zip(texts, named, strict=True)
            ),
            "texts": sql.SQL("").join(sql.SQL(", convert_to(b.{}, 'UTF8')").format(name) for name in named),
        }

    def query(self, query: sql.SQL, place: Place) -> sql.Composed:
        """One of the queries above for what lies behind a place."""
        return query.format(**self._parts, due=DUE.format(**self._parts, behind=self._behind(place)))

    def _behind(self, place: Place) -> sql.Composable:
        if place.at is None:
            return sql.SQL("")
        at = self.layout.moment(sql.Placeholder("at"))
        if place.id is None:
            return sql.SQL(" and m.{time} >= {at}").format(**self._parts, at=at)
        return sql.SQL(" and (m.{time}, m.{id}) > ({at}, %(id)s::{key})").format(
            **self._parts, at=at, key=self.layout.key_type
        )

    def values(self, place: Place) -> dict[str, Any]:
        return {
            "now": self.now,
            "cutoff": self.now - self.layout.archive.keep_for - self.late_by,
            "groups_cutoff": self.now - self.layout.archive.keep_groups_for - self.late_by,
            "batch_size": self.pace.batch_size,
            "batch_bytes": self.pace.batch_bytes,
            "at": place.at,
            "id": place.id,
        }


def count_due(conn: Connection, due: Due, limit: int) -> int:
    """How many rows are due, counted no further than `limit`."""
    with without_statement_timeout(conn):
        found = conn.execute(due.query(COUNT, Place()), due.values(Place()) | {"limit": limit}).fetchone()
    return int(found[0]) if found else 0


def next_days(conn: Connection, due: Due, place: Place) -> tuple[Day, ...]:
    """The days of the next rows that are due behind `place`, as many as a batch takes; none at the end.

    In the caller's transaction, which is left without a lock on the table, as by `read_batch`.
    """
    with _without_locks(conn):
        return tuple(Day(*row) for row in conn.execute(due.query(NEXT_DAYS, place), due.values(place)).fetchall())


def read_batch(conn: Connection, due: Due, place: Place, days: Sequence[Day]) -> list[Row]:
    """The next rows of these days that are due behind `place`, oldest first.

    A SELECT with binary results: COPY hands out one row at a time, and asking for each costs more than the row. Its
    values are in the form that COPY reads, whatever their types are, so nothing is parsed.
    """
    values = due.values(place) | {"days": [day.name for day in days], "end": days[-1].end}
    with _without_locks(conn), conn.cursor(binary=True) as cursor:
        result = cursor.execute(due.query(READ, place), values).pgresult
        assert result is not None  # noqa: S101 - a SELECT has one
        get, last = result.get_value, 4 + len(due.layout.compressed)
        return [
            Row(
                Place((get(n, 0) or b"").decode(), (get(n, 1) or b"").decode()),
                get(n, 2) or b"",
                get(n, 3) or b"",
                tuple(get(n, column) for column in range(4, last)),
            )
            for n in range(result.ntuples)
        ]


def _without_locks(conn: Connection) -> AbstractContextManager[object]:
    """A savepoint that is rolled back, and what was locked behind it let go; the transaction keeps its claims.

    A transaction that only reads locks its tables until it ends; an ALTER TABLE would wait for it, and everybody else
    for the ALTER TABLE.
    """
    return conn.transaction(force_rollback=True)
