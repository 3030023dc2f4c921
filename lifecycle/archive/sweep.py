"""Archived rows whose group is gone while the triggers were off: deleted by the next run, in small batches."""

import time
from collections.abc import Callable
from typing import Final

from psycopg import sql

from lifecycle.archive.layout import Layout
from lifecycle.database import Connection, politely, without_statement_timeout

BATCH: Final = 5000
ORPHANS: Final = sql.SQL("""
select a.{id} from {archive} a
 where not exists (select from {groups} g where g.{groups_id}::{kind} = a.{group}) limit {most}
""")
# Looked at again at the moment of deletion: a group may have been written anew.
DELETE: Final = sql.SQL("""
delete from {archive} a
 where a.{id} = any (%s) and not exists (select from {groups} g where g.{groups_id}::{kind} = a.{group})
""")
FORGET: Final = sql.SQL("""
delete from lifecycle.restored_groups r
 where r.archive_schema = {schema} and r.archive_table = {table}
   and not exists (select from {groups} g where g.{groups_id}::text = r.group_key)
""")


def delete_orphans(conn: Connection, layout: Layout, sleep: Callable[[float], None] = time.sleep) -> int:
    """How many rows went. None go unless the application's own foreign key lets rows go with their group."""
    if not layout.goes_with_group:
        return 0
    declared = layout.archive.declared
    names = {
        "archive": declared.archive.identifier,
        "id": sql.Identifier(declared.id),
        "group": sql.Identifier(declared.group),
        "groups": declared.groups.table.identifier,
        "groups_id": sql.Identifier(declared.groups.id),
        "kind": sql.SQL(layout.column(declared.group).stored),
    }
    find, delete = ORPHANS.format(most=sql.Literal(BATCH), **names), DELETE.format(**names)
    deleted = 0
    while True:
        with without_statement_timeout(conn):
            found = [key for (key,) in conn.execute(find).fetchall()]
        if not found:
            break
        gone, _ = politely(
            conn,
            lambda keys=found: conn.execute(delete, (keys,)).rowcount,  # type: ignore[misc]
            what=f"rows of groups that are gone, in {declared.archive}",
            relation=str(declared.archive),
            sleep=sleep,
        )
        deleted += gone
        if not gone:
            break
    schema, table = sql.Literal(declared.archive.schema), sql.Literal(declared.archive.name)
    conn.execute(FORGET.format(schema=schema, table=table, groups=names["groups"], groups_id=names["groups_id"]))
    return deleted
