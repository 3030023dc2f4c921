"""How large every table is, day by day, and what grew since a week ago."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from lifecycle.database import Connection, rows, value, without_statement_timeout

RECORD: Final = "select relation, bytes, row_estimate from lifecycle.record_storage()"
LATEST: Final = "select max(measured_on) from lifecycle.storage_history"
# The nearest measurement on either side of a week earlier; of two at the same distance the older one.
COMPARED_WITH: Final = """
select measured_on from (
    (select measured_on from lifecycle.storage_history
      where measured_on <= %(latest)s::date - 7 order by measured_on desc limit 1)
     union all
    (select measured_on from lifecycle.storage_history
      where measured_on > %(latest)s::date - 7 and measured_on < %(latest)s::date order by measured_on limit 1)) near
 order by abs(%(latest)s::date - 7 - measured_on), measured_on limit 1
"""
# A relation that is new, or gone, counts with no bytes on the other day.
GROWTH: Final = """
select coalesce(n.relation, b.relation), coalesce(n.bytes, 0), coalesce(b.bytes, 0), coalesce(n.row_estimate, 0)
  from (select * from lifecycle.storage_history where measured_on = %(latest)s) n
  full join (select * from lifecycle.storage_history where measured_on = %(before)s) b using (relation)
 order by coalesce(n.bytes, 0) - coalesce(b.bytes, 0) desc, 2 desc, 1
"""
TOTALS: Final = """
select measured_on, sum(bytes)::bigint from lifecycle.storage_history
 where measured_on > %(latest)s::date - %(days)s group by measured_on order by measured_on
"""


@dataclass(frozen=True)
class RelationSize:
    """One table or materialized view with its indexes; `rows` is the planner's estimate."""

    relation: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class RelationGrowth:
    """The size of one relation now and on the day it is compared with."""

    relation: str
    bytes: int
    bytes_before: int
    rows: int

    @property
    def delta(self) -> int:
        return self.bytes - self.bytes_before

    @property
    def percent(self) -> float | None:
        """Growth in percent; None for a relation that was not there or empty."""
        return 100 * self.delta / self.bytes_before if self.bytes_before else None


@dataclass(frozen=True)
class StorageGrowth:
    """Every relation, the one that grew most first. `compared_with` is None when nothing was measured earlier."""

    measured_on: date | None
    compared_with: date | None
    relations: tuple[RelationGrowth, ...]

    @property
    def total(self) -> RelationGrowth:
        return RelationGrowth(
            "total",
            sum(relation.bytes for relation in self.relations),
            sum(relation.bytes_before for relation in self.relations),
            sum(relation.rows for relation in self.relations),
        )


def record_storage(conn: Connection) -> tuple[RelationSize, ...]:
    """Measure every table of the application and of ours, the largest first; again on the same UTC day replaces.

    Raises psycopg's LockNotAvailable when a table stays locked, UndefinedFunction before `lifecycle migrate`.
    """
    with without_statement_timeout(conn):
        return tuple(RelationSize(*row) for row in rows(conn, RECORD))


def storage_growth(conn: Connection) -> StorageGrowth:
    """The newest measurement against the one nearest to seven days before it."""
    latest = value(conn, LATEST)
    before = value(conn, COMPARED_WITH, {"latest": latest})
    growth = rows(conn, GROWTH, {"latest": latest, "before": before})
    return StorageGrowth(latest, before, tuple(RelationGrowth(*row) for row in growth))


def storage_totals(conn: Connection, days: int) -> tuple[tuple[date, int], ...]:
    """Bytes of all relations per measured day, the last `days` days up to the newest measurement."""
    return tuple((day, size) for day, size in rows(conn, TOTALS, {"latest": value(conn, LATEST), "days": days}))
