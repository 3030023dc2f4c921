"""How a kept view is refreshed: by which key, how changed rows lead to keys, and whether time alone changes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from psycopg import sql
from sqlglot import exp

from lifecycle.declarations.views import KeptView
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName, quoted
from lifecycle.views.catalog import Source, View
from lifecycle.views.definition import parse_definition
from lifecycle.views.ties import Tie, ties_in, ties_of
from lifecycle.views.tree import Columns, traced

Moves = Literal["never", "daily", "always"]
TABLE_KINDS: Final = ("r", "p", "f")
CLOCKS: Final = (
    exp.CurrentTimestamp, exp.CurrentTime, exp.CurrentDatetime, exp.Localtimestamp, exp.Localtime, exp.Rand, exp.Uuid,
)  # fmt: skip
CHANGING: Final = {
    "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday", "random", "random_normal",
    "gen_random_uuid", "uuidv4", "uuidv7",
}  # fmt: skip
OF_THE_READER: Final = {
    "current_setting", "current_user", "session_user", "current_role", "pg_backend_pid", "has_table_privilege",
    "has_column_privilege", "has_schema_privilege", "pg_has_role", "row_security_active", "inet_client_addr",
}  # fmt: skip
MOMENTS: Final = {"now", "today", "tomorrow", "yesterday"}


@dataclass(frozen=True)
class RefreshKey:
    """The view's column by which it is refreshed, and how each table that it reads leads to its values.

    `days` and `touches` are of a declared key that is a date: the ties name times, whose day counts, and so many days
    after it.
    """

    column: str
    ties: tuple[Tie, ...]
    days: bool = False
    touches: int = 0


def moves(definition: str, functions: Sequence[str]) -> Moves:
    """Whether rows change as time goes by: `always` also for functions of which nobody knows what they do."""
    tree = parse_definition(definition)
    names = {node.name.lower() for node in tree.find_all(exp.Anonymous)}
    if functions or names & CHANGING or any(True for _ in tree.find_all(*CLOCKS)):
        return "always"
    if any(_is_moment(node) for node in tree.find_all(exp.Cast)):
        return "always"
    if any(node.name.lower() == "age" and len(node.expressions) == 1 for node in tree.find_all(exp.Anonymous)):
        return "daily"
    return "daily" if any(True for _ in tree.find_all(exp.CurrentDate)) else "never"


def require_one_answer(definition: str, functions: Sequence[str]) -> None:
    """RefusedError where each reader may get another answer: the table would show one of them to everybody."""
    tree = parse_definition(definition)
    names = {node.name.lower() for node in tree.find_all(exp.Anonymous)} & OF_THE_READER
    names |= {
        node.key for node in tree.find_all(exp.CurrentUser, exp.SessionUser, exp.CurrentSchema, exp.CurrentSchemas)
    }
    names |= {
        column.name.lower()
        for column in tree.find_all(exp.Column)
        if column.name in {"USER", "CURRENT_ROLE"} and not column.table and not column.this.args.get("quoted")
    }
    if found := [*sorted(names), *functions]:
        raise RefusedError(Phrase("{function} in it may answer each reader differently", function=found[0]))


def _is_moment(cast: exp.Cast) -> bool:
    """'now'::text::date: read as a date when the definition runs."""
    text = cast.this.unnest()
    return (
        cast.to.is_type(*exp.DataType.TEMPORAL_TYPES)
        and isinstance(text, exp.Cast)
        and text.this.is_string
        and text.this.name.lower() in MOMENTS
    )


def derive_key(view: View, definition: str, sources: Sequence[Source], declared: KeptView) -> RefreshKey | None:
    """The declared key, or else the column with the shortest way from changed rows to its values; None without one.

    RefusedError says why a declared column cannot be the key.
    """
    columns: Columns = {source.name: source.columns for source in sources}
    if declared.key and declared.by:
        return _declared_key(view, sources, declared)
    if any(source.kind not in TABLE_KINDS for source in sources):
        if declared.key:
            raise RefusedError(
                Phrase(
                    "{key} cannot be its key: it reads other views; say `by` which columns name it", key=declared.key
                )
            )
        return None
    built_in = {column.name for column in view.columns if column.stored_as == column.type}
    if declared.key and declared.key not in built_in:
        raise RefusedError(Phrase("it has no column {column} of one of PostgreSQL's own types", column=declared.key))
    if declared.key:
        return RefreshKey(declared.key, ties_of(definition, columns, declared.key))
    try:
        scope = traced(definition, columns)
    except RefusedError:
        return None
    found: list[tuple[int, int, RefreshKey]] = []
    for place, column in enumerate(view.columns):
        if column.name not in built_in:
            continue
        try:
            ties = ties_in(scope, column.name)
        except RefusedError:
            continue
        found.append((sum(len(tie.hops) for tie in ties), place, RefreshKey(column.name, ties)))
    return min(found, key=lambda each: each[:2])[2] if found else None


def _declared_key(view: View, sources: Sequence[Source], declared: KeptView) -> RefreshKey:
    """Nothing proves it beforehand: the comparison of each night does."""
    types = {column.name: column.type for column in view.columns}
    if declared.key is None or declared.key not in types:
        raise RefusedError(Phrase("it has no column {column}", column=declared.key))
    tables = {source.name: source.columns for source in sources if source.kind in TABLE_KINDS}
    if missing := sorted(set(tables) - set(declared.by)):
        raise RefusedError(
            Phrase("`by` does not say how rows of {table} name {key}", table=missing[0], key=declared.key)
        )
    for table, column in declared.by.items():
        if column not in tables.get(table, {}):
            raise RefusedError(
                Phrase("`by` names {table}.{column}, which it does not read", table=table, column=column)
            )
    ties = tuple(Tie(table, column) for table, column in sorted(declared.by.items()))
    return RefreshKey(declared.key, ties, types[declared.key] == "date", declared.touches)


def change_query(key: RefreshKey | None, sources: Sequence[Source], times: Mapping[QualifiedName, str]) -> str:
    """A query of what can have changed, one column `key`: $1 is a snapshot, $2 a moment.

    Without a key any row means that something has.
    """
    if key is None:
        return " union all ".join(_any_change(source.name, times) for source in sources)
    columns = {source.name: source.columns for source in sources}
    query = " union all ".join(_keys_of(tie, columns, times) for tie in key.ties)
    if not key.days:
        return query
    # In the session's time zone, as the definition reads it.
    return f"select c.key::date + d.days as key from ({query}) c cross join generate_series(0, {key.touches}) d(days)"


def _noted(table: QualifiedName, value: str) -> str:
    return (
        f"select {value} as key from lifecycle.changed_rows l"
        f" where l.source_schema = {_literal(table.schema)} and l.source_name = {_literal(table.name)}"
        " and not pg_catalog.pg_visible_in_snapshot(l.written_by, $1)"
    )


def _any_change(table: QualifiedName, times: Mapping[QualifiedName, str]) -> str:
    query = _noted(table, "true")
    if table in times:
        query += f" union all (select true from {table} t where t.{quoted(times[table])} >= $2 limit 1)"
    return query


def _keys_of(tie: Tie, columns: Columns, times: Mapping[QualifiedName, str]) -> str:
    column, type_name = quoted(tie.column), columns[tie.table][tie.column]
    # An erasure leaves nothing in the notes that it followed.
    query = _noted(tie.table, f"(l.held ->> {_literal(tie.column)})::{type_name}") + " and l.held <> '{}'"
    if tie.table in times:
        query += f" union all select t.{column} from {tie.table} t where t.{quoted(times[tie.table])} >= $2"
    for hop in tie.hops:
        from_rows = f"select h.{quoted(hop.next)} as key from {hop.table} h where h.{quoted(hop.column)}"
        without = f" union all {from_rows} is null and exists (select from ({query}) w where w.key is null)"
        query = f"{from_rows} in ({query})" + (without if hop.nulls else "")
    return query


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)
