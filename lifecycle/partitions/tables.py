"""Event tables as conversion and rotation take them: a declaration with its name, and the names made from it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from lifecycle.declarations.application import Application
from lifecycle.declarations.event_tables import EventTable
from lifecycle.names import LONGEST, QualifiedName

PARTITION_SCHEMA: Final = "event_partitions"
# The schema whose tables lend their partitions the bare name.
PLAIN_SCHEMA: Final = "public"
# The longest of what is put behind a stem: `_before_2025_11`. PostgreSQL would cut the end off.
LONGEST_STEM: Final = LONGEST - 15
HASH_DIGITS: Final = 12
UTC_ZONE: Final = "UTC"


def stem(table: QualifiedName) -> str:
    """What the names of the table's partitions begin with; no two tables have the same.

    The table's name; `schema.name` outside of schema public. What is too long for that, or could be taken for another
    table's (a dot of its own, an end that we give), is cut and ends in `..` and a hash.
    """
    text = table.name if table.schema == PLAIN_SCHEMA else f"{table.schema}.{table.name}"
    ambiguous = "." in table.schema or "." in table.name or table.name.endswith(("_before", "_narrow"))
    if not ambiguous and len(text.encode()) <= LONGEST_STEM:
        return text
    tail = ".." + hashlib.sha256(f"{table.schema}\0{table.name}".encode()).hexdigest()[:HASH_DIGITS]
    head = text.replace(".", "_").encode()[: LONGEST_STEM - len(tail)].decode(errors="ignore")
    return head + tail


@dataclass(frozen=True)
class MonthlyTable:
    """A declared event table with its name; `retention` and `cold_after` are PostgreSQL intervals.

    `zone` is that of a time without one.
    """

    relation: QualifiedName
    time_column: str
    retention: str
    months_ahead: int = 3
    reason: str = ""
    accept_no_realtime: bool = False
    cold_after: str | None = None
    zone: str | None = None

    def clock(self, now: datetime) -> datetime:
        """What the clock that writes the time column shows at `now`, as if it were one of UTC.

        Months, bounds and rows of a time without zone are all told so: nothing is converted, only the present is.
        """
        return now.astimezone(ZoneInfo(self.zone or UTC_ZONE)).replace(tzinfo=UTC)

    @property
    def schema(self) -> str:
        return self.relation.schema

    @property
    def name(self) -> str:
        return self.relation.name

    @property
    def qualified_name(self) -> str:
        """As PostgreSQL prints it."""
        return str(self.relation)

    @property
    def stem(self) -> str:
        return stem(self.relation)


def monthly_table(relation: QualifiedName, declared: EventTable) -> MonthlyTable:
    """A declaration with its name."""
    return MonthlyTable(
        relation=relation,
        time_column=declared.time,
        retention=declared.keep,
        months_ahead=declared.months_ahead,
        reason=declared.why,
        accept_no_realtime=declared.accept_no_realtime,
        cold_after=declared.cold_after,
        zone=declared.zone,
    )


def monthly_tables(application: Application) -> tuple[MonthlyTable, ...]:
    """All declared event tables, as the file names them one after the other."""
    return tuple(monthly_table(relation, declared) for relation, declared in application.event_tables.items())


def named_table(tables: Iterable[MonthlyTable], name: str) -> MonthlyTable:
    """One of `tables` by schema.name, or by its bare name where only one has it; KeyError names the known tables."""
    tables = tuple(tables)
    found = [table for table in tables if name == table.qualified_name] or [
        table for table in tables if name == table.name
    ]
    if len(found) == 1:
        return found[0]
    known = ", ".join(table.qualified_name for table in tables) or "none"
    what = f"{name!r} can be any of several event tables" if found else f"no event table named {name!r}"
    raise KeyError(f"{what}; known: {known}")
