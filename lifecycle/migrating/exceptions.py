"""Which objects of ours pin one of the application, and why that has to be: the short list of what may.

Whatever else of ours were in the way of a migration of the application is a fault.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.names import QualifiedName

# Objects of ours, as pg_depend knows them, and what of others they cannot be without ('n': normal). What goes along
# with it ('a': automatic), such as a trigger with its table or an index with its column, is in nobody's way. Partitions
# follow their table, and what they hold is what it holds.
PINS: Final = """
with relations as (
    select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('lifecycle', 'private', 'event_partitions') and not c.relispartition
        or format('%%I.%%I', n.nspname, c.relname) = any (%(made)s)
        or obj_description(c.oid, 'pg_class') like 'lifecycle: %%'
), ours(classid, objid, kind) as (
    select 'pg_class'::regclass, oid, 'relation' from relations
    union all select 'pg_rewrite'::regclass, r.oid, 'view' from pg_rewrite r join relations o on o.oid = r.ev_class
    union all select 'pg_attrdef'::regclass, d.oid, 'default' from pg_attrdef d join relations o on o.oid = d.adrelid
    union all select 'pg_constraint'::regclass, k.oid, 'constraint' from pg_constraint k
                join relations o on o.oid = k.conrelid
    union all select 'pg_type'::regclass, t.oid, 'type' from pg_type t join relations o on o.oid = t.typrelid
    union all select 'pg_type'::regclass, t.typarray, 'type' from pg_type t join relations o on o.oid = t.typrelid
    union all select 'pg_trigger'::regclass, t.oid, 'trigger' from pg_trigger t
               where starts_with(t.tgname, 'lifecycle') and not t.tgisinternal
    union all select 'pg_policy'::regclass, p.oid, 'policy' from pg_policy p where starts_with(p.polname, 'lifecycle: ')
    union all select 'pg_proc'::regclass, p.oid, 'function' from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                join lifecycle.own_functions f
                  on f.signature = quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '('
                                   || pg_get_function_identity_arguments(p.oid) || ')'
)
select distinct o.kind, pg_describe_object(d.classid, d.objid, d.objsubid),
       pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid),
       d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0
       and (exists (select from pg_class t where t.oid = d.refobjid and t.relkind in ('r', 'p')) and o.kind <> 'trigger'
            or exists (select from pg_attribute a join pg_type t on t.oid = a.atttypid
                        where a.attrelid = d.refobjid and a.attnum = d.refobjsubid and t.typcategory = 'D')
            or exists (select from pg_constraint k where k.conrelid = d.refobjid and d.refobjsubid = any (k.conkey)
                                                     and k.contype in ('p', 'u', 'f')))
  from pg_depend d join ours o on o.classid = d.classid and o.objid = d.objid
 where d.deptype = 'n' and d.refobjid >= 16384
   and d.refclassid = any (array['pg_class', 'pg_proc', 'pg_type', 'pg_constraint']::regclass[])
   and not exists (select from ours p where p.classid = d.refclassid and p.objid = d.refobjid)
   and not exists (select from pg_depend e
                    where e.classid = d.refclassid and e.objid = d.refobjid and e.deptype = 'e')
 order by 1, 2, 3
"""


# Keys of kept views, which their triggers note.
WATCHED: Final = """
select pg_describe_object('pg_class'::regclass, a.attrelid, a.attnum)
  from lifecycle.watched_tables w
  join pg_attribute a on a.attrelid = to_regclass(format('%I.%I', w.source_schema, w.source_name))
                     and a.attname = any (w.column_names || w.time_column)
"""
HAS_WATCHED: Final = "select to_regclass('lifecycle.watched_tables') is not null"


@dataclass(frozen=True)
class Reason:
    """A kind of object that may pin columns of the application: why, and what its next migration has to do."""

    kind: str
    why: str
    recipe: str


@dataclass(frozen=True)
class Pin:
    """`object` of ours cannot be without `pinned`; `plain`: a column of a table, of a trigger's a key or a moment."""

    kind: str
    object: str
    pinned: str
    plain: bool


REASONS: Final = (
    Reason(
        "trigger",
        "a trigger that notes what has to be computed again looks at keys and moments alone, so that a statement that "
        "changes neither costs nothing",
        "`drop trigger` before the key or the moment goes or changes its type; `lifecycle migrate` makes it anew",
    ),
    Reason(
        "policy",
        "a policy asks the columns that say whose row it is, and PostgreSQL lets no such column go or change its type "
        "under it: better a migration that stops than rows that lie open",
        "`drop policy` before the column goes or changes its type; `lifecycle migrate` makes it anew",
    ),
    Reason(
        "view",
        "the view of recent rows of an archived table has every column of it, as readers expect",
        "`drop view` before a column goes or changes its type; `lifecycle migrate` makes it anew. New and renamed "
        "columns need nothing",
    ),
)


def pins(conn: Connection, application: Application) -> tuple[Pin, ...]:
    """Every object of the application that one of ours holds. Needs a migrated database."""
    made = [str(name) for name in _made_by_archives(application)]
    watched = {name for (name,) in rows(conn, WATCHED)} if value(conn, HAS_WATCHED) else set()
    return tuple(
        Pin(kind, name, pinned, plain or (kind == "trigger" and pinned in watched))
        for kind, name, pinned, plain in rows(conn, PINS, {"made": made})
    )


def _made_by_archives(application: Application) -> Iterator[QualifiedName]:
    for table in application.archived_tables.values():
        yield table.archive
        if table.recent_view:
            yield table.recent_view


def unexcused(found: Iterable[Pin]) -> tuple[Pin, ...]:
    """Those for which there is no reason: what is no plain column, and what objects of other kinds hold."""
    excused = {reason.kind for reason in REASONS}
    return tuple(pin for pin in found if pin.kind not in excused or not pin.plain)
