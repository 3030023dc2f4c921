"""Whether a view can be refreshed key by key: every base table in its definition must be tied to the key by equality.

The rows of a view with one value of a key depend on some rows of each base table only. Which these are is read from the
definition: a column that equals the key (through joins, sub-queries, GROUP BY, PARTITION BY and both sides of a UNION)
ties its table directly; a column that equals a column of a tied table ties its table through that one. A table that is
tied by nothing could change any row, so the view has to be computed whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from lifecycle.views.definition import DIALECT, parse_definition

# A relation's columns with their types, by name.
Columns = Mapping[QualifiedName, Mapping[str, str]]
# In a scope: a source by its alias, and one of its columns.
Place = tuple[str, str]
Source = exp.Table | Scope


@dataclass(frozen=True, order=True)
class Hop:
    """From rows of `table` whose `column` holds a value to the values of their `next` column."""

    table: QualifiedName
    column: str
    next: str


@dataclass(frozen=True, order=True)
class Tie:
    """How a changed row of `table` names the keys of the view: the values of `column`, followed through `hops`."""

    table: QualifiedName
    column: str
    hops: tuple[Hop, ...] = ()


def ties_of(definition: str, columns: Columns, key: str) -> tuple[Tie, ...]:
    """How each base table of the definition is tied to its output column `key`.

    RefusedError names what is not tied.
    """
    scope = build_scope(qualified_tree(definition, columns))
    if scope is None:
        raise RefusedError("the definition is no query")
    found = tuple(sorted(set(_ties(scope, key, ()))))
    read = {
        _table(source)
        for inner in scope.traverse()
        for source in inner.sources.values()
        if isinstance(source, exp.Table)
    }
    if missing := sorted(read - {tie.table for tie in found}):
        raise RefusedError(f"{missing[0]} is tied by nothing to the key")
    return found


def qualified_tree(definition: str, columns: Columns) -> exp.Query:
    """The definition with every column qualified by its source; RefusedError when that cannot be told."""
    held: dict[str, dict[str, dict[str, str]]] = {}
    for name, types in columns.items():
        held.setdefault(name.schema, {})[name.name] = dict(types)
    schema: dict[str, object] = {**held}
    try:
        tree = qualify(
            parse_definition(definition), schema=schema, dialect=DIALECT, expand_stars=False, quote_identifiers=False
        )
    except Exception as error:  # sqlglot raises several kinds, all of them about this text
        raise RefusedError(f"its columns cannot be traced: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, exp.Query):
        raise RefusedError("the definition is no query")
    return tree


def _ties(scope: Scope, output: str, hops: tuple[Hop, ...]) -> Iterator[Tie]:
    """Ties of all base tables in a scope whose `output` leads through `hops` to the key."""
    if isinstance(scope.expression, exp.SetOperation):
        if not isinstance(scope.expression, exp.Union):
            raise RefusedError(f"{scope.expression.key.upper()} compares whole results")
        position = _names(scope.expression).index(output)
        for branch in scope.set_operation_scopes:
            yield from _ties(branch, _names(branch.expression)[position], hops)
        return
    select = scope.expression
    if not isinstance(select, exp.Select):
        raise RefusedError(f"{select.key} is not understood")
    expression = _output(select, output)
    if not isinstance(expression, exp.Column):
        raise RefusedError(f"{output} is computed, no column of a table")
    start = (expression.table, expression.name)
    _require_pushable(select, start)
    if start[0] in _nullable(select):
        raise RefusedError(f"{expression.sql(DIALECT)} is null for rows that an outer join did not match")
    start, hops = _through_windows(scope, start, hops)
    yield from _sources(scope, dict.fromkeys(_equal_places(select, start), hops))


def _names(query: exp.Expr) -> list[str]:
    return list(query.named_selects) if isinstance(query, exp.Query) else []


def _output(select: exp.Select, name: str) -> exp.Expr:
    for item in select.expressions:
        if item.alias_or_name == name:
            return item.unalias()
    raise RefusedError(f"there is no column {name}")


def _require_pushable(select: exp.Select, key: Place) -> None:
    """A condition on the key must mean the same before and after what this SELECT does to its rows."""
    if select.args.get("limit") or select.args.get("offset"):
        raise RefusedError("it keeps only the first rows")
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        raise RefusedError("DISTINCT ON chooses between rows of different keys")
    group = select.args.get("group")
    if group is not None:
        if any(group.args.get(kind) for kind in ("rollup", "cube", "grouping_sets", "totals", "all")):
            raise RefusedError("grouping sets add rows of all keys")
        same = _equal_places(select, key)
        if not any(_is_one_of(item, same) for item in _grouped(select, group)):
            raise RefusedError(f"{key[0]}.{key[1]} is not grouped by")
    elif any(_own(found, select) and not _in_window(found) for found in select.find_all(exp.AggFunc)):
        raise RefusedError("it aggregates all rows into one")


def _grouped(select: exp.Select, group: exp.Group) -> Iterator[exp.Expr]:
    for item in group.expressions:
        if isinstance(item, exp.Literal) and item.is_int:
            yield select.expressions[int(item.name) - 1].unalias()
        else:
            yield item.unnest()


def _own(node: exp.Expr, select: exp.Select) -> bool:
    return node.find_ancestor(exp.Select) is select


def _in_window(node: exp.Expr) -> bool:
    parent = node.parent
    while isinstance(parent, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
        parent = parent.parent
    return isinstance(parent, exp.Window)


def _is_one_of(item: exp.Expr, places: set[Place]) -> bool:
    return isinstance(item, exp.Column) and (item.table, item.name) in places


def _through_windows(scope: Scope, key: Place, hops: tuple[Hop, ...]) -> tuple[Place, tuple[Hop, ...]]:
    """Where a window looks at more rows than those of the key: the column by which all windows part their rows.

    A changed row then reaches the keys of all rows of its part.
    """
    select = scope.expression
    assert isinstance(select, exp.Select)  # noqa: S101 - the caller has asked
    parts = [
        {(p.table, p.name) for p in window.args.get("partition_by") or () if isinstance(p, exp.Column)}
        for window in select.find_all(exp.Window)
        if _own(window, select)
    ]
    same = _equal_places(select, key)
    if all(part & same for part in parts):
        return key, hops
    for place in sorted(set.intersection(*parts)):
        base, other = _base(scope, place), _base(scope, key)
        if place[0] == key[0] and base and other and base[0] == other[0]:
            return place, (Hop(base[0], base[1], other[1]), *hops)
    raise RefusedError("a window looks at rows of other keys")


def _base(scope: Scope, place: Place) -> tuple[QualifiedName, str] | None:
    """The base table and column that a place shows as they are; None for anything computed or joined."""
    source = scope.sources.get(place[0])
    if isinstance(source, exp.Table):
        return _table(source), place[1]
    if isinstance(source, Scope) and isinstance(source.expression, exp.Select):
        inner = _output(source.expression, place[1])
        if isinstance(inner, exp.Column) and inner.table not in _nullable(source.expression):
            return _base(source, (inner.table, inner.name))
    return None


def _table(table: exp.Table) -> QualifiedName:
    return QualifiedName(table.db, table.name)


def _joins(select: exp.Select) -> Iterator[tuple[str, str, list[tuple[Place, Place]]]]:
    """Each join: its alias, its side ('' for inner), and the equalities of its ON."""
    for join in select.args.get("joins") or ():
        yield join.alias_or_name, (join.side or "").upper(), list(_equalities(join.args.get("on")))


def _equalities(condition: exp.Expr | None) -> Iterator[tuple[Place, Place]]:
    if condition is None:
        return
    body = condition.this if isinstance(condition, exp.Where) else condition
    body = body.unnest()
    for part in body.flatten() if isinstance(body, exp.And) else (body,):
        equal = part.unnest()
        if isinstance(equal, exp.EQ):
            left, right = equal.left.unnest(), equal.right.unnest()
            if isinstance(left, exp.Column) and isinstance(right, exp.Column):
                yield (left.table, left.name), (right.table, right.name)


def _nullable(select: exp.Select) -> set[str]:
    """Aliases whose columns are null in rows that an outer join did not match."""
    start = select.args.get("from_") or select.args.get("from")
    before = {start.this.alias_or_name} if start is not None else set()
    found: set[str] = set()
    for alias, side, _ in _joins(select):
        if side in ("LEFT", "FULL"):
            found.add(alias)
        if side in ("RIGHT", "FULL"):
            found |= before
        before.add(alias)
    return found


def _directed(select: exp.Select) -> Iterator[tuple[Place, Place]]:
    """(known, equal): wherever the first is known the rows that count have the second equal to it.

    The ON of an outer join says so only of the side that it may leave out.
    """
    for one, other in _equalities(select.args.get("where")):
        yield one, other
        yield other, one
    for alias, side, pairs in _joins(select):
        for one, other in pairs:
            if side in ("", "INNER", "CROSS"):
                yield one, other
                yield other, one
            elif side == "LEFT" and (one[0] == alias) != (other[0] == alias):
                yield (other, one) if one[0] == alias else (one, other)


def _equal_places(select: exp.Select, start: Place) -> set[Place]:
    pairs = list(_directed(select))
    found = {start}
    while more := {equal for known, equal in pairs if known in found and equal not in found}:
        found |= more
    return found


def _sources(scope: Scope, reached: dict[Place, tuple[Hop, ...]]) -> Iterator[Tie]:
    """Ties of everything that the scope reads, given the places whose values lead to the key."""
    select = scope.expression
    assert isinstance(select, exp.Select)  # noqa: S101 - the callers have asked
    pairs = list(_directed(select))
    read = {alias: source for alias, (_, source) in scope.selected_sources.items()}
    laterals = [source for source in read.values() if _is_lateral(source)]
    # Evaluated anew for each row outside: what they read is tied by equalities with that row.
    nested = [*scope.subquery_scopes, *(inner for lateral in laterals for inner in lateral.subquery_scopes)]
    sources = {alias: source for alias, source in read.items() if not _is_lateral(source)}
    _reach(scope, sources, pairs, reached)
    for alias, source in sources.items():
        columns = sorted((len(hops), column, hops) for (name, column), hops in reached.items() if name == alias)
        if isinstance(source, exp.Table):
            if not columns:
                raise RefusedError(f"{_table(source)} is tied by nothing to the key")
            yield Tie(_table(source), columns[0][1], columns[0][2])
        elif _reads_tables(source):
            yield from _first_that_ties(source, [(column, hops) for _, column, hops in columns], alias)
    for inner in nested:
        if _reads_tables(inner):
            yield from _inner(scope, sources, inner, reached)


def _inner(
    scope: Scope, sources: Mapping[str, Source], inner: Scope, reached: dict[Place, tuple[Hop, ...]]
) -> Iterator[Tie]:
    """Ties of what a sub-query reads that is evaluated for each row of `scope`."""
    if not isinstance(inner.expression, exp.Select):
        raise RefusedError("a set operation inside of a sub-query is not understood")
    own = dict(reached)
    _reach(scope, sources, list(_directed(inner.expression)), own)
    yield from _sources(inner, own)


def _first_that_ties(source: Scope, columns: list[tuple[str, tuple[Hop, ...]]], alias: str) -> Iterator[Tie]:
    reasons = [f"{alias} is tied by nothing to the key"]
    for column, hops in columns:
        try:
            return iter(list(_ties(source, column, hops)))
        except RefusedError as error:
            reasons.append(str(error))
    raise RefusedError(reasons[-1])


def _reach(
    scope: Scope,
    sources: Mapping[str, Source],
    pairs: list[tuple[Place, Place]],
    reached: dict[Place, tuple[Hop, ...]],
) -> None:
    """Add the places that equal a column of a source which is reached already, breadth first."""
    while True:
        found: dict[Place, tuple[Hop, ...]] = {}
        for known, equal in pairs:
            if equal in reached or any(place[0] == equal[0] for place in reached):
                continue
            if known in reached:
                found.setdefault(equal, reached[known])
                continue
            entries = sorted((len(hops), place, hops) for place, hops in reached.items() if place[0] == known[0])
            for _, place, hops in entries:
                base, other = _base(scope, known), _base(scope, place)
                if known[0] in sources and base and other and base[0] == other[0]:
                    found.setdefault(equal, (Hop(base[0], base[1], other[1]), *hops))
                    break
        if not found:
            return
        reached.update(found)


def _is_lateral(source: Source) -> TypeGuard[Scope]:
    return isinstance(source, Scope) and isinstance(source.expression, exp.UDTF)


def _reads_tables(source: Source) -> bool:
    """Whether rows of a table are read in it; a function that only takes apart a column of an outer row reads none."""
    if isinstance(source, exp.Table):
        return True
    if isinstance(source.expression, exp.SetOperation):
        return any(_reads_tables(branch) for branch in source.set_operation_scopes)
    inside = [inner for _, inner in source.selected_sources.values()]
    return any(map(_reads_tables, [*inside, *source.subquery_scopes]))
