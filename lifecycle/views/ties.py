"""Whether a view can be refreshed key by key: every base table in its definition must be tied to the key by equality.

The rows of a view with one value of a key depend on some rows of each base table only. Which these are is read from the
definition: a column that equals the key (through joins, sub-queries, GROUP BY, PARTITION BY and both sides of a UNION)
ties its table directly; a column that equals a column of a tied table ties its table through that one. A table that is
tied by nothing could change any row, so the view has to be computed whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from lifecycle.errors import RefusedError
from lifecycle.language import Phrase, translatable
from lifecycle.names import QualifiedName
from lifecycle.views.definition import DIALECT
from lifecycle.views.equalities import Place, always_equal, directed, equal_places, nullable
from lifecycle.views.tree import Columns, is_function, tables_in, traced

Source = exp.Table | Scope
UNTIED: Final = translatable("{source} is tied by nothing to the key")


@dataclass(frozen=True, order=True)
class Hop:
    """From rows of `table` whose `column` holds a value to the values of their `next` column.

    `nulls`: rows that hold none belong together as well, as in a window; in a join NULL equals nothing.
    """

    table: QualifiedName
    column: str
    next: str
    nulls: bool = False


@dataclass(frozen=True, order=True)
class Tie:
    """How a changed row of `table` names the keys of the view: the values of `column`, followed through `hops`."""

    table: QualifiedName
    column: str
    hops: tuple[Hop, ...] = ()


@dataclass(frozen=True)
class _Tied:
    """A tie of one reference of its table in the definition."""

    reference: exp.Table
    tie: Tie


@dataclass(frozen=True)
class _Origin:
    """The column of a base table that a place shows as it is, and by which aliases one comes to the table's row."""

    path: tuple[str, ...]
    reference: exp.Table
    column: str

    @property
    def table(self) -> QualifiedName:
        return _table(self.reference)


def ties_of(definition: str, columns: Columns, key: str) -> tuple[Tie, ...]:
    """How each base table of the definition is tied to its output column `key`.

    RefusedError names what is not tied.
    """
    return ties_in(traced(definition, columns), key)


def ties_in(scope: Scope, key: str) -> tuple[Tie, ...]:
    """As `ties_of`, of a definition that was traced already."""
    found = tuple(_ties(scope, key, ()))
    # Each reference for itself: that another one of the same table is tied helps nobody.
    tied = {id(each.reference) for each in found}
    for reference in tables_in(scope.expression):  # type: ignore[arg-type]  # traced() made it of a query
        if id(reference) not in tied:
            raise RefusedError(Phrase(UNTIED, source=_table(reference)))
    return tuple(sorted({each.tie for each in found}))


def _ties(scope: Scope, output: str, hops: tuple[Hop, ...]) -> Iterator[_Tied]:
    """Ties of all base tables in a scope whose `output` leads through `hops` to the key."""
    if isinstance(scope.expression, exp.SetOperation):
        if not isinstance(scope.expression, exp.Union):
            raise RefusedError(Phrase("{operation} compares whole results", operation=scope.expression.key.upper()))
        _require_every_row(scope.expression)
        position = _names(scope.expression).index(output)
        for branch in scope.set_operation_scopes:
            yield from _ties(branch, _names(branch.expression)[position], hops)
        return
    select = scope.expression
    if not isinstance(select, exp.Select):
        raise RefusedError(Phrase("{operation} is not understood", operation=select.key))
    expression = _output(select, output)
    if not isinstance(expression, exp.Column):
        raise RefusedError(Phrase("{column} is computed, no column of a table", column=output))
    start = (expression.table, expression.name)
    _require_pushable(select, start)
    if start[0] in nullable(select):
        unmatched = translatable("{column} is null for rows that an outer join did not match")
        raise RefusedError(Phrase(unmatched, column=expression.sql(DIALECT)))
    if beside := _part_of_windows(scope, start):
        of_key, place, hop = beside
        # A row that leaves a part leaves its own key, too, which no other row may name any more.
        yield _Tied(of_key.reference, Tie(of_key.table, of_key.column, hops))
        start, hops = place, (hop, *hops)
    yield from _sources(scope, dict.fromkeys(equal_places(select, start), hops))


def _names(query: exp.Expr) -> list[str]:
    return list(query.named_selects) if isinstance(query, exp.Query) else []


def _output(select: exp.Select, name: str) -> exp.Expr:
    for item in select.expressions:
        if item.alias_or_name == name:
            return item.unalias()
    raise RefusedError(Phrase("there is no column {column}", column=name))


def _require_every_row(query: exp.Expression) -> None:
    if query.args.get("limit") or query.args.get("offset"):
        raise RefusedError(Phrase("it keeps only the first rows"))


def _require_pushable(select: exp.Select, key: Place) -> None:
    """A condition on the key must mean the same before and after what this SELECT does to its rows."""
    _require_every_row(select)
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        raise RefusedError(Phrase("DISTINCT ON chooses between rows of different keys"))
    group = select.args.get("group")
    if group is not None:
        same = always_equal(select, key)
        if not any(_is_one_of(item, same) for item in _grouped(select, group)):
            raise RefusedError(Phrase("{column} is not grouped by", column=".".join(key)))
    elif any(_own(found, select) and not _in_window(found) for found in select.find_all(exp.AggFunc)):
        raise RefusedError(Phrase("it aggregates all rows into one"))


def _grouped(select: exp.Select, group: exp.Group) -> Iterator[exp.Expr]:
    """What every row of the result is grouped by, which nothing within ROLLUP, CUBE and GROUPING SETS is."""
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


def _part_of_windows(scope: Scope, key: Place) -> tuple[_Origin, Place, Hop] | None:
    """Where a window looks at more rows than those of the key: the key's origin, the column by which all windows part
    their rows, and the hop from there to the key. A changed row then reaches the keys of all rows of its part."""
    select = scope.expression
    assert isinstance(select, exp.Select)  # noqa: S101 - its caller's
    parts = [
        {(p.table, p.name) for p in window.args.get("partition_by") or () if isinstance(p, exp.Column)}
        for window in select.find_all(exp.Window)
        if _own(window, select)
    ]
    same = always_equal(select, key)
    if all(part & same for part in parts):
        return None
    of_key = _origin(scope, key)
    for place in sorted(set.intersection(*parts)):
        origin = _origin(scope, place)
        if origin and of_key and origin.path == of_key.path:
            return of_key, place, Hop(origin.table, origin.column, of_key.column, nulls=True)
    raise RefusedError(Phrase("a window looks at rows of other keys"))


def _origin(scope: Scope, place: Place) -> _Origin | None:
    """The base table's column that a place shows as it is; None for anything computed or joined."""
    source = scope.sources.get(place[0])
    if isinstance(source, exp.Table):
        return _Origin((place[0],), source, place[1])
    if isinstance(source, Scope) and isinstance(source.expression, exp.Select):
        inner = _output(source.expression, place[1])
        if isinstance(inner, exp.Column) and inner.table not in nullable(source.expression):
            below = _origin(source, (inner.table, inner.name))
            return below and _Origin((place[0], *below.path), below.reference, below.column)
    return None


def _table(table: exp.Table) -> QualifiedName:
    return QualifiedName(table.db, table.name)


def _sources(scope: Scope, reached: dict[Place, tuple[Hop, ...]]) -> Iterator[_Tied]:
    """Ties of everything that the scope reads, given the places whose values lead to the key."""
    select = scope.expression
    assert isinstance(select, exp.Select)  # noqa: S101 - the callers have asked
    pairs = list(directed(select))
    read = {alias: source for alias, (_, source) in scope.selected_sources.items()}
    laterals = [source for source in read.values() if _is_lateral(source)]
    # Evaluated anew for each row outside: what they read is tied by equalities with that row.
    nested = [*scope.subquery_scopes, *(inner for lateral in laterals for inner in lateral.subquery_scopes)]
    sources = {alias: source for alias, source in read.items() if not _is_lateral(source)}
    _reach(scope, sources, pairs, reached)
    for alias, source in sources.items():
        columns = sorted((len(hops), column, hops) for (name, column), hops in reached.items() if name == alias)
        if not _reads_tables(source):
            continue
        if isinstance(source, exp.Table):
            if not columns:
                raise RefusedError(Phrase(UNTIED, source=_table(source)))
            yield _Tied(source, Tie(_table(source), columns[0][1], columns[0][2]))
        else:
            yield from _first_that_ties(source, [(column, hops) for _, column, hops in columns], alias)
    for inner in nested:
        if _reads_tables(inner):
            yield from _inner(scope, sources, inner, reached)


def _inner(
    scope: Scope, sources: Mapping[str, Source], inner: Scope, reached: dict[Place, tuple[Hop, ...]]
) -> Iterator[_Tied]:
    """Ties of what a sub-query reads that is evaluated for each row of `scope`."""
    if not isinstance(inner.expression, exp.Select):
        raise RefusedError(Phrase("a set operation inside of a sub-query is not understood"))
    # Its own aliases hide those of the same name outside.
    own = {place: hops for place, hops in reached.items() if place[0] not in inner.selected_sources}
    _reach(scope, sources, list(directed(inner.expression)), own)
    yield from _sources(inner, own)


def _first_that_ties(source: Scope, columns: list[tuple[str, tuple[Hop, ...]]], alias: str) -> Iterator[_Tied]:
    refused = RefusedError(Phrase(UNTIED, source=alias))
    for column, hops in columns:
        try:
            return iter(list(_ties(source, column, hops)))
        except RefusedError as error:
            refused = error
    raise refused


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
                origin, other = _origin(scope, known), _origin(scope, place)
                if known[0] in sources and origin and other and origin.path == other.path:
                    found.setdefault(equal, (Hop(origin.table, origin.column, other.column), *hops))
                    break
        if not found:
            return
        reached.update(found)


def _is_lateral(source: Source) -> TypeGuard[Scope]:
    return isinstance(source, Scope) and isinstance(source.expression, exp.UDTF)


def _reads_tables(source: Source) -> bool:
    """Whether rows of a table are read in it; a function that only takes apart a column of an outer row reads none."""
    if isinstance(source, exp.Table):
        return not is_function(source)
    if isinstance(source.expression, exp.SetOperation):
        return any(_reads_tables(branch) for branch in source.set_operation_scopes)
    inside = [inner for _, inner in source.selected_sources.values()]
    return any(map(_reads_tables, [*inside, *source.subquery_scopes]))
