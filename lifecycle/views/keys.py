"""How a kept view is refreshed: by which key, how changed rows lead to keys, and whether time alone changes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from psycopg import sql
from sqlglot import exp

from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName, quoted
from lifecycle.views.catalog import Source, View
from lifecycle.views.definition import parse_definition
from lifecycle.views.ties import Columns, Tie, ties_of

Moves = Literal["never", "daily", "always"]
TABLE_KINDS: Final = ("r", "p", "f")


@dataclass(frozen=True)
class RefreshKey:
    """The view's column by which it is refreshed, and how each table that it reads leads to its values."""

    column: str
    ties: tuple[Tie, ...]


def moves(definition: str, functions: Sequence[str]) -> Moves:
    """Whether rows change as time goes by: `always` also for functions of which nobody knows what they do."""
    tree = parse_definition(definition)
    clocks = (exp.CurrentTimestamp, exp.CurrentTime, exp.CurrentDatetime, exp.Localtimestamp, exp.Localtime)
    names = {node.name.lower() for node in tree.find_all(exp.Anonymous)}
    if functions or names & {"clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday", "random"}:
        return "always"
    if any(True for _ in tree.find_all(*clocks)):
        return "always"
    return "daily" if any(True for _ in tree.find_all(exp.CurrentDate)) else "never"


def derive_key(view: View, definition: str, sources: Sequence[Source], declared: str | None) -> RefreshKey | None:
    """The column with the shortest way from changed rows to its values; None when there is none.

    RefusedError says why a declared column cannot be the key.
    """
    columns: Columns = {source.name: source.columns for source in sources}
    if any(source.kind not in TABLE_KINDS for source in sources):
        if declared:
            raise RefusedError(f"{declared} cannot be its key: it reads other views")
        return None
    if declared:
        return RefreshKey(declared, ties_of(definition, columns, declared))
    found: list[tuple[int, int, RefreshKey]] = []
    for place, column in enumerate(view.columns):
        try:
            ties = ties_of(definition, columns, column.name)
        except RefusedError:
            continue
        found.append((sum(len(tie.hops) for tie in ties), place, RefreshKey(column.name, ties)))
    return min(found, key=lambda each: each[:2])[2] if found else None


def watched_columns(ties: Sequence[Tie]) -> dict[QualifiedName, tuple[str, ...]]:
    """Of each table the columns that a changed row has to be noted with."""
    found: dict[QualifiedName, set[str]] = {}
    for tie in ties:
        found.setdefault(tie.table, set()).add(tie.column)
    return {table: tuple(sorted(columns)) for table, columns in found.items()}


def key_query(ties: Sequence[Tie], columns: Columns, times: Mapping[QualifiedName, str]) -> str:
    """A query of the keys (column `key`) whose rows can have changed: $1 is a snapshot, $2 a moment."""
    return " union all ".join(_keys_of(tie, columns, times) for tie in ties)


def _keys_of(tie: Tie, columns: Columns, times: Mapping[QualifiedName, str]) -> str:
    column, type_name = quoted(tie.column), columns[tie.table][tie.column]
    query = (
        f"select (l.held ->> {_literal(tie.column)})::{type_name} as key from lifecycle.changed_rows l"
        f" where l.source_schema = {_literal(tie.table.schema)} and l.source_name = {_literal(tie.table.name)}"
        " and not pg_catalog.pg_visible_in_snapshot(l.written_by, $1)"
    )
    if tie.table in times:
        query += f" union all select t.{column} from {tie.table} t where t.{quoted(times[tie.table])} >= $2"
    for hop in tie.hops:
        query = f"select h.{quoted(hop.next)} as key from {hop.table} h where h.{quoted(hop.column)} in ({query})"
    return query


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)
