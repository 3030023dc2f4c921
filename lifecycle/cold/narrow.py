"""The narrow table of an event table: what views read of cold months, row for row.

It has the primary key, the time and the columns that such views read, a partition a month. Readers find a cold row
there, or in the thawed table while it is outside of its file (lifecycle/views/seam.py).
"""

from collections.abc import Iterable, Iterator
from typing import Final

from psycopg import sql

from lifecycle.archive.layout import exists
from lifecycle.cold.elsewhere import cold_rows
from lifecycle.cold.readers import cold_readers, columns_wanted
from lifecycle.cold.tables import ColdTable, cold_tables, narrow_name, thawed_name
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.names import QualifiedName, quoted
from lifecycle.views.archived import hide_elsewhere

LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
# Nothing of ours depends on a type of the application: what has one stands as its text.
COLUMNS: Final = """
select a.attname::text,
       case when n.nspname = 'pg_catalog' and t.oid < 16384 then format_type(a.atttypid, a.atttypmod) else 'text' end
       || case when a.attcollation <> t.typcollation and t.oid < 16384
               then format(' collate %%I.%%I', cn.nspname, c.collname) else '' end,
       exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey))
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
  left join pg_collation c on c.oid = a.attcollation left join pg_namespace cn on cn.oid = c.collnamespace
 where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
THAWED: Final = """
select lifecycle.thawed_table(p) from lifecycle.event_table_policies p where p.schema_name = %s and p.table_name = %s
"""
FOLLOW: Final = "select lifecycle.follow_columns(to_regclass(%s), to_regclass(%s))"
# Columns by which kept views find rows, with an index of the event table that begins with it and none here. By time
# months are told apart.
KEYS_WITHOUT_INDEX: Final = """
select c.name
  from lifecycle.watched_tables w cross join unnest(w.column_names) c(name)
 where w.source_schema = %(narrow_schema)s and w.source_name = %(narrow)s and exists (
           select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
            where i.indrelid = to_regclass(%(table)s) and a.attname = c.name and not i.indisprimary)
   and c.name <> %(time)s and not exists (
           select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
            where i.indrelid = to_regclass(%(narrow_table)s) and a.attname = c.name)
 order by 1
"""
MADE: Final = """
select c.relname::text, substring(obj_description(c.oid, 'pg_class') from '^lifecycle:(?:narrow|thawed) of (.*)$')
  from pg_class c
 where c.relnamespace = to_regnamespace('event_partitions') and not c.relispartition
   and obj_description(c.oid, 'pg_class') ~ '^lifecycle:(narrow|thawed) of ' and c.relkind = %s order by 1
"""
NAME_OF: Final = """
select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.oid = to_regclass(%s)
"""


def make_narrow_tables(conn: Connection, application: Application) -> Iterator[str]:
    """The narrow table of each event table whose cold months views read, with what they read; a line each."""
    for cold in cold_rows(conn, application):
        wanted = columns_wanted(cold_readers(conn, cold))
        if wanted or cold.casts:
            with conn.transaction():
                conn.execute(LOCK_TIMEOUT)
                value(conn, THAWED, (cold.table.schema, cold.table.name))
                yield from _make(conn, cold.declared, wanted)


def _make(conn: Connection, table: ColdTable, wanted: Iterable[str]) -> Iterator[str]:
    narrow = narrow_name(table.relation)
    followed = (str(table.relation), str(narrow))
    if exists(conn, narrow):
        value(conn, FOLLOW, followed)
    there = {name: kind for name, kind, _ in rows(conn, COLUMNS, (str(narrow),))}
    types = {name: (kind, in_key) for name, kind, in_key in rows(conn, COLUMNS, (str(table.relation),))}
    key = [name for name, (_, in_key) in types.items() if in_key or name == table.table.time_column]
    held = [name for name in types if name in key or name in wanted]
    if not there:
        conn.execute(
            sql.SQL("create table {} ({}, primary key ({})) partition by range ({})").format(
                narrow.identifier,
                sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(types[n][0])) for n in held),
                sql.SQL(", ").join(map(sql.Identifier, key)),
                sql.Identifier(table.table.time_column),
            )
        )
        told = sql.Literal(f"lifecycle:narrow of {table.relation}")
        conn.execute(sql.SQL("comment on table {} is {}").format(narrow.identifier, told))
        conn.execute(sql.SQL("select lifecycle.close_to_api({}::regclass)").format(sql.Literal(str(narrow))))
        value(conn, FOLLOW, followed)
        yield f"table {narrow}: made, with what views read of cold months: {', '.join(map(quoted, held))}"
        return
    for name in (name for name in there if name not in types):
        conn.execute(sql.SQL("alter table {} drop column {}").format(narrow.identifier, sql.Identifier(name)))
        yield f"table {narrow}: without {quoted(name)}, which {table.relation} has no more"
    for name in (name for name in held if name not in there):
        conn.execute(
            sql.SQL("alter table {} add column {} {}").format(
                narrow.identifier, sql.Identifier(name), sql.SQL(types[name][0])
            )
        )
        yield f"table {narrow}: also holds {quoted(name)} from now on, which views read of cold months"
    value(conn, FOLLOW, followed)


def index_narrow_tables(conn: Connection, application: Application) -> Iterator[str]:
    """Indexes by which kept views reach single keys, as they do in the event table; a line each."""
    for table in cold_tables(application):
        narrow = narrow_name(table.relation)
        names = {
            "narrow_schema": narrow.schema,
            "narrow": narrow.name,
            "narrow_table": str(narrow),
            "table": str(table.relation),
            "time": table.table.time_column,
        }
        for (column,) in rows(conn, KEYS_WITHOUT_INDEX, names) if exists(conn, narrow) else ():
            with conn.transaction():
                conn.execute(LOCK_TIMEOUT)
                made = sql.SQL("create index on {} ({})").format(narrow.identifier, sql.Identifier(column))
                conn.execute(made)
            yield f"table {narrow}: indexed by {quoted(column)}, by which kept views read it"


def take_narrow_tables_back(conn: Connection) -> Iterator[str]:
    """Let views read event tables alone again and drop what was beside them. Nothing may be cold any more."""
    narrow, thawed = rows(conn, MADE, ("p",)), rows(conn, MADE, ("r",))
    for _, parent in narrow:
        for schema, relation in rows(conn, NAME_OF, (parent,)):
            source = QualifiedName(schema, relation)
            yield from hide_elsewhere(conn, source, (narrow_name(source), thawed_name(source)))
    for name, _ in (*narrow, *thawed):
        table = QualifiedName("event_partitions", name)
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            conn.execute(sql.SQL("drop table {}").format(table.identifier))
        yield f"table {table}: dropped"
