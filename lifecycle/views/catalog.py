"""What the catalog says about a view that is to be kept, and about what it reads."""

from dataclasses import dataclass
from typing import Final

from lifecycle.database import Connection, rows
from lifecycle.names import QualifiedName
from lifecycle.views.definition import ViewColumn

READS_AS_CALLER: Final = (
    "exists (select from unnest(c.reloptions) o where o ~ '^security_invoker=' and o !~ '=(false|off|0|no)$')"
)
# Printed with an empty search_path, so that every name is qualified; without parentheses around joins for the reader
# of the text, with them for whoever runs it.
VIEW: Final = f"""
select c.relkind::text, pg_get_userbyid(c.relowner)::text, c.relowner = current_user::regrole,
       {READS_AS_CALLER},
       pg_relation_is_updatable(c.oid, false) <> 0
         or exists (select from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal)
         or exists (select from pg_rewrite w where w.ev_class = c.oid and w.rulename <> '_RETURN'),
       pg_get_viewdef(c.oid), pg_get_viewdef(c.oid, true), obj_description(c.oid, 'pg_class'),
       coalesce(array_to_string(c.reloptions, ', '), '')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s
"""
COLUMNS: Final = """
select a.attname::text, format_type(a.atttypid, a.atttypmod),
       case when t.typnamespace = 'pg_catalog'::regnamespace and t.typtype in ('b', 'r', 'm')
                 and (e.oid is null or e.typnamespace = 'pg_catalog'::regnamespace)
            then format_type(a.atttypid, a.atttypmod) else 'text' end
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
 where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
# As lifecycle.relations_read, which is not there before the first `lifecycle migrate`: the plan is asked for earlier.
RELATIONS_READ: Final = """
with recursive read (relid, relkind, depth) as (
    select to_regclass(%s)::oid, 'v'::"char", 0
     union
    select c.oid, c.relkind, 1 from read
      join pg_rewrite w on w.ev_class = read.relid
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
                      and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
      join pg_class c on c.oid = d.refobjid
     where read.relkind = 'v'
)
select distinct relid, relkind from read where depth > 0
"""
# The triggers of a table with tables that inherit from it see as little of their rows as those of a foreign table.
READ: Final = f"""
select n.nspname::text, c.relname::text,
       case when c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid) then 'f'
            else c.relkind::text end, c.oid::bigint
  from ({RELATIONS_READ}) r join pg_class c on c.oid = r.relid
  join pg_namespace n on n.oid = c.relnamespace where n.nspname <> 'lifecycle' order by 1, 2
"""
# Functions outside of PostgreSQL's own may read anything and answer differently each time.
FOREIGN_FUNCTIONS: Final = """
select distinct d.refobjid::regprocedure::text from pg_rewrite w
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_proc'::regclass
  join pg_proc p on p.oid = d.refobjid and p.pronamespace <> 'pg_catalog'::regnamespace
 where w.ev_class = %s::regclass order by 1
"""


# Of these the ones that may answer each reader differently: what such a function reads of its caller is not told.
READERS_OWN: Final = f"""
select distinct p.oid::regprocedure::text from pg_rewrite w
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_proc'::regclass
  join pg_proc p on p.oid = d.refobjid and p.pronamespace <> 'pg_catalog'::regnamespace and p.provolatile <> 'i'
  join pg_language l on l.oid = p.prolang and l.lanname not in ('c', 'internal')
 where w.ev_class = any (array(select r.relid from ({RELATIONS_READ}) r where r.relkind = 'v'
                               union all select %s::regclass)) order by 1
"""


@dataclass(frozen=True)
class View:
    """A view as it stands. `plain` is its definition as PostgreSQL runs it, `readable` without needless parentheses."""

    name: QualifiedName
    kind: str
    owner: str
    is_ours_to_change: bool
    reads_as_caller: bool
    is_written_through: bool
    plain: str
    readable: str
    comment: str | None
    options: str
    columns: tuple[ViewColumn, ...]


@dataclass(frozen=True)
class Source:
    """A relation that a view reads, with its columns' types by name."""

    name: QualifiedName
    kind: str
    columns: dict[str, str]


def read_view(conn: Connection, name: QualifiedName) -> View | None:
    """The view, or None when there is no relation of this name. The session's search_path must be empty."""
    found = rows(conn, VIEW, (name.schema, name.name))
    if not found:
        return None
    kind, owner, ours, as_caller, written, plain, readable, comment, options = found[0]
    columns = tuple(ViewColumn(*row) for row in rows(conn, COLUMNS, (str(name),)))
    return View(name, kind, owner, ours, as_caller, written, plain, readable, comment, options, columns)


def read_sources(conn: Connection, name: QualifiedName) -> tuple[Source, ...]:
    """Everything the view reads, other views included and looked through."""
    return tuple(
        Source(
            QualifiedName(schema, relation),
            kind,
            {column.name: column.type for column in (ViewColumn(*row) for row in rows(conn, COLUMNS, (oid,)))},
        )
        for schema, relation, kind, oid in rows(conn, READ, (str(name),))
    )


def read_table(conn: Connection, name: QualifiedName) -> Source:
    """A table that a view is going to read."""
    columns = {column.name: column.type for column in (ViewColumn(*row) for row in rows(conn, COLUMNS, (str(name),)))}
    return Source(name, "r", columns)


def foreign_functions(conn: Connection, name: QualifiedName) -> tuple[str, ...]:
    """Functions in the definition that are not PostgreSQL's own."""
    return tuple(signature for (signature,) in rows(conn, FOREIGN_FUNCTIONS, (str(name),)))


def functions_of_readers(conn: Connection, name: QualifiedName) -> tuple[str, ...]:
    """Functions in the definition, of views that it reads as well, that may answer each reader differently."""
    return tuple(signature for (signature,) in rows(conn, READERS_OWN, (str(name), str(name))))
