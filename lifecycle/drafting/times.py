"""Which column of a table says when a row came, and how fast the table grows."""

import re
from typing import Final

from lifecycle.drafting.survey import Column, Relation, months_between, words
from lifecycle.units import size_text

TIMES: Final = re.compile(r"^(timestamp|date)\b(?!\[)")
MOMENT: Final = re.compile(r"^timestamp.* with time zone$")
NOW: Final = re.compile(
    r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp)\(\)|\b(CURRENT_TIMESTAMP|CURRENT_DATE|"
    r"LOCALTIMESTAMP)\b"
)
# Of a time that is no row's arrival.
OTHER_TIMES: Final = {
    "updated", "modified", "changed", "edited", "deleted", "expires", "expired", "expiry", "until", "valid", "start",
    "starts", "end", "ends", "ended", "due", "scheduled", "birth", "birthday", "next", "last", "completed", "finished",
    "closed", "archived", "confirmed", "processed", "reviewed", "approved", "published", "cancelled", "canceled",
    "read",
}  # fmt: skip
# Of the moment at which something happened, rather than that at which its row was written.
HAPPENED: Final = {"event", "occurred", "happened", "timestamp", "ts", "logged", "recorded", "captured", "received"}
CHANGED: Final = {"updated", "modified", "changed", "edited"}
# Fewer say nothing about a rate.
FEWEST_ROWS: Final = 100
FEWEST_MONTHS: Final = 0.1


def arrival(table: Relation) -> Column | None:
    """The column that most likely says when a row came; None where none does."""
    found = [(_weight(column), -place, column) for place, column in enumerate(table.columns) if _is_time(column)]
    best = max(found, key=lambda each: each[:2], default=None)
    return best[2] if best and best[0] > 0 else None


def _is_time(column: Column) -> bool:
    return bool(TIMES.match(column.type)) and not column.generated and not set(words(column.name)) & OTHER_TIMES


def _weight(column: Column) -> int:
    said = set(words(column.name))
    weight = 4 if said & HAPPENED else 2 if said & {"created", "inserted", "sent", "at", "time", "date"} else 0
    weight += 3 if NOW.search(column.default) else 0
    weight += 3 if column.not_null else -3
    return weight + (1 if MOMENT.match(column.type) else 0)


def is_rewritten(table: Relation) -> bool:
    """Whether its rows change after they came: it says so by a column, or the server has counted it."""
    if any(set(words(column.name)) & CHANGED and TIMES.match(column.type) for column in table.columns):
        return True
    return table.inserted >= 1000 and table.changed > table.inserted / 2


def size_of(table: Relation, time: Column | None) -> str:
    """Rows, bytes and growth in words; what the planner does not know yet is left out."""
    if table.rows is None:
        return f"{size_text(table.bytes)}, never analyzed"
    told = [f"about {_rounded(table.rows):,} rows", size_text(table.bytes)]
    if (rate := rows_a_month(table, time)) is not None:
        told.append(f"{_rounded(rate):,} rows a month")
    return ", ".join(told)


def rows_a_month(table: Relation, time: Column | None) -> float | None:
    """By the planner's statistics of the time column."""
    if time is None or not time.bounds or len(time.bounds) < 2 or (table.rows or 0) < FEWEST_ROWS:
        return None
    # A clock that was wrong makes the outermost ones as far away as it likes.
    last = len(time.bounds) - 1
    first, second = round(last * 0.1), round(last * 0.9)
    months = months_between(time.bounds[first], time.bounds[second])
    share = (second - first) / last
    return table.rows * share / months if table.rows and months and months > FEWEST_MONTHS else None


def _rounded(number: float) -> int:
    """Two digits are what an estimate is worth."""
    whole = round(number)
    places = max(len(str(whole)) - 2, 0)
    return round(whole, -places)
