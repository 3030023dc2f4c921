"""A whole group of rows (a conversation) as text, wherever its rows lie."""

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from lifecycle.archive.layout import GZIP, SHA256, ArchivedColumn, Layout
from lifecycle.archive.text import unpack
from lifecycle.database import Connection, without_statement_timeout
from lifecycle.errors import RefusedError

KNOWN: Final = sql.SQL("select exists (select from {groups} g where g.{id} = %(group)s::{kind})")
# One statement, so that a row on its way from one table to the other is neither missed nor seen twice.
ROWS: Final = sql.SQL("""
select c.* from (
    select m.{time}::{moment} as row_at, m.{id}::text as row_id, false as archived{live}
      from {source} m where m.{group} = %(group)s::{kind}
     union all
    select a.{time}::{moment}, a.{id}::text, true{kept} from {archive} a where a.{group} = %(group)s::{stored}
) c order by c.row_at, c.row_id
""")


@dataclass(frozen=True)
class Entry:
    """One row of a group: its moment as PostgreSQL prints it, in UTC, and the shown columns as text."""

    at: str
    shown: tuple[str | None, ...]
    archived: bool


def require_group(conn: Connection, layout: Layout, group: str) -> None:
    """RefusedError when there is none of that key."""
    groups = layout.archive.declared.groups
    query = KNOWN.format(groups=groups.table.identifier, id=sql.Identifier(groups.id), kind=layout.group_type)
    try:
        with conn.transaction():
            found = conn.execute(query, {"group": group}).fetchone()
    except psycopg.DataError:
        raise RefusedError(f"{group!r} is no key of {groups.table}") from None
    if found is None or not found[0]:
        raise RefusedError(f"there is no row {group} in {groups.table}; its owner may have been erased")


def read_group(conn: Connection, layout: Layout, group: str) -> tuple[Entry, ...]:
    """The whole group, archived rows included, oldest first.

    RefusedError for a group that does not exist, VerificationError when an archived text is damaged.
    """
    declared = layout.archive.declared
    shown = [layout.column(name) for name in declared.shown]
    query = ROWS.format(
        time=sql.Identifier(declared.time),
        id=sql.Identifier(declared.id),
        group=sql.Identifier(declared.group),
        moment=sql.SQL(layout.column(declared.time).type),
        source=layout.archive.source.identifier,
        archive=declared.archive.identifier,
        kind=layout.group_type,
        stored=sql.SQL(layout.column(declared.group).stored),
        live=sql.SQL("").join(_parts(column, sql.SQL("m"), live=True) for column in shown),
        kept=sql.SQL("").join(_parts(column, sql.SQL("a"), live=False) for column in shown),
    )
    with without_statement_timeout(conn):
        conn.execute("set local timezone = 'UTC'")
        require_group(conn, layout, group)
        found = conn.execute(
            sql.SQL("select r.row_at::text, r.archived, r.* from ({}) r").format(query), {"group": group}
        ).fetchall()
    return tuple(Entry(row[0], tuple(_texts(shown, row[5:])), row[1]) for row in found)


def _parts(column: ArchivedColumn, row: sql.Composable, *, live: bool) -> sql.Composed:
    """A column as three: its text, its gzip and the checksum, as the archive may keep it."""
    text = sql.SQL(", {}.{}::text").format(row, sql.Identifier(column.name))
    if live or not column.compressed:
        return sql.SQL("{}, null::bytea, null::bytea").format(text)
    ends = (sql.SQL(", {}.{}").format(row, sql.Identifier(column.name + end)) for end in (GZIP, SHA256))
    return sql.SQL("").join([text, *ends])


def _texts(shown: list[ArchivedColumn], values: tuple[Any, ...]) -> list[str | None]:
    found: list[str | None] = []
    for number in range(len(shown)):
        text, gzip, sha256 = values[3 * number : 3 * number + 3]
        found.append(text if sha256 is None else unpack(text, gzip, sha256))
    return found
