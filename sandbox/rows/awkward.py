"""Moments and texts that break careless code: skewed clocks, edges of months, odd pages, shared sessions."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from sandbox.rows.world import World

MICROSECOND: Final = timedelta(microseconds=1)
TOKYO: Final = ZoneInfo("Asia/Tokyo")
ODD_PAGES: Final = ("", "/ja/体験/越前漆器?席=窓際&名=山田", "/tab\there", "/back\\slash", "/new\nline", "/🦖" * 40)
# A device that several people use keeps its session name.
SHARED_SESSIONS: Final = tuple(f"sess_1700000000000_shared{number:03d}" for number in range(3))


def month_start(moment: datetime, months_back: int) -> datetime:
    """Start of the month, in the zone of `moment`, that lies `months_back` before it."""
    number = moment.year * 12 + moment.month - 1 - months_back
    return moment.replace(year=number // 12, month=number % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)


def month_edges(world: World, months_back: tuple[int, ...]) -> Iterator[datetime]:
    """The start of each month in UTC and in Tokyo, one microsecond before it, and one after it."""
    for months in months_back:
        for zone in (UTC, TOKYO):
            edge = month_start(world.now.astimezone(zone), months).astimezone(UTC)
            yield from (edge - MICROSECOND, edge, edge + MICROSECOND)


def skewed(world: World) -> Iterator[datetime]:
    """Clocks that are wrong by years in both directions; none when the world leaves them out."""
    if world.skewed_clocks:
        yield datetime(1970, 1, 1, tzinfo=UTC)
        yield datetime(1970, 1, 1, 9, 0, 0, 1, tzinfo=UTC)
        yield datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
        yield world.now + timedelta(days=3 * 365)
        yield world.now + timedelta(days=10 * 365 + 0.25)


def moments(world: World, months_back: tuple[int, ...]) -> Iterator[datetime]:
    """All awkward moments, and a clock that is ten minutes ahead."""
    yield from month_edges(world, months_back)
    yield from skewed(world)
    yield world.now + timedelta(minutes=10)
