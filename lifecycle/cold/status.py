"""How the months of a table stand: in the database, in files, or on their way."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lifecycle.cold.due import MonthToMove, months_to_move
from lifecycle.cold.tables import ColdTable, narrow_name, thawed_name
from lifecycle.database import Connection, rows, value
from lifecycle.names import QualifiedName

MONTHS: Final = """
select f.month, count(*)::int, sum(f.rows)::bigint, sum(f.bytes)::bigint,
       (select sum(m.hot_bytes) from lifecycle.cold_moves m
         where m.schema_name = %(schema)s and m.table_name = %(table)s and m.month = f.month
           and m.state in ('committed', 'cleaned'))::bigint
  from lifecycle.cold_files f
 where f.state = 'live' and f.schema_name = %(schema)s and f.table_name = %(table)s group by f.month order by f.month
"""
HOT_BYTES: Final = """
select coalesce(sum(pg_total_relation_size(p.partition)), 0)::bigint
  from lifecycle.event_partitions_of(to_regclass(%s)) p
"""
# A partitioned table has no file of its own, and no other is in its own tree.
BYTES: Final = """
select pg_total_relation_size(r.oid)
       + coalesce((select sum(pg_total_relation_size(t.relid)) from pg_partition_tree(r.oid) t where t.level > 0), 0)
  from pg_class r where r.oid = to_regclass(%s)
"""
TO_REMOVE: Final = """
select count(*) from lifecycle.cold_files f
 where f.state in ('planned', 'stored', 'retired') and f.schema_name = %s and f.table_name = %s
"""
DANGLING: Final = """
select d.constraint_name, d.referenced, d.rows from lifecycle.cold_dangling d
 where d.schema_name = %s and d.table_name = %s order by 1
"""
RESTORED: Final = """
select r.month, r.hot_until from lifecycle.cold_restored r
 where r.schema_name = %s and r.table_name = %s and r.hot_until > %s order by 1
"""


@dataclass(frozen=True)
class ColdMonth:
    """A month in files: how many, its rows and bytes there, and the bytes that it took in the database with its indexes
    (0 where that is not known)."""

    month: datetime
    files: int
    rows: int
    bytes: int
    hot_bytes: int


@dataclass(frozen=True)
class Dangling:
    """Cold rows that point by a foreign key to rows of `referenced` that are gone, and stay as they are: the key does
    not say what becomes of them."""

    foreign_key: str
    referenced: str
    rows: int


@dataclass(frozen=True)
class ColdStatus:
    """One table: months in files, months that are due to leave, bytes of what is in the database.

    `hot_bytes` are its partitions; `held_bytes` what stays there of months in files: columns that views read, and rows
    that wait to go back.
    `thawed_rows` wait to go back into files; `to_remove` are objects that nobody reads and that the store may still
    have; `restored` are months that somebody brought back, each with the moment until which it stays. `dangling` is
    as of the last daily run.
    """

    table: ColdTable
    months: tuple[ColdMonth, ...]
    due: tuple[MonthToMove, ...]
    hot_bytes: int
    held_bytes: int
    thawed_rows: int
    to_remove: int
    restored: tuple[tuple[datetime, datetime], ...]
    dangling: tuple[Dangling, ...]

    @property
    def cold_bytes(self) -> int:
        return sum(month.bytes for month in self.months)

    @property
    def cold_rows(self) -> int:
        return sum(month.rows for month in self.months)

    @property
    def database_bytes(self) -> int:
        """All that the table takes in the database now."""
        return self.hot_bytes + self.held_bytes

    @property
    def bytes_before(self) -> int:
        """What the months that are in files took in the database."""
        return sum(month.hot_bytes for month in self.months)


def relation_bytes(conn: Connection, relation: QualifiedName) -> int:
    """What a table takes with its partitions and indexes; 0 where there is none."""
    return sum(int(size) for (size,) in rows(conn, BYTES, (str(relation),)))


def cold_status(conn: Connection, table: ColdTable, now: datetime) -> ColdStatus:
    """Read it from the manifest and the catalog; the store is not asked."""
    name = {"schema": table.relation.schema, "table": table.relation.name}
    known = (table.relation.schema, table.relation.name)
    months = rows(conn, MONTHS, name)
    thawed = thawed_name(table.relation)
    waits = value(conn, "select to_regclass(%s) is not null", (str(thawed),))
    return ColdStatus(
        table=table,
        months=tuple(
            ColdMonth(month.astimezone(UTC), files, count, size, hot or 0) for month, files, count, size, hot in months
        ),
        due=months_to_move(conn, table, now),
        hot_bytes=value(conn, HOT_BYTES, (str(table.relation),)),
        held_bytes=relation_bytes(conn, narrow_name(table.relation)) + relation_bytes(conn, thawed),
        thawed_rows=value(conn, f"select count(*) from {thawed}") if waits else 0,  # noqa: S608 - a quoted name
        to_remove=value(conn, TO_REMOVE, known),
        restored=tuple(
            (month.astimezone(UTC), until.astimezone(UTC)) for month, until in rows(conn, RESTORED, (*known, now))
        ),
        dangling=tuple(Dangling(*row) for row in rows(conn, DANGLING, known)),
    )
