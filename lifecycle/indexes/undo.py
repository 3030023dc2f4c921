"""The way back: indexes that were built here go, those of the application that serve in their place stay."""

from collections.abc import Iterator
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.indexes.build import patiently

# By the comment that each got when it was built.
OURS: Final = """
select n.nspname::text, c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
 where obj_description(c.oid, 'pg_class') like 'lifecycle: %' and not i.indisunique order by 1, 2
"""


def drop_indexes(conn: Connection, _application: Application) -> Iterator[str]:
    """Drop every index of ours, without stopping anybody; needs nothing of the declarations."""
    for schema, name in rows(conn, OURS):
        with patiently(conn, f"index {name}"):
            conn.execute(sql.SQL("drop index concurrently if exists {}").format(sql.Identifier(schema, name)))
        yield f"index {name}: dropped"
