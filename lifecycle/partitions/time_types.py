"""Types of columns by which months can be told."""

import re
from typing import Final

from lifecycle.language import Phrase
from lifecycle.names import quoted
from lifecycle.partitions.tables import UTC_ZONE, MonthlyTable

WITH_ZONE: Final = "timestamp with time zone"
WITHOUT_ZONE: Final = "timestamp without time zone"
TIME_TYPES: Final = (WITH_ZONE, WITHOUT_ZONE, "date")


def _without_precision(found: str) -> str:
    return re.sub(r"\(\d\)", "", found)


def lacks_a_zone(table: MonthlyTable, found: str) -> bool:
    """Whether nobody said whose clock wrote a timestamp without time zone."""
    return _without_precision(found) == WITHOUT_ZONE and table.zone is None


def unfit_type(table: MonthlyTable, found: str) -> Phrase | None:
    """Why months cannot be told by a column of the type `found`, or not as it is declared, and the way out."""
    kind = _without_precision(found)
    if kind not in TIME_TYPES:
        return Phrase(
            "column {column} must be timestamptz, timestamp or date, and is {type}; name another one in"
            " event_tables.yaml, or change its type (ALTER TABLE {table} ALTER COLUMN {quoted} TYPE timestamptz ...)",
            column=table.time_column,
            type=found,
            table=table.qualified_name,
            quoted=quoted(table.time_column),
        )
    if lacks_a_zone(table, found):
        return Phrase(
            "column {column} is a timestamp without time zone; write into its entry in event_tables.yaml whose clock"
            " wrote it, such as zone: UTC",
            column=table.time_column,
        )
    if kind == WITH_ZONE and table.zone not in (None, UTC_ZONE):
        return Phrase(
            "column {column} is a timestamptz, whose months are those of UTC; take zone out of its entry in"
            " event_tables.yaml",
            column=table.time_column,
        )
    if kind != WITH_ZONE and table.cold_after:
        return Phrase(
            "column {column} is no timestamptz, by which files of cold months are read; take cold_after out of its"
            " entry in event_tables.yaml",
            column=table.time_column,
        )
    return None
