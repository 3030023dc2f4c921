"""Indexes on the application's tables that the life cycle's own reads need, built without stopping anybody."""

from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.errors import BusyError, RefusedError
from lifecycle.policy import SUPPORTING_INDEXES, SupportingIndex

# CREATE INDEX CONCURRENTLY waits for older transactions; nobody but VACUUM and ALTER waits behind it.
PATIENCE: Final = "10min"
# Whether some valid index of the table already begins with the column, under whatever name.
SERVED: Final = """
select exists (
    select from pg_index i
      join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
     where i.indrelid = to_regclass(%s) and a.attname = %s
       and m.amname = 'btree' and i.indisvalid and i.indpred is null)
"""
UNDER_OUR_NAME: Final = """
select i.indisvalid from pg_index i where i.indexrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""


def create_statement(index: SupportingIndex) -> sql.Composed:
    """CREATE INDEX CONCURRENTLY for one index; runs outside of a transaction only."""
    return sql.SQL("create index concurrently if not exists {} on {} ({})").format(
        sql.Identifier(index.name), sql.Identifier(index.schema, index.table), sql.Identifier(index.column)
    )


def mark_statement(index: SupportingIndex) -> sql.Composed:
    """The comment by which the way back knows the indexes that are ours to drop."""
    return sql.SQL("comment on index {} is {}").format(
        sql.Identifier(index.schema, index.name), sql.Literal(f"lifecycle: {index.reason}")
    )


def build_supporting_indexes(conn: Connection) -> tuple[str, ...]:
    """Build what is missing and return the names of the indexes built; safe to repeat.

    An invalid index under our name, the leftover of a broken build, is dropped and built anew; a table that does not
    exist is passed over. Raises BusyError when an older transaction stays open for longer than the patience, and
    RefusedError when the name belongs to another index.
    """
    return tuple(index.name for index in SUPPORTING_INDEXES if _build(conn, index))


def _build(conn: Connection, index: SupportingIndex) -> bool:
    table = f"{index.schema}.{index.table}"
    if value(conn, "select to_regclass(%s)", (table,)) is None or value(conn, SERVED, (table, index.column)):
        return False
    found = rows(conn, UNDER_OUR_NAME, (index.schema, index.name))
    if found and found[0][0]:
        raise RefusedError(
            f"index {index.schema}.{index.name} exists and does not begin with {index.column} of {table}; "
            "rename it, then run `lifecycle migrate` again"
        )
    try:
        conn.execute(f"set lock_timeout = '{PATIENCE}'")
        if found:
            name = sql.Identifier(index.schema, index.name)
            conn.execute(sql.SQL("drop index concurrently {}").format(name))
        conn.execute(create_statement(index))
        conn.execute(mark_statement(index))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise BusyError(
            f"index {index.name} on {table}: not finished within {PATIENCE}, because older transactions, VACUUM or "
            "ALTER are in the way. Wait for them or end them, then run `lifecycle migrate` again; it is built anew."
        ) from error
    finally:
        if not conn.closed:
            conn.execute("set lock_timeout = 0")
    return True
