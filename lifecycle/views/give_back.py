"""Kept views given back: each computes its rows itself again, by the definition inside of it."""

from collections.abc import Iterator, Sequence
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.names import QualifiedName
from lifecycle.views.age import comment_on, without_age
from lifecycle.views.archived import replace_view
from lifecycle.views.catalog import read_view
from lifecycle.views.definition import cut_definition
from lifecycle.views.tables import history_table
from lifecycle.views.watch import unwatch_tables

LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
KEPT: Final = "select schema_name, view_name, kept_table from lifecycle.kept_views order by place desc"
FORGET: Final = "delete from lifecycle.kept_views where (schema_name, view_name) = (%s, %s)"


def kept_views(conn: Connection) -> dict[QualifiedName, QualifiedName]:
    """The views that are kept now and their tables, those last that others read."""
    return {QualifiedName(schema, name): QualifiedName("lifecycle", table) for schema, name, table in rows(conn, KEPT)}


def give_back(conn: Connection, names: Sequence[QualifiedName]) -> Iterator[str]:
    """Let these views compute their rows themselves again, by the definition inside of them; a line per view.

    One that the application replaced or dropped meanwhile stays what the application made of it. Their history stays.
    """
    tables = kept_views(conn)
    for name in names:
        with conn.transaction():
            conn.execute("set local search_path = ''")
            conn.execute(LOCK_TIMEOUT)
            view = read_view(conn, name)
            definition = view and cut_definition(view.plain)
            if view and definition:
                replace_view(conn, view, definition)
            if view and view.kind == "v" and without_age(view.comment) != view.comment:
                comment_on(conn, name, without_age(view.comment))
            conn.execute(sql.SQL("drop table if exists {}").format(tables[name].identifier))
            conn.execute(FORGET.encode(), (name.schema, name.name))
        kept = value(conn, "select to_regclass(%s)::text", (str(history_table(tables[name])),))
        told = "computes its rows itself again" if view else "is gone, and its table with it"
        yield f"view {name} {told}" + (f"; what it said stays in {kept}" if kept else "")
    if names:
        yield from unwatch_tables(conn)
