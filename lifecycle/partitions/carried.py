"""What CREATE TABLE ... LIKE and the text of an index leave out: carried over here, one by one."""

from dataclasses import dataclass
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.partitions.tables import PARTITION_SCHEMA

# Storage parameters and tablespace of an index, which pg_get_constraintdef() leaves out.
# k is its constraint, o the index.
WITH: Final = "coalesce(' with (' || array_to_string(o.reloptions, ', ') || ')', '')"
PLACE: Final = (
    "coalesce(' using index tablespace ' || quote_ident((select spcname from pg_tablespace"
    " where oid = o.reltablespace)), '')"
)
DEFERRED: Final = (
    "case when k.condeferrable then ' DEFERRABLE' else '' end"
    " || case when k.condeferred then ' INITIALLY DEFERRED' else '' end"
)
CONSTRAINT_WITH_INDEX: Final = (
    f"left(pg_get_constraintdef(k.oid), length(pg_get_constraintdef(k.oid)) - length({DEFERRED}))"
    f" || {WITH} || {PLACE} || {DEFERRED}"
)
KEY: Final = f"""
select k.conname::text,
       coalesce((select ' include (' || string_agg(quote_ident(a.attname), ', ' order by u.o) || ')'
                   from unnest(i.indkey) with ordinality u(n, o)
                   join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n
                  where u.o > i.indnkeyatts), '') || {WITH}, {PLACE}, {DEFERRED},
       obj_description(k.oid, 'pg_constraint'), obj_description(o.oid, 'pg_class')
  from pg_constraint k join pg_class o on o.oid = k.conindid join pg_index i on i.indexrelid = o.oid
 where k.conrelid = %s and k.contype = 'p'
"""  # noqa: S608 - constants of ours
STATISTICS: Final = """
select n.nspname::text, s.stxname::text, pg_get_statisticsobjdef(s.oid), pg_get_userbyid(s.stxowner),
       obj_description(s.oid, 'pg_statistic_ext'), coalesce(s.stxstattarget, -1),
       case when octet_length(l.legacy) <= 63 and not exists (
           select from pg_statistic_ext o where o.stxname = l.legacy and o.stxnamespace = s.stxnamespace)
       then l.legacy else format('lifecycle_%%s_legacy', s.oid) end
  from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace
 cross join lateral (select s.stxname || '_legacy') l(legacy) where s.stxrelid = %s order by 1, 2
"""
INDEX_SETTINGS: Final = """
select format('alter index %%I.%%I alter column %%s set statistics %%s', %(schema)s::text, c.relname, a.attnum,
              a.attstattarget)
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_attribute a on a.attrelid = c.oid
 where i.indrelid = %(oid)s and a.attstattarget >= 0 and i.indisvalid
 union all
select format('alter index %%I.%%I depends on extension %%I', %(schema)s::text, c.relname, e.extname)
  from pg_index i join pg_class c on c.oid = i.indexrelid
  join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'x'
  join pg_extension e on d.refclassid = 'pg_extension'::regclass and e.oid = d.refobjid
 where i.indrelid = %(oid)s and i.indisvalid
"""
TRIGGER_SETTINGS: Final = """
select format('alter trigger %%I on %%I.%%I depends on extension %%I', t.tgname, %(schema)s::text, %(table)s::text,
              e.extname)
  from pg_trigger t join pg_depend d on d.classid = 'pg_trigger'::regclass and d.objid = t.oid and d.deptype = 'x'
  join pg_extension e on d.refclassid = 'pg_extension'::regclass and e.oid = d.refobjid
 where t.tgrelid = %(oid)s
"""


@dataclass(frozen=True)
class PrimaryKey:
    """What a primary key has besides its columns: INCLUDE and WITH, a tablespace, when it is checked, comments."""

    name: str
    parameters: str
    place: str
    deferred: str
    comment: str | None
    index_comment: str | None

    def definition(self, columns: sql.Composable) -> sql.Composable:
        """As ADD CONSTRAINT takes it, over other columns."""
        return sql.SQL("primary key ({}){}").format(columns, sql.SQL(self.parameters + self.place + self.deferred))

    def index_parameters(self) -> sql.Composable:
        """As CREATE INDEX takes them."""
        return sql.SQL(self.parameters + self.place.replace("using index tablespace", "tablespace", 1))


def primary_key(conn: Connection, oid: int) -> PrimaryKey:
    """The table's primary key, which it must have."""
    return PrimaryKey(*rows(conn, KEY, (oid,))[0])


def tablespace_clause(conn: Connection, oid: int) -> sql.Composable:
    """`tablespace NAME` for a new table in the place of this one; nothing where it has no place of its own."""
    name = value(
        conn,
        "select t.spcname::text from pg_class c join pg_tablespace t on t.oid = c.reltablespace where c.oid = %s",
        (oid,),
    )
    return sql.SQL("tablespace {}").format(sql.Identifier(name)) if name else sql.SQL("")


def in_tablespace(name: str | None, statement: str) -> list[str | sql.Composable]:
    """CREATE INDEX, made in a tablespace: the server's text of an index does not name it."""
    if name is None:
        return [statement]
    setting = sql.SQL("set local default_tablespace = {}")
    return [setting.format(sql.Literal(name)), statement, setting.format(sql.Literal(""))]


def settings_of_indexes_and_triggers(conn: Connection, oid: int, table: str) -> list[str]:
    """Statements that give the parent's indexes and triggers, which have the same names, what theirs have."""
    place = {"oid": oid, "schema": PARTITION_SCHEMA, "table": table}
    return [row[0] for query in (INDEX_SETTINGS, TRIGGER_SETTINGS) for row in rows(conn, query, place)]


def statistics_objects(conn: Connection, oid: int) -> tuple[list[sql.Composable], list[str | sql.Composable]]:
    """Statements that put the table's extended statistics aside, and those that make them again under their names.

    The caller has made names bare and runs the second where the table's name means the parent.
    """
    aside: list[sql.Composable] = []
    made: list[str | sql.Composable] = []
    for schema, name, definition, owner, comment, target, legacy_name in rows(conn, STATISTICS, (oid,)):
        place = sql.Identifier(schema, name)
        aside.append(sql.SQL("alter statistics {} rename to {}").format(place, sql.Identifier(legacy_name)))
        made.append(definition)
        if target >= 0:
            made.append(sql.SQL("alter statistics {} set statistics {}").format(place, sql.Literal(target)))
        made += [
            sql.SQL("alter statistics {} owner to {}").format(place, sql.Identifier(owner)),
            sql.SQL("comment on statistics {} is {}").format(place, sql.Literal(comment)),
        ]
    return aside, made
