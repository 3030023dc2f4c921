"""What would answer otherwise once old rows are gone from their table, by the catalog."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lifecycle.archive.layout import Archive
from lifecycle.database import Connection, rows
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase, translatable
from lifecycle.names import QualifiedName

# Views upon views, to the end. One that is passed by does not change, nor does what reads the table through it alone.
# A function is known by its text, which may name the table in a comment; a trigger on deletion, by its table.
CHANGED: Final = r"""
with recursive passed_by(oid) as (
    select c.oid from unnest(%(passed_by)s::text[]) p(name) join pg_class c on c.oid = to_regclass(p.name)
), reads(oid) as (
    select distinct r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
     where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
       and d.refobjid = to_regclass(%(source)s) and r.ev_class <> all (array(select oid from passed_by))
       and r.ev_class <> d.refobjid
       -- One that reads the other rows, too, misses nothing (lifecycle/views/archived.py).
       and not exists (select from pg_depend b join pg_rewrite o on o.oid = b.objid
                        where b.classid = 'pg_rewrite'::regclass and b.refclassid = 'pg_class'::regclass
                          and o.ev_class = r.ev_class and b.refobjid = to_regclass(%(beside)s))
     union
    select r.ev_class from reads v
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
                      and d.refobjid = v.oid
      join pg_rewrite r on r.oid = d.objid
     where r.ev_class <> v.oid and r.ev_class <> all (array(select oid from passed_by))
)
select case c.relkind when 'm' then 'materialized view' else 'view' end, format('%%I.%%I', n.nspname, c.relname), ''
  from reads v join pg_class c on c.oid = v.oid join pg_namespace n on n.oid = c.relnamespace
 where c.relpersistence <> 't'  -- its session's own, and gone when that says so
 union all
select 'function', p.oid::regprocedure::text, ''
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname not in ('pg_catalog', 'information_schema', 'lifecycle') and n.nspname <> all (%(managed)s)
   and (p.prosrc ~* ('\m' || regexp_replace(%(name)s, '\W', '\\\&', 'g') || '\M')
        or exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid
                      and d.refclassid = 'pg_class'::regclass and d.refobjid = to_regclass(%(source)s)))
   and (n.nspname, p.proname) is distinct from (%(own_schema)s::name, %(own_function)s::name)
   and not exists (select from pg_depend e
                    where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')
 union all
select 'policy', quote_ident(p.polname), p.polrelid::regclass::text
  from pg_policy p
 where p.polrelid <> to_regclass(%(source)s)
   and exists (select from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                  and d.refclassid = 'pg_class'::regclass and d.refobjid = to_regclass(%(source)s))
 union all
select 'trigger', quote_ident(t.tgname), t.tgrelid::regclass::text
  from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace
 where t.tgrelid = to_regclass(%(source)s) and not t.tgisinternal and t.tgtype & 8 <> 0 and n.nspname <> 'lifecycle'
 order by 1, 2, 3
"""
FUNCTION: Final = "function"
TRIGGER: Final = "trigger"
KINDS: Final = {
    "view": translatable("view {name}"),
    "materialized view": translatable("materialized view {name}"),
    FUNCTION: translatable("function {name}"),
    "policy": translatable("policy {name} on {table}"),
    TRIGGER: translatable("trigger {name} on {table}"),
}
# A row that others point to cannot leave: they would be deleted, changed or in the way.
REFERENCES: Final = """
select distinct k.conrelid::regclass::text from pg_constraint k
 where k.contype = 'f' and k.confrelid = to_regclass(%s) and k.conparentid = 0 order by 1
"""


@dataclass(frozen=True)
class Reader:
    """A view, function, policy or trigger that the archive would change; the last two are those of `table`."""

    kind: str
    name: str
    table: str

    @property
    def told(self) -> Phrase:
        return Phrase(KINDS[self.kind], name=self.name, table=self.table)

    def __str__(self) -> str:
        return str(self.told)


def readers_without(
    conn: Connection,
    source: QualifiedName,
    beside: QualifiedName,
    passed_by: Sequence[QualifiedName] = (),
    managed_schemas: tuple[str, ...] = (),
    own_function: QualifiedName | None = None,
) -> tuple[Reader, ...]:
    """Everything that reads a table and not the rows `beside` it, views upon views included, by kind and name.

    Views that are `passed_by` do not need those rows; `own_function` is one of ours.
    """
    values = {
        "source": str(source),
        "beside": str(beside),
        "passed_by": list(map(str, passed_by)),
        "name": source.name,
        "managed": list(managed_schemas),
        "own_schema": own_function.schema if own_function else None,
        "own_function": own_function.name if own_function else None,
    }
    return tuple(Reader(*row) for row in rows(conn, CHANGED, values))


def changed_readers(conn: Connection, archive: Archive, managed_schemas: tuple[str, ...] = ()) -> tuple[Reader, ...]:
    """Everything that the archive would change, in order of kind and name."""
    declared = archive.declared
    recent = (declared.recent_view,) if declared.recent_view else ()
    return readers_without(
        conn, archive.source, declared.archive, recent, managed_schemas, own_function=declared.read_function
    )


def readers_in_the_way(conn: Connection, archive: Archive, managed_schemas: tuple[str, ...] = ()) -> tuple[Reader, ...]:
    """Those that somebody has to accept before a row moves.

    Functions are named by the plan and stand in nobody's way: that one names the table says little of what it answers.
    """
    return tuple(reader for reader in changed_readers(conn, archive, managed_schemas) if reader.kind != FUNCTION)


def require_acceptance(
    conn: Connection, archive: Archive, *, accepted: bool, managed_schemas: tuple[str, ...] = ()
) -> None:
    """RefusedError, which names them, unless nothing would change or that was accepted."""
    if accepted or not (found := readers_in_the_way(conn, archive, managed_schemas)):
        return
    told = ", ".join(map(str, found))
    raise RefusedError(
        f"{archive.source}: {len(found)} readers would answer otherwise without its old rows: {told}. Nothing was "
        "moved. If that may be, say accept_changed_views: true in archive.yaml, or `lifecycle chat archive "
        "--accept-changed-views` for one run."
    )


def require_no_references(conn: Connection, source: QualifiedName) -> None:
    """RefusedError when a foreign key leads to the table."""
    if found := [name for (name,) in rows(conn, REFERENCES, (str(source),))]:
        raise RefusedError(
            f"{source}: {', '.join(found)} references it by a foreign key, and would lose or change rows when old ones "
            "move. Nothing was moved; take the table out of archive.yaml or drop the foreign key."
        )
