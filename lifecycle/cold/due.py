"""Which months are old enough to leave the database."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lifecycle.cold.tables import ColdTable
from lifecycle.database import Connection, rows

DUE: Final = """
select d.month, d.name, d.bytes
  from lifecycle.event_table_policies p cross join lateral lifecycle.months_to_move(p, %s) d
 where p.schema_name = %s and p.table_name = %s
"""


@dataclass(frozen=True)
class MonthToMove:
    """A partition that is old enough to leave, with its size (bytes, indexes included)."""

    month: datetime
    partition: str
    bytes: int


def months_to_move(conn: Connection, table: ColdTable, now: datetime) -> tuple[MonthToMove, ...]:
    """The table's partitions that are old enough, the oldest first."""
    return tuple(MonthToMove(*row) for row in rows(conn, DUE, (now, table.relation.schema, table.relation.name)))
