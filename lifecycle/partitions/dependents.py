"""Views, materialized views, functions and policies that hold a table by its OID.

They would keep reading the old table after a swap of names, silently. A plain view is replaced in place, so its own
dependents, grants and comments stay. A materialized view cannot be: a new one is filled beside it first, then takes
its name, and whatever holds the old one by OID is replaced in turn.
"""

import re
from dataclasses import dataclass

from psycopg import sql

from lifecycle.database import Connection, politely, rows, run_all, value
from lifecycle.language import Phrase, translatable
from lifecycle.names import QualifiedName
from lifecycle.partitions.carried import in_tablespace, statistics_objects, tablespace_clause
from lifecycle.partitions.catalog import Names
from lifecycle.partitions.parent import INDEXES, bare_names, grants, names_mean_new
from lifecycle.partitions.phrases import phrases
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable

DIRECT = """
select distinct c.oid, n.nspname::text, c.relname::text, c.relkind::text, pg_has_role(c.relowner, 'usage')
  from pg_depend d
  join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
  join pg_class c on c.oid = r.ev_class
  join pg_namespace n on n.oid = c.relnamespace
 where d.refclassid = 'pg_class'::regclass and d.refobjid = %s and c.oid <> d.refobjid
 order by 2, 3
"""
FUNCTIONS = """
select distinct d.objid from pg_depend d
 where d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = %s
"""
POLICIES = """
select p.polname::text, n.nspname::text, c.relname::text,
       ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
       ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'
  from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
 where p.polrelid <> %(oid)s
   and p.oid in (select d.objid from pg_depend d
                  where d.classid = 'pg_policy'::regclass and d.refclassid = 'pg_class'::regclass
                    and d.refobjid = %(oid)s)
 order by 3, 1
"""
VIEW_TEXT = "select rtrim(pg_get_viewdef(%s::oid, true), ';'), coalesce(array_to_string(reloptions, ', '), ''), "
VIEW = (
    VIEW_TEXT
    + "relispopulated, pg_get_userbyid(relowner), obj_description(oid, 'pg_class') from pg_class where oid = %s"
)
COLUMN_COMMENTS = """
select a.attname, col_description(a.attrelid, a.attnum) from pg_attribute a
 where a.attrelid = %s and a.attnum > 0 and not a.attisdropped and col_description(a.attrelid, a.attnum) is not null
"""
# New objects are made in one schema, and the server's text names them without it (see bare_names).
SAME_NAMES = """
select count(*) as count, relname as name from (
    select c.relname from pg_class c where c.oid = any (%(oids)s) union all
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = any (%(oids)s)) made
 group by relname having count(*) > 1
"""
NAMES_OF_OTHERS = """
with moved as (select c.relname, c.relnamespace from pg_class c where c.oid = any (%(oids)s))
select c.oid::regclass::text as name
  from pg_class c where c.relname in (select relname from moved) and c.oid <> all (%(oids)s)
   and c.relnamespace in (select relnamespace from moved)
"""
COLUMN_SETTINGS_AND_CLUSTER = """
select format('alter materialized view %%s alter column %%I set statistics %%s', %(target)s::text, a.attname,
              a.attstattarget)
  from pg_attribute a where a.attrelid = %(oid)s and a.attnum > 0 and not a.attisdropped and a.attstattarget >= 0
 union all
select format('alter materialized view %%s alter column %%I set storage %%s', %(target)s::text, a.attname,
              case a.attstorage when 'p' then 'plain' when 'e' then 'external' when 'x' then 'extended' else 'main' end)
  from pg_attribute a join pg_type t on t.oid = a.atttypid
 where a.attrelid = %(oid)s and a.attnum > 0 and not a.attisdropped and a.attstorage <> t.typstorage
 union all
select format('alter materialized view %%s alter column %%I set compression %%s', %(target)s::text, a.attname,
              case a.attcompression when 'p' then 'pglz' else 'lz4' end)
  from pg_attribute a where a.attrelid = %(oid)s and a.attnum > 0 and not a.attisdropped and a.attcompression <> ''
 union all
select format('alter materialized view %%s cluster on %%I', %(target)s::text, c.relname)
  from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = %(oid)s and i.indisclustered
"""
LEFTOVERS = """
select c.relname::text from pg_class c
 where c.relnamespace = to_regnamespace(%s) and c.relkind = 'm' order by c.oid desc
"""


@dataclass(frozen=True)
class Dependent:
    """A view (kind v) or materialized view (kind m) that reads a relation by its OID."""

    oid: int
    schema: str
    name: str
    kind: str
    owned_by_us: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def qualified_name(self) -> str:
        """As PostgreSQL prints it."""
        return str(QualifiedName(self.schema, self.name))

    @property
    def staged(self) -> sql.Identifier:
        """Where the new materialized view waits until it takes its name."""
        return sql.Identifier(PARTITION_SCHEMA, self.name)


def direct_dependents(conn: Connection, oid: int) -> list[Dependent]:
    """Views and materialized views whose own query names the relation."""
    return [Dependent(*row) for row in rows(conn, DIRECT, (oid,))]


def affected_dependents(conn: Connection, oid: int) -> list[Dependent]:
    """All that a swap touches, in the order in which it can be made: dependents of a materialized view after it.

    A plain view keeps its OID, so what reads the table through a plain view is not touched.
    """
    depth: dict[Dependent, int] = {}
    waiting = [(dependent, 1) for dependent in direct_dependents(conn, oid)]
    while waiting:
        dependent, level = waiting.pop()
        if depth.get(dependent, 0) >= level:
            continue
        depth[dependent] = level
        if dependent.kind == "m":
            waiting += [(further, level + 1) for further in direct_dependents(conn, dependent.oid)]
    return sorted(depth, key=lambda dependent: (depth[dependent], dependent.qualified_name))


def ambiguous_names(conn: Connection, table_oid: int, affected: list[Dependent]) -> list[Phrase]:
    """Names that would mean two things while the new objects wait beside the old ones, one phrase each."""
    oids = [table_oid, *(dependent.oid for dependent in affected if dependent.kind == "m")]
    same = translatable(
        "{count} relations named {name} would have to wait in schema event_partitions; rename one first"
    )
    others = translatable("{name} has the name of a relation that the conversion makes anew; rename one of them first")
    return [
        *phrases(conn, same, SAME_NAMES, {"oids": oids}),
        *phrases(conn, others, NAMES_OF_OTHERS, {"oids": oids}),
    ]


def names_kept_by_the_server(conn: Connection, table: MonthlyTable, affected: list[Dependent]) -> list[Phrase]:
    """Views whose text keeps the table's schema, because a name inside them hides the bare one: one phrase each."""
    kept = []
    with conn.transaction():
        bare_names(conn, table.schema)
        for view in (dependent for dependent in affected if dependent.kind in ("v", "m")):
            text = value(conn, "select pg_get_viewdef(%s::oid)", (view.oid,))
            if re.search(rf'"?\b{re.escape(table.schema)}"?\."?{re.escape(table.name)}\b', text):
                kept.append(
                    Phrase(
                        "{view} also calls something of its own {name} (a WITH query); rename that",
                        view=view.qualified_name,
                        name=table.name,
                    )
                )
        conn.execute("reset search_path")
    return kept


def drop_leftovers(conn: Connection) -> None:
    """Drop materialized views that a run which died left waiting in the partition schema."""
    for (name,) in rows(conn, LEFTOVERS, (PARTITION_SCHEMA,)):
        conn.execute(sql.SQL("drop materialized view {}").format(sql.Identifier(PARTITION_SCHEMA, name)))


def fill_new_materialized_view(conn: Connection, schemas: tuple[str, ...], view: Dependent) -> None:
    """Build and fill the new materialized view beside the old one; locks nobody out."""
    with conn.transaction():
        bare_names(conn, *schemas)
        query, options, populated, owner, comment = rows(conn, VIEW, (view.oid, view.oid))[0]
        indexes = rows(conn, INDEXES, {"oid": view.oid, "skip": ""})
        column_comments = rows(conn, COLUMN_COMMENTS, (view.oid,))
        privileges = grants(conn, view.oid, view.staged)
        target = {"oid": view.oid, "target": view.staged.as_string(conn)}
        settings = [row[0] for row in rows(conn, COLUMN_SETTINGS_AND_CLUSTER, target)]
        names_mean_new(conn, *schemas)
        statements: list[str | sql.Composable] = [
            sql.SQL("create materialized view {} {} {} as {} with {}").format(
                view.staged,
                sql.SQL(f"with ({options})") if options else sql.SQL(""),
                tablespace_clause(conn, view.oid),
                sql.SQL(query),
                sql.SQL("data" if populated else "no data"),
            ),
            sql.SQL("comment on materialized view {} is {}").format(view.staged, sql.Literal(comment)),
        ]
        for definition, name, index_comment, tablespace in indexes:
            statements += in_tablespace(tablespace, definition)
            if index_comment:
                index = sql.Identifier(PARTITION_SCHEMA, name)
                statements.append(sql.SQL("comment on index {} is {}").format(index, sql.Literal(index_comment)))
        statements += settings
        for column, text in column_comments:
            place = sql.Identifier(PARTITION_SCHEMA, view.name, column)
            statements.append(sql.SQL("comment on column {} is {}").format(place, sql.Literal(text)))
        if owner != value(conn, "select current_user"):
            statements.append(
                sql.SQL("alter materialized view {} owner to {}").format(view.staged, sql.Identifier(owner))
            )
        if populated:
            statements.append(sql.SQL("analyze {}").format(view.staged))
        # Default privileges may have opened it to more than may read the old one.
        close = sql.SQL("select lifecycle.close_to_api({}::regclass)")
        run_all(conn, [*statements, close.format(sql.Literal(view.staged.as_string(conn))), *privileges])


def replacements(conn: Connection, oid: int) -> list[sql.Composable]:
    """Statements that make functions with a parsed body and policies of other tables read the new object."""
    statements: list[sql.Composable] = []
    for (function,) in rows(conn, FUNCTIONS, (oid,)):
        statements.append(sql.SQL(value(conn, "select pg_get_functiondef(%s)", (function,))))
    for policy, schema, table, using, check in rows(conn, POLICIES, {"oid": oid}):
        statements.append(
            sql.SQL("alter policy {} on {}{}{}").format(
                sql.Identifier(policy), sql.Identifier(schema, table), sql.SQL(using or ""), sql.SQL(check or "")
            )
        )
    return statements


def switch_dependents(conn: Connection, names: Names, old_oid: int) -> tuple[tuple[str, ...], float]:
    """Make everything that reads the old table by OID read its parent; returns the names and milliseconds under lock.

    The old table itself stays unlocked: only readers of the views wait, and no longer than the lock timeout.
    """
    drop_leftovers(conn)
    affected = affected_dependents(conn, old_oid)
    materialized = [dependent for dependent in affected if dependent.kind == "m"]
    # Bare in the server's text must be every name that gets a new meaning: the table and its materialized views.
    schemas = (names.table.schema, *(view.schema for view in materialized))
    for view in materialized:
        fill_new_materialized_view(conn, schemas, view)

    def switch() -> None:
        bare_names(conn, *schemas)
        replaced: list[sql.Composable] = []
        for view in (dependent for dependent in affected if dependent.kind == "v"):
            query, options, *_ = rows(conn, VIEW, (view.oid, view.oid))[0]
            replaced.append(
                sql.SQL("create or replace view {} {} as {}").format(
                    view.identifier,
                    sql.SQL(f"with ({options})") if options else sql.SQL(""),
                    sql.SQL(query),
                )
            )
        for oid in (old_oid, *(view.oid for view in materialized)):
            replaced += replacements(conn, oid)
        statistics = [text for view in materialized for text in statistics_objects(conn, view.oid)[1]]
        names_mean_new(conn, *schemas)
        takes_name: list[sql.Composable] = []
        for view in reversed(materialized):
            takes_name.append(sql.SQL("drop materialized view {}").format(view.identifier))
        for view in materialized:
            takes_name.append(
                sql.SQL("alter materialized view {} set schema {}").format(view.staged, sql.Identifier(view.schema))
            )
        run_all(conn, [*replaced, *takes_name, *statistics])

    if not affected and not replacements(conn, old_oid):
        return (), 0.0
    _, milliseconds = politely(
        conn,
        switch,
        what=f"switching the views of {names.table.qualified_name}",
        relation=affected[0].qualified_name if affected else names.table.qualified_name,
    )
    return tuple(dependent.qualified_name for dependent in affected), milliseconds
