"""What the application changed on its table between the attachment and the swap of names.

For that time (long, if a run died there) the table still bears its name, so a migration of the application alters it
and not the parent that waits. Access is brought over; for the rest the application's owner must decide.
"""

from psycopg import sql

from lifecycle.database import Connection, rows, run_all
from lifecycle.errors import RefusedError
from lifecycle.partitions.catalog import Names, TableStructure, table_structure
from lifecycle.partitions.parent import access_statements, bare_names, names_mean_new

# Each row: what one of the two has and the other has not. Copies of the parent's own triggers are no news.
DIFFERENCES = """
with things as (
    select i.indrelid as oid, 'index' || substr(pg_get_indexdef(i.indexrelid),
           position(' USING ' in pg_get_indexdef(i.indexrelid))) as thing
      from pg_index i where i.indisvalid and not i.indisprimary
     union all
    select t.tgrelid, 'trigger ' || t.tgname || ' ' || t.tgenabled::text from pg_trigger t
     where not t.tgisinternal and t.tgparentid = 0 and t.tgtype & 1 = 0
     union all
    select t.tgrelid, 'trigger ' || t.tgname from pg_trigger t
     where not t.tgisinternal and t.tgparentid = 0 and t.tgtype & 1 = 1 and t.tgrelid = %(old)s
     union all
    select k.conrelid, 'constraint ' || k.conname || ' ' || pg_get_constraintdef(k.oid) from pg_constraint k
     where k.contype in ('c', 'f')
     union all
    select d.adrelid, 'default of ' || a.attname || ' ' || pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d
      join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
     where not exists (select from pg_attribute p  -- there a default stands in for the parent's identity
                        where p.attrelid = %(parent)s and p.attname = a.attname and p.attidentity <> '')
     union all
    select c.oid, 'replica identity ' || c.relreplident::text from pg_class c
)
select thing from things where oid = %(old)s except select thing from things where oid = %(parent)s
 union all
(select thing from things where oid = %(parent)s except select thing from things where oid = %(old)s)
 order by 1
"""


def refuse_changed_structure(conn: Connection, names: Names, old: TableStructure, parent: TableStructure) -> None:
    """Raise RefusedError naming what the old table and its parent do not have in common."""
    different = [row[0] for row in rows(conn, DIFFERENCES, {"old": old.oid, "parent": parent.oid})]
    if different:
        waiting = names.parent_before_swap.as_string(conn)
        raise RefusedError(
            f"{names.table.qualified_name} was altered since it was attached to its parent {waiting}: "
            f"{'; '.join(different)}. Make the same change on {waiting} or undo it, then run the conversion again."
        )


def bring_access_over(conn: Connection, names: Names, old: TableStructure, parent: TableStructure) -> None:
    """Give the parent the old table's present row security, policies, grants and comment, where they differ.

    Runs in the caller's transaction, under the lock that ends all changes.
    """
    bare_names(conn, names.table.schema)
    wanted, present = (
        [s if isinstance(s, str) else s.as_string(conn) for s in access_statements(conn, names, table)]
        for table in (old, parent)
    )
    if sorted(wanted) == sorted(present) and old.comment == parent.comment:
        return
    policies = rows(conn, "select polname from pg_policy where polrelid = %s", (parent.oid,))
    names_mean_new(conn, names.table.schema)
    target = names.parent_before_swap
    run_all(
        conn,
        [
            *(sql.SQL("drop policy {} on {}").format(sql.Identifier(name), target) for (name,) in policies),
            *wanted,
            sql.SQL("comment on table {} is {}").format(target, sql.Literal(old.comment)),
        ],
    )


def present_structures(conn: Connection, names: Names) -> tuple[TableStructure, TableStructure]:
    """The old table and its parent as they are now."""
    found = [table_structure(conn, name.as_string(conn)) for name in (names.public, names.parent_before_swap)]
    old, parent = found
    if old is None or parent is None:
        raise RefusedError(f"{names.table.qualified_name} or its parent was dropped during the conversion")
    return old, parent
