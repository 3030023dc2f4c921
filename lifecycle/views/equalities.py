"""Which columns of one SELECT are equal in every row that counts, and which are null where an outer join is."""

from collections.abc import Iterator

from sqlglot import exp

# A source by its alias, and one of its columns.
Place = tuple[str, str]


def joins_of(select: exp.Select) -> Iterator[tuple[str, str, list[tuple[Place, Place]]]]:
    """Each join: its alias, its side ('' for inner), and the equalities of its ON."""
    for join in select.args.get("joins") or ():
        yield join.alias_or_name, (join.side or "").upper(), list(equalities(join.args.get("on")))


def equalities(condition: exp.Expr | None) -> Iterator[tuple[Place, Place]]:
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


def nullable(select: exp.Select) -> set[str]:
    """Aliases whose columns are null in rows that an outer join did not match."""
    start = select.args.get("from_") or select.args.get("from")
    before = {start.this.alias_or_name} if start is not None else set()
    found: set[str] = set()
    for alias, side, _ in joins_of(select):
        if side in ("LEFT", "FULL"):
            found.add(alias)
        if side in ("RIGHT", "FULL"):
            found |= before
        before.add(alias)
    return found


def directed(select: exp.Select) -> Iterator[tuple[Place, Place]]:
    """(known, equal): wherever the first is known the rows that count have the second equal to it.

    The ON of an outer join says so only of the side that it may leave out.
    """
    for one, other in equalities(select.args.get("where")):
        yield one, other
        yield other, one
    for alias, side, pairs in joins_of(select):
        for one, other in pairs:
            if side in ("", "INNER", "CROSS"):
                yield one, other
                yield other, one
            elif side == "LEFT" and (one[0] == alias) != (other[0] == alias):
                yield (other, one) if one[0] == alias else (one, other)


def equal_places(select: exp.Select, start: Place) -> set[Place]:
    pairs = list(directed(select))
    found = {start}
    while more := {equal for known, equal in pairs if known in found and equal not in found}:
        found |= more
    return found


def always_equal(select: exp.Select, key: Place) -> set[Place]:
    """Places that hold the key in every row: a column of an outer join is null where nothing matched."""
    without_match = nullable(select)
    return {place for place in equal_places(select, key) if place[0] not in without_match}
