"""Take archives back; the rows come first."""

from collections.abc import Iterator
from typing import Final

from psycopg import sql

from lifecycle.archive.layout import Archive, archives_of, exists
from lifecycle.archive.surroundings import TRIGGERS
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from lifecycle.views.archived import hide_elsewhere

MADE: Final = """
select distinct archive_schema, archive_table from lifecycle.archived_columns order by 1, 2
"""
EMPTY: Final = sql.SQL("select not exists (select from {} limit 1)")
FUNCTIONS: Final = """
select p.oid::regprocedure::text from pg_proc p join pg_type t on t.oid = p.prorettype
 where t.typrelid = to_regclass(%s)
"""
LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"


def take_archives_back(conn: Connection, application: Application) -> Iterator[str]:
    """Drop what `lifecycle migrate` made of archives, declared or not any more.

    RefusedError, before anything is changed, while one holds rows.
    """
    if value(conn, "select to_regclass('lifecycle.archived_columns')") is None:
        return
    made = [QualifiedName(*row) for row in rows(conn, MADE)]
    for name in made:
        if exists(conn, name) and conn.execute(EMPTY.format(name.identifier)).fetchone() == (False,):
            raise RefusedError(
                f"{name} holds rows, which would be lost. Bring every group back with `lifecycle chat restore --all`, "
                "then run this again."
            )
    declared = {archive.declared.archive: archive for archive in archives_of(application.archived_tables)}
    for name in made:
        if archive := declared.get(name):
            yield from hide_elsewhere(conn, archive.source, (name,))
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            yield from _drop(conn, name, declared.get(name))


def _drop(conn: Connection, name: QualifiedName, archive: Archive | None) -> Iterator[str]:
    for schema, table_name, trigger, given in rows(conn, TRIGGERS):
        if bytes(given).split(b"\0")[:2] == [name.schema.encode(), name.name.encode()]:
            table = QualifiedName(schema, table_name)
            conn.execute(sql.SQL("drop trigger {} on {}").format(sql.Identifier(trigger), table.identifier))
            yield f"trigger {trigger} on {table}: dropped"
    view = archive.declared.recent_view if archive else None
    if view is not None and exists(conn, view):
        conn.execute(sql.SQL("drop view {}").format(view.identifier))
        yield f"view {view}: dropped"
    for (signature,) in rows(conn, FUNCTIONS, (str(name),)):
        conn.execute(sql.SQL("drop function {}").format(sql.SQL(signature)))
        yield f"function {signature}: dropped"
    conn.execute(sql.SQL("drop table if exists {}").format(name.identifier))
    yield f"archive {name}: dropped"
