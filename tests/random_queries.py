"""Random queries over three small tables, and random changes of these, for whoever believes to know what a query reads.

Every query gives three numbers k, x and y and says the same of equal rows, in whichever order they are read.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

TABLES = ("a", "b", "c")
COLUMNS = ("k", "x", "y")
SCHEMA = "".join(f"create table kt.{table} (id int primary key, k int, x int, y int);" for table in TABLES)
Draw = Callable[[st.SearchStrategy[Any]], Any]

NUMBERS = st.one_of(st.none(), st.integers(0, 2))
ROWS = st.tuples(NUMBERS, NUMBERS, NUMBERS)
CHANGES = st.tuples(st.sampled_from(TABLES), st.sampled_from(("insert", "update", "delete")), st.integers(0, 4), ROWS)


def _chance(draw: Draw, percent: int) -> bool:
    return bool(draw(st.integers(0, 99)) < percent)


def _column(draw: Draw, aliases: list[str]) -> str:
    return f"{draw(st.sampled_from(aliases))}.{draw(st.sampled_from(COLUMNS))}"


def _condition(draw: Draw, left: list[str], right: list[str]) -> str:
    """Mostly an equality of two columns."""
    same = draw(st.sampled_from(COLUMNS))
    one = f"{draw(st.sampled_from(left))}.{same}" if _chance(draw, 60) else _column(draw, left)
    other = f"{draw(st.sampled_from(right))}.{same}" if _chance(draw, 60) else _column(draw, right)
    equal = f"{one} = {other}"
    kind = draw(st.integers(0, 19))
    if kind < 13:
        return equal
    if kind < 16:
        return f"{equal} and {_condition(draw, left, right)}"
    more = (f"{one} < {other}", f"({equal} or {one} is null)", f"{one} = 1", f"{one} is not distinct from {other}")
    return more[kind - 16]


def _source(draw: Draw, depth: int) -> str:
    kind = draw(st.integers(0, 9))
    if depth > 0 and kind < 4:
        return f"({query(draw, depth - 1)})"
    return f"kt.{draw(st.sampled_from(TABLES))}"


def _from(draw: Draw, depth: int, prefix: str) -> tuple[str, list[str]]:
    text = f"{_source(draw, depth)} {prefix}0"
    aliases = [f"{prefix}0"]
    for place in range(1, 1 + draw(st.sampled_from((0, 1, 1, 1, 2, 2)))):
        alias = f"{prefix}{place}"
        kind = draw(
            st.sampled_from(("join",) * 4 + ("left join",) * 4 + ("right join", "full join", "lateral", "using"))
        )
        if kind == "lateral":
            inner, names = _from(draw, 0, f"{prefix}l{place}_")
            where = _condition(draw, names, aliases)
            text += f" left join lateral (select {_aggregates(draw, names)} from {inner} where {where}) {alias} on true"
        elif kind == "full join":
            text += f" full join {_source(draw, depth)} {alias} on {_column(draw, aliases)} = {_column(draw, [alias])}"
        elif kind == "using":
            text += f" left join {_source(draw, depth)} {alias} on {aliases[0]}.k = {alias}.k"
        else:
            text += f" {kind} {_source(draw, depth)} {alias} on {_condition(draw, aliases, [alias])}"
        aliases.append(alias)
    return text, aliases


def _aggregates(draw: Draw, aliases: list[str]) -> str:
    column = _column(draw, aliases)
    return f"count(*)::int as k, max({column}) as x, count(distinct {column})::int as y"


def _subquery(draw: Draw, aliases: list[str], prefix: str) -> str:
    """One number, computed for each row outside."""
    inner, names = _from(draw, 0, f"{prefix}s")
    return f"(select count({_column(draw, names)})::int from {inner} where {_condition(draw, names, aliases)})"


def _select(draw: Draw, depth: int) -> str:
    prefix = draw(st.sampled_from(("t", "u")))
    text, aliases = _from(draw, depth, prefix)
    where = ""
    if _chance(draw, 30):
        where = f" where {_condition(draw, aliases, aliases)}"
    elif _chance(draw, 20):
        inner, names = _from(draw, 0, f"{prefix}e")
        negated = draw(st.sampled_from(("", "not ")))
        where = f" where {negated}exists (select 1 from {inner} where {_condition(draw, names, aliases)})"
    key, other, third = (_column(draw, aliases) for _ in range(3))
    kind = draw(st.integers(0, 15))
    if kind < 4:
        having = f" having count(*) > {_subquery(draw, [key.split('.')[0]], prefix)}" if _chance(draw, 0) else ""
        return f"select {key} as k, count(*)::int as x, max({other}) as y from {text}{where} group by {key}{having}"
    if kind < 6:
        return f"select {key} as k, {other} as x, sum({third})::int as y from {text}{where} group by {key}, {other}"
    if kind < 9:
        part = draw(st.sampled_from((key, key, other, f"{key}, {other}", f"{other}, {third}")))
        return (
            f"select {key} as k, {other} as x, (count(*) over (partition by {part}))::int"
            f" + coalesce(rank() over (partition by {part} order by {third}), 0)::int as y from {text}{where}"
        )
    if kind < 11:
        return f"select {key} as k, {other} as x, {_subquery(draw, aliases, prefix)} as y from {text}{where}"
    if kind == 11:
        return f"select distinct {key} as k, {other} as x, {third} as y from {text}{where}"
    plain = f"select {key} as k, {other} as x, {third} as y from {text}{where}"
    if kind == 12 and _chance(draw, 50):
        return f"select * from ({plain} order by 1, 2, 3 limit 2) {prefix}l"
    if kind == 13 and _chance(draw, 50):
        return f"select distinct on (1) {plain.removeprefix('select ')} order by 1, 2, 3"
    return plain


def query(draw: Draw, depth: int) -> str:
    """A query with the columns k, x and y."""
    kind = draw(st.integers(0, 11))
    if depth > 0 and kind == 0:
        word = draw(st.sampled_from(("union", "union all", "union all", "except", "intersect")))
        more = draw(st.sampled_from(("", "", "", " order by 1, 2, 3 limit 2")))
        return f"({_select(draw, depth - 1)}) {word} ({_select(draw, depth - 1)}){more}"
    if depth > 0 and kind == 1:
        inner = _select(draw, depth - 1)
        join = draw(st.sampled_from(("join", "left join")))
        return f"with w as ({inner}) select w.k, w.x, w2.y from w {join} w w2 on {_condition(draw, ['w'], ['w2'])}"
    return _select(draw, depth)


@st.composite
def queries(draw: Draw) -> str:
    return query(draw, draw(st.integers(0, 2)))
