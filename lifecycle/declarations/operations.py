"""operations.yaml: which jobs are heavy, when they keep out of the way, and how much of the time they work."""

import re
from datetime import time, timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lifecycle.declarations.model import Declared, Interval, fixed_length

EXAMPLE: Final = 'write it as "08:00-10:00", in quotes'
# What links to a run, or has still to tell how it ended, may be a week late.
SHORTEST_KEPT: Final = timedelta(days=14)
CLOCK: Final = r"([01]\d|2[0-3]):[0-5]\d"


def _checked_keep(text: str) -> str:
    """The text; ValueError where it is shorter than what is still needed of a run."""
    if fixed_length(text) < SHORTEST_KEPT:
        raise ValueError(f"{text!r} is too short: name at least {SHORTEST_KEPT.days} days")
    return text


def _checked_hours(text: str) -> str:
    """The text; ValueError where it is no part of a day."""
    first, dash, last = text.partition("-")
    if not dash:
        raise ValueError(f"{text!r} is no part of a day: {EXAMPLE}")
    for moment in (first, last):
        if not re.fullmatch(CLOCK, moment):
            raise ValueError(f"{text!r}: {moment} is no time between 00:00 and 23:59; {EXAMPLE}")
    if first == last:
        raise ValueError(f"{text!r} ends when it begins: {EXAMPLE}")
    return text


# A part of each day; one that ends before it begins ends on the next day.
Hours = Annotated[
    str,
    AfterValidator(_checked_hours),
    WithJsonSchema({"type": "string", "pattern": f"^{CLOCK}-{CLOCK}$", "examples": ["08:00-10:00", "22:00-01:00"]}),
]
KeptRuns = Annotated[Interval, AfterValidator(_checked_keep)]
Share = Annotated[float, Field(gt=0, le=1)]


class Pace(Declared):
    """How much of the time a heavy job works; the rest it sleeps, between its transactions and never in one."""

    busy_share: Share = Field(default=1.0, description="at any hour")
    in_quiet_hours: Share = Field(default=1.0, description="in quiet hours, where that is less")


class StoragePrices(Declared):
    """What a GB (10^9 bytes) costs a month, where the database stands and where cold months stand."""

    database: Annotated[float, Field(ge=0)] = Field(description="a GB of the database's disk")
    cold: Annotated[float, Field(ge=0)] = Field(description="a GB in the store of cold months")
    currency: str = "USD"


class Operations(Declared):
    """Which jobs are heavy, when they keep out of the way, and how much of the time they work."""

    heavy_jobs: tuple[str, ...] = Field(default=(), description="names of jobs; only these are held back and paced")
    quiet_hours: tuple[Hours, ...] = Field(
        default=(),
        description="parts of the day, in the declared calendar, in which no schedule starts a heavy job",
    )
    pace: Pace = Field(default_factory=Pace, description="of heavy jobs that are under way")

    keep_runs: KeptRuns = Field(
        default="30 days",
        description="how long Dagster keeps a run that ended, with its events and logs; the ledger keeps how it ended",
    )

    prices: StoragePrices | None = Field(
        default=None, description="of storage; the cold months' assets and the weekly review tell what it costs"
    )

    @model_validator(mode="after")
    def _some_hour_is_left(self) -> Self:
        if all(self.is_quiet(time(minute // 60, minute % 60)) for minute in range(24 * 60)):
            raise ValueError("quiet_hours fill the whole day: no heavy job would ever start. Leave some hours out")
        return self

    def is_quiet(self, moment: time) -> bool:
        """Whether a time of day, in the declared calendar, lies in quiet hours."""
        clock = f"{moment:%H:%M}"
        for hours in self.quiet_hours:
            first, _, last = hours.partition("-")
            if first <= clock < last if first < last else clock >= first or clock < last:
                return True
        return False
