"""Call the database function that rotates, one table in one transaction, and read what it did."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.partitions.tables import MonthlyTable

ROTATE = """
select table_name, action, partition_name, row_count, bytes, outcome, error
  from public.rotate_event_partitions(coalesce(%s::timestamptz, now()), %s)
"""


# How the database function begins the message about a lock that stayed taken.
NO_LOCK = "no lock on"


@dataclass(frozen=True)
class RotationAction:
    """One thing that rotation did. `rows` of a dropped partition is the planner's estimate."""

    table_name: str
    action: Literal["create", "drop", "move", "purge", "unchanged", "skipped"]
    partition: str | None
    rows: int
    bytes: int
    outcome: Literal["success", "failure"]
    error: str | None

    @property
    def busy(self) -> bool:
        """Whether a lock stayed taken: the only failure that another try can cure."""
        return self.outcome == "failure" and (self.error or "").startswith(NO_LOCK)


def rotate(conn: Connection, table: MonthlyTable, as_of: datetime | None = None) -> tuple[RotationAction, ...]:
    """Create months ahead, drop months past retention, empty the default partition of one table.

    A failure is a row with outcome `failure`, already written to the ledger. Raises psycopg's LockNotAvailable when
    another rotation runs, UndefinedFunction before `lifecycle migrate`.
    """
    with without_statement_timeout(conn):
        return tuple(RotationAction(*row) for row in rows(conn, ROTATE, (as_of, table.qualified_name)))
