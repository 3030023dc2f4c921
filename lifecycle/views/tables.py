"""The tables of ours that kept views answer from, and those in which their history stands."""

from collections.abc import Sequence
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import LONGEST, QualifiedName, quoted
from lifecycle.views.definition import ViewColumn

SCHEMA: Final = "lifecycle"
HISTORY: Final = "_history"
# By this comment an erasure knows a table that is made anew from others.
MARK: Final = "lifecycle:kept view"
HELD: Final = "select column_names, stored_types from lifecycle.kept_views where kept_table = %s"
EXISTS: Final = "select to_regclass(%s) is not null"


def kept_table(view: QualifiedName) -> QualifiedName:
    """Where a view's rows are kept: a dot stands in no plain name, so no two views share a table.

    RefusedError when PostgreSQL would cut the name short.
    """
    name = f"kept_{view.name}" if view.schema == "public" else f"kept_{view.schema}.{view.name}"
    if len((name + HISTORY).encode()) > LONGEST:
        raise RefusedError(Phrase("its name is too long for a table of ours ({name})", name=name + HISTORY))
    return QualifiedName(SCHEMA, name)


def history_table(table: QualifiedName) -> QualifiedName:
    """Where a view's history stands."""
    return QualifiedName(SCHEMA, table.name + HISTORY)


def make_table(
    conn: Connection,
    table: QualifiedName,
    view: QualifiedName,
    columns: Sequence[ViewColumn],
    definition: str,
    key: str | None,
) -> bool:
    """Make the table for these columns, in the caller's transaction; False when it stands already.

    Types and collations are those that the definition gives; what PostgreSQL does not know by itself is text.
    """
    if value(conn, EXISTS, (str(table),)):
        wanted = ([c.name for c in columns], [c.stored_as for c in columns])
        if any((names, types) == wanted for names, types in rows(conn, HELD, (table.name,))):
            return False
        conn.execute(sql.SQL("drop table {}").format(table.identifier))
    selected = ", ".join(f"d.{quoted(c.name)}::{c.stored_as} as {quoted(c.name)}" for c in columns)
    conn.execute(
        f"create table {table} as select {selected}, null::uuid as lifecycle_hash, null::int as lifecycle_copy"
        f" from ({definition}) d with no data".encode()
    )
    conn.execute(sql.SQL("alter table {} add primary key (lifecycle_hash, lifecycle_copy)").format(table.identifier))
    if key is not None:
        conn.execute(sql.SQL("create index on {} ({})").format(table.identifier, sql.Identifier(key)))
    told = f"{MARK} {view}: its rows, as its own definition gives them; written by its refresh alone"
    conn.execute(sql.SQL("comment on table {} is {}").format(table.identifier, sql.Literal(told)))
    return True


def make_history(conn: Connection, table: QualifiedName, view: QualifiedName, columns: Sequence[ViewColumn]) -> None:
    """Make the table of a view's history, or take up columns that the view has got since."""
    history = history_table(table)
    conn.execute(
        sql.SQL(
            "create table if not exists {} (id bigint generated always as identity primary key,"
            " said_at timestamptz not null)"
        ).format(history.identifier)
    )
    for column in columns:
        conn.execute(
            sql.SQL("alter table {} add column if not exists {} {}").format(
                history.identifier,
                sql.Identifier(column.name),
                sql.SQL(column.stored_as),  # printed by the server
            )
        )
    told = f"What view {view} said at each refresh; said_at is the moment."
    conn.execute(sql.SQL("comment on table {} is {}").format(history.identifier, sql.Literal(told)))
