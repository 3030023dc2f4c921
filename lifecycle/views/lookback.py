"""How far a definition looks back: which SELECTs keep to rows that are younger than a length of time.

What is not understood is taken to read everything.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sqlglot import exp

from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from lifecycle.views.definition import parse_definition

# Midnights differ from zone to zone.
A_DAY: Final = timedelta(days=1)
# The longest that each may be.
UNITS: Final = {
    "day": timedelta(days=1),
    "mon": timedelta(days=31),
    "year": timedelta(days=366),
}
TRUNCATED: Final = {
    "MINUTE": timedelta(0),
    "HOUR": timedelta(0),
    # Like a date: the day that is kept anyway.
    "DAY": timedelta(0),
    "WEEK": timedelta(days=6),
    "MONTH": timedelta(days=31),
}
PART: Final = re.compile(r"(\d+) (day|mon|year)s?|(\d+):(\d\d):(\d\d)")
# A join that shows rows of its other side, matched or not, shows none more of this table for its condition.
KEEPS_TO_ITS_CONDITION: Final = ("", "LEFT")


def keeps_within(definition: str, table: QualifiedName, time: str, age: timedelta) -> bool:
    """Whether each SELECT that reads the table keeps to rows whose `time` is `age` ago at most, less a day."""
    try:
        tree = parse_definition(definition)
    except RefusedError:
        return False
    seen = 0
    for select in tree.find_all(exp.Select):
        sources = list(tables_of(select))
        for source in sources:
            if names(source, table):
                if not looks_back_less(select, source.alias_or_name, time, age):
                    return False
                seen += 1
    return 0 < seen == sum(names(source, table) for source in tree.find_all(exp.Table))


def names(source: exp.Table, table: QualifiedName) -> bool:
    """Whether a reference, with its schema, means the table."""
    return (source.db, source.name) == (table.schema, table.name)


def tables_of(select: exp.Select) -> Iterator[exp.Table]:
    """The tables that a SELECT reads itself."""
    for source in _sources(select):
        if isinstance(source.this, exp.Table):
            yield source.this


def _sources(select: exp.Select) -> Iterator[exp.Expr]:
    start = select.args.get("from_") or select.args.get("from")
    yield from (source for source in (start, *(select.args.get("joins") or ())) if source is not None)


def conditions(select: exp.Select) -> Iterator[exp.Expr]:
    """What holds of every row of the SELECT: its WHERE, part by part."""
    where = select.args.get("where")
    if where is not None:
        yield from parts(where.this)


def parts(condition: exp.Expr) -> Iterator[exp.Expr]:
    """What a condition is made of by AND."""
    body = condition.unnest()
    if isinstance(body, exp.And):
        yield from parts(body.left)
        yield from parts(body.right)
    else:
        yield body


def looks_back_less(select: exp.Select, alias: str, time: str, age: timedelta) -> bool:
    """Whether a SELECT keeps to rows of one of its tables whose `time` is less than `age` ago, by more than a day."""
    # PostgreSQL prints a column without its table where there is only one.
    alone = len(list(_sources(select))) == 1
    known = ("", alias) if alone else (alias,)
    for part in (*conditions(select), *_own_condition(select, alias)):
        if isinstance(part, exp.GTE | exp.GT):
            column, since = part.left.unnest(), part.right.unnest()
        elif isinstance(part, exp.LTE | exp.LT):
            column, since = part.right.unnest(), part.left.unnest()
        else:
            continue
        if isinstance(column, exp.Column) and column.table in known and column.name == time:
            back = _back(since)
            if back is not None and back + A_DAY < age:
                return True
    return False


def _own_condition(select: exp.Select, alias: str) -> Iterator[exp.Expr]:
    for join in select.args.get("joins") or ():
        on = join.args.get("on")
        if on is not None and join.this.alias_or_name == alias and join.side in KEEPS_TO_ITS_CONDITION:
            yield from parts(on)


def _back(since: exp.Expr) -> timedelta | None:
    """How long before the present a moment is at most, midnights aside; None where nobody knows."""
    since = since.unnest()
    if isinstance(since, exp.CurrentDate | exp.CurrentTimestamp):
        return timedelta(0)
    if isinstance(since, exp.Cast) and since.to.is_type(*exp.DataType.TEMPORAL_TYPES):
        return _back(since.this)
    if isinstance(since, exp.TimestampTrunc | exp.DateTrunc):
        unit = since.args["unit"]
        word = unit.this if isinstance(unit, exp.Cast) else unit
        within, more = _back(since.this), TRUNCATED.get(word.name.upper())
        return None if within is None or more is None else within + more
    if isinstance(since, exp.Sub):
        start, length = _back(since.left), _length(since.right.unnest())
        return None if start is None or length is None else start + length
    return None


def _length(interval: exp.Expr) -> timedelta | None:
    """How long an interval as PostgreSQL prints it is at most, or a number of days; None for anything else."""
    text = interval.this if isinstance(interval, exp.Cast) else interval
    if isinstance(text, exp.Interval):
        text = text.this
    if not isinstance(text, exp.Literal):
        return None
    if not text.is_string:
        return timedelta(days=int(text.name)) if text.name.isdigit() else None
    if not re.fullmatch(f"({PART.pattern})( ({PART.pattern}))*", text.name):
        return None
    found = timedelta()
    for count, unit, hours, minutes, seconds in PART.findall(text.name):
        found += int(count) * UNITS[unit] if unit else timedelta(
            hours=int(hours), minutes=int(minutes), seconds=int(seconds)
        )  # fmt: skip
    return found
