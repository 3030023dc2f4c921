"""What every declaration has: frozen, without unknown keys, with a reason if somebody wants to give one."""

import difflib
import re
from datetime import date, timedelta
from typing import Annotated, Final
from zoneinfo import available_timezones

from psycopg import sql
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

UNITS: Final = ("minute", "hour", "day", "week", "month", "year")
EXAMPLE: Final = "write it as `90 days` or `1 year 6 months`"


def _checked_interval(text: str) -> str:
    """The text with single spaces; ValueError with the nearest unit where it is no length of time."""
    words = text.split()
    if not words or len(words) % 2:
        raise ValueError(f"{text!r} is no length of time: {EXAMPLE}")
    for amount, unit in zip(words[::2], words[1::2], strict=True):
        if not re.fullmatch("[1-9][0-9]*", amount):
            raise ValueError(f"{text!r}: {amount} is no whole number above zero; {EXAMPLE}")
        if unit.removesuffix("s") not in UNITS:
            plural = [f"{name}s" for name in UNITS]
            near = difflib.get_close_matches(unit, plural, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{text!r}: {unit} is no unit of time{meant} (known: {', '.join(plural)})")
    return " ".join(words)


# A length of time as PostgreSQL reads it. Months stay months: how long they are depends on when one asks.
Interval = Annotated[
    str,
    AfterValidator(_checked_interval),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^[1-9][0-9]* ({'|'.join(UNITS)})s?( [1-9][0-9]* ({'|'.join(UNITS)})s?)*$",
            "examples": ["90 days", "1 year 6 months"],
        }
    ),
]


def _checked_zone(text: str) -> str:
    """The text; ValueError with the nearest name where it names no time zone."""
    known = available_timezones()
    if text not in known:
        near = difflib.get_close_matches(text, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{text!r} is no time zone{meant} Write it as `Asia/Tokyo` or `UTC`")
    return text


# By its name in the database of time zones, which PostgreSQL has, too.
TimeZone = Annotated[str, AfterValidator(_checked_zone), WithJsonSchema({"type": "string"})]
# One identifier of a relation as it stands in the catalog, without quotes.
Column = Annotated[str, StringConstraints(min_length=1, max_length=63)]
FIXED_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}


class Declared(BaseModel):
    """Base of all declarations."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    why: str = Field(default="", description="the reason, for whoever reads the file or the generated pages")


class DeclaredObject(Declared):
    """Base of declarations about an object of the application."""

    optional: bool = Field(
        default=False,
        description="the application may lack it: `lifecycle check` does not report that it is missing",
    )


def interval(text: str) -> sql.Composed:
    """A declared length of time as SQL."""
    return sql.SQL("interval {}").format(sql.Literal(text))


def shortest_length(text: str) -> timedelta:
    """How long an interval is at least, whenever it ends; a month has 28 days, two have 59."""
    words = text.split()
    amounts = {unit.rstrip("s"): int(amount) for amount, unit in zip(words[::2], words[1::2], strict=True)}
    months = 12 * amounts.pop("year", 0) + amounts.pop("month", 0)
    rest = timedelta(seconds=sum(amount * FIXED_UNITS[unit] for unit, amount in amounts.items()))
    return rest + min(_first(start + months) - _first(start) for start in range(12))


def _first(month: int) -> date:
    """The first day of a month, counted from one behind a leap year."""
    return date(2001 + month // 12, month % 12 + 1, 1)


def fixed_length(text: str) -> timedelta:
    """The length of an interval without months and years; ValueError for one with them."""
    words = text.split()
    seconds = 0
    for amount, unit in zip(words[::2], words[1::2], strict=True):
        if unit.rstrip("s") not in FIXED_UNITS:
            raise ValueError(
                f"{text!r}: use minutes, hours, days or weeks here; a {unit.rstrip('s')} has no fixed length"
            )
        seconds += int(amount) * FIXED_UNITS[unit.rstrip("s")]
    return timedelta(seconds=seconds)
