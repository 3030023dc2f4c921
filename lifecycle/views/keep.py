"""Let a view answer from a table: make the table, fill it, note changes from then on, exchange the view's text.

Nothing of the application's is dropped, and the view stays what it was to everybody who names it. A view that cannot be
kept stays as it is; the reason is returned.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.views import KeptView, Views
from lifecycle.errors import RefusedError
from lifecycle.names import LONGEST, QualifiedName, quoted
from lifecycle.views.catalog import Source, View, foreign_functions, read_sources, read_view
from lifecycle.views.definition import cut_definition, kept_view, order_over_outputs
from lifecycle.views.keys import TABLE_KINDS, RefreshKey, derive_key, key_query, moves
from lifecycle.views.unstable import unstable_columns
from lifecycle.views.watch import watch_tables

STATE: Final = "lifecycle"
LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
WRITE: Final = """
insert into lifecycle.kept_views as v
    (schema_name, view_name, kept_table, owner_name, place, column_names, stored_types, unstable, key_column, key_query,
     moves, refresh_every, keep_history, time_zone, fingerprint, whole_due)
values (%(schema)s, %(name)s, %(table)s, %(owner)s, %(place)s, %(columns)s, %(types)s, %(unstable)s, %(key)s, %(query)s,
        %(moves)s, %(every)s::interval, %(history)s::interval, %(zone)s,
        lifecycle.view_fingerprint(%(view)s::regclass, %(definition)s), 'first refresh')
on conflict (schema_name, view_name) do update set
    owner_name = excluded.owner_name, place = excluded.place, column_names = excluded.column_names,
    stored_types = excluded.stored_types, unstable = excluded.unstable, key_column = excluded.key_column,
    key_query = excluded.key_query, moves = excluded.moves, refresh_every = excluded.refresh_every,
    keep_history = excluded.keep_history, time_zone = excluded.time_zone, fingerprint = excluded.fingerprint,
    whole_due = case when v.fingerprint <> excluded.fingerprint or v.key_query is distinct from excluded.key_query
                     then 'its declaration or definition has changed' else v.whole_due end
"""
# PostgreSQL may print the text differently once it stands inside of another.
ADOPT: Final = """
update lifecycle.kept_views v
   set fingerprint = lifecycle.view_fingerprint(%(view)s::regclass, lifecycle.kept_definition(%(view)s::regclass, v.kept_table))
 where (v.schema_name, v.view_name) = (%(schema)s, %(name)s)
"""
MISSING: Final = "it does not exist"
FORGET_SOURCES: Final = "delete from lifecycle.kept_view_sources where (schema_name, view_name) = (%s, %s)"
WRITE_SOURCE: Final = "insert into lifecycle.kept_view_sources values (%s, %s, %s, %s)"
FILL: Final = "select lifecycle.fill_kept_view(v, %(definition)s) from lifecycle.kept_views v where (v.schema_name, v.view_name) = (%(schema)s, %(name)s)"


@dataclass(frozen=True)
class Keeping:
    """How one view is to be kept: its definition, the order it shows rows in, its key and what it reads."""

    view: View
    definition: str
    order: tuple[str, ...]
    key: RefreshKey | None
    sources: tuple[Source, ...]
    table: QualifiedName
    moves: str
    unstable: tuple[str, ...]


def kept_table(view: QualifiedName) -> QualifiedName:
    """Where a view's rows are kept; a dot cannot stand in a plain name, so no two views share a table."""
    name = f"kept_{view.name}" if view.schema == "public" else f"kept_{view.schema}.{view.name}"
    if len(name.encode()) > LONGEST:
        raise RefusedError(f"its name is too long for a table of ours ({name})")
    return QualifiedName(STATE, name)


def plan_keeping(conn: Connection, name: QualifiedName, declared: KeptView) -> Keeping:
    """How a view would be kept, in the caller's transaction, whose search_path becomes empty. Reads only.

    RefusedError says why it cannot be.
    """
    conn.execute("set local search_path = ''")
    view = read_view(conn, name)
    if view is None:
        raise RefusedError(MISSING)
    table = kept_table(name)
    _refuse(view)
    ours = cut_definition(view.plain)
    definition = ours or view.plain.rstrip("; ")
    readable = cut_definition(view.readable) if ours else view.readable
    assert readable is not None  # noqa: S101 - both texts are of one view
    sources = read_sources(conn, name)
    functions = foreign_functions(conn, name)
    columns = {source.name: source.columns for source in sources}
    return Keeping(
        view=view,
        definition=definition,
        order=order_over_outputs(readable, view.columns),
        key=derive_key(view, readable, sources, declared.key),
        sources=tuple(source for source in sources if source.kind in (*TABLE_KINDS, "m")),
        table=table,
        moves=moves(readable, functions),
        unstable=unstable_columns(readable, columns, view.columns),
    )


def _refuse(view: View) -> None:
    if view.kind != "v":
        raise RefusedError("it is no view; a materialized view stays one, declare it under `materialized`")
    if not view.is_ours_to_change:
        raise RefusedError(f"it belongs to {view.owner}, with whose rights it reads; connect as {view.owner}")
    if view.reads_as_caller:
        raise RefusedError("security_invoker is on: each reader sees other rows, which one table cannot hold")
    if view.is_written_through:
        raise RefusedError("rows can be written through it, which a view over a table of ours would refuse")


def keep_views(conn: Connection, views: Views, order: Sequence[QualifiedName]) -> Iterator[str]:
    """Keep the declared views, those first that others read; a line per view that was changed or cannot be kept.

    A rerun finishes what was cut off, and adopts a definition that the application replaced.
    """
    keepings: list[tuple[Keeping, bool]] = []
    for place, name in enumerate(order):
        declared = views.kept[name]
        try:
            with conn.transaction():
                keeping = plan_keeping(conn, name, declared)
                made = _make_table(conn, keeping)
                _write(conn, keeping, declared, views.times, place, views.time_zone)
            keepings.append((keeping, made))
        except RefusedError as refused:
            if not (declared.optional and str(refused) == MISSING):
                yield f"view {name} stays as it is: {refused}"
    # Before the first table is filled: what changes from then on is noted.
    yield from watch_tables(conn, [keeping.key for keeping, _ in keepings if keeping.key], views.times)
    for keeping, made in keepings:
        if made or cut_definition(keeping.view.plain) is None:
            try:
                yield exchange(conn, keeping)
            except RefusedError as refused:
                yield f"view {keeping.view.name} stays as it is: {refused}"


def exchange(conn: Connection, keeping: Keeping) -> str:
    """Fill the table, then let the view answer from it. RefusedError when the application replaces it meanwhile."""
    name = keeping.view.name
    conn.execute(FILL.encode(), {"definition": keeping.definition, "schema": name.schema, "name": name.name})
    with conn.transaction():
        conn.execute("set local search_path = ''")
        conn.execute(LOCK_TIMEOUT)
        # Keeps others from replacing it, and no reader out, while its text is compared.
        conn.execute(sql.SQL("comment on view {} is {}").format(name.identifier, sql.Literal(keeping.view.comment)))
        again = read_view(conn, name)
        if again is None or again.plain != keeping.view.plain:
            raise RefusedError("the application replaced it at this moment; run `lifecycle migrate` again")
        body = kept_view(keeping.table, keeping.view.columns, keeping.definition, keeping.order)
        options = f" with ({keeping.view.options})" if keeping.view.options else ""
        conn.execute(f"create or replace view {name}{options} as {body}".encode())
        conn.execute(ADOPT.encode(), {"view": str(name), "schema": name.schema, "name": name.name})
    return f"view {name} answers from {keeping.table}"


def _make_table(conn: Connection, keeping: Keeping) -> bool:
    held = value(conn, "select to_regclass(%s)::oid::bigint", (str(keeping.table),))
    columns = keeping.view.columns
    if held is not None:
        known = rows(
            conn,
            "select column_names, stored_types from lifecycle.kept_views where kept_table = %s",
            (keeping.table.name,),
        )
        if known and known[0] == ([c.name for c in columns], [c.stored_as for c in columns]):
            return False
        conn.execute(sql.SQL("drop table {}").format(keeping.table.identifier))
    selected = ", ".join(f"d.{quoted(c.name)}::{c.stored_as} as {quoted(c.name)}" for c in columns)
    conn.execute(
        f"create table {keeping.table} as select {selected}, null::uuid as lifecycle_hash, null::int as lifecycle_copy"
        f" from ({keeping.definition}) d with no data".encode()
    )
    conn.execute(f"alter table {keeping.table} add primary key (lifecycle_hash, lifecycle_copy)".encode())
    if keeping.key is not None:
        conn.execute(f"create index on {keeping.table} ({quoted(keeping.key.column)})".encode())
    told = f"Rows of view {keeping.view.name}, as its own definition gives them. Written by its refresh."
    conn.execute(sql.SQL("comment on table {} is {}").format(keeping.table.identifier, sql.Literal(told)))
    return True


def _write(
    conn: Connection,
    keeping: Keeping,
    declared: KeptView,
    times: Mapping[QualifiedName, str],
    place: int,
    time_zone: str,
) -> None:
    name, key = keeping.view.name, keeping.key
    columns = {source.name: source.columns for source in keeping.sources}
    conn.execute(
        WRITE.encode(),
        {
            "schema": name.schema,
            "name": name.name,
            "view": str(name),
            "definition": keeping.definition,
            "table": keeping.table.name,
            "owner": keeping.view.owner,
            "place": place,
            "columns": [c.name for c in keeping.view.columns],
            "types": [c.stored_as for c in keeping.view.columns],
            "unstable": list(keeping.unstable),
            "key": key and key.column,
            "query": key and key_query(key.ties, columns, times),
            "moves": keeping.moves,
            "every": declared.every,
            "history": declared.history,
            "zone": time_zone,
        },
    )
    conn.execute(FORGET_SOURCES.encode(), (name.schema, name.name))
    for source in keeping.sources:
        conn.execute(WRITE_SOURCE.encode(), (name.schema, name.name, source.name.schema, source.name.name))
