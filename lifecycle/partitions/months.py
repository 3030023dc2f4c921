"""Months in UTC: the arithmetic of partition bounds and names. Pure; no clock, no database."""

from datetime import UTC, date, datetime

from psycopg import sql


def stated(moment: date) -> datetime:
    """A moment of a time column as bounds are told: one without time zone, or a date, as if it were of UTC."""
    if not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def bound(month: datetime) -> sql.Literal:
    """A bound in the type of what it is compared with: a cast would keep PostgreSQL from proving a CHECK by it."""
    return sql.Literal(month.isoformat())


def month_start(moment: datetime) -> datetime:
    """The first instant (UTC) of the month that holds `moment`, which must carry a time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a moment without time zone belongs to no UTC month: {moment!r}")
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def add_months(month: datetime, count: int) -> datetime:
    """The first instant of the month `count` months after the one that `month` starts."""
    index = month.year * 12 + month.month - 1 + count
    return month.replace(year=index // 12, month=index % 12 + 1)


def month_range(first: datetime, last: datetime) -> list[datetime]:
    """All months from `first` to `last`, both inclusive; empty when `last` is before `first`."""
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    return [add_months(first, offset) for offset in range(count)]


def partition_name(stem: str, month: datetime) -> str:
    """`visits_2025_11` for November 2025."""
    return f"{stem}_{month:%Y_%m}"


def before_name(stem: str, month: datetime) -> str:
    """The name of the one partition that holds everything before `month`."""
    return f"{stem}_before_{month:%Y_%m}"
