"""Heavy jobs work a declared share of the time: they sleep between their transactions, never in one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf
from typing import Final
from zoneinfo import ZoneInfo

from lifecycle.declarations.application import Application


class Pacing:
    """Sleeps after each piece of work, as long as the share asks for that is right by then."""

    def __init__(
        self,
        share: Callable[[], float] = lambda: 1.0,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share, self._sleep, self._clock = share, sleep, clock

    @contextmanager
    def work(self, longest_rest: float = inf) -> Iterator[None]:
        """A piece of work; no transaction is open when the block ends. Work that failed is not rested from.

        `longest_rest` in seconds: for whoever holds something that others wait for.
        """
        started = self._clock()
        yield
        worked = self._clock() - started
        if (rest := min(worked * (1 / self._share() - 1), longest_rest)) > 0:
            self._sleep(rest)


# What nobody declared changes nothing.
UNPACED: Final = Pacing()


def quiet_now(application: Application, now: datetime) -> bool:
    """Whether the clock of the declared calendar stands in quiet hours."""
    here = now.astimezone(ZoneInfo(application.database.calendar))
    return application.operations.is_quiet(here.time())


def share_of(application: Application, job: str, now: datetime) -> float:
    """The share of the time that a job may work at this hour."""
    operations = application.operations
    if job not in operations.heavy_jobs:
        return 1.0
    pace = operations.pace
    return min(pace.busy_share, pace.in_quiet_hours if quiet_now(application, now) else 1.0)


def pacing_of(application: Application, job: str) -> Pacing:
    """The declared pace of a job, which looks at the clock after each piece of work."""
    return Pacing(lambda: share_of(application, job, datetime.now(UTC)))
