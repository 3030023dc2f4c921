"""A materialized view with another definition: built beside, then exchanged, its readers undisturbed meanwhile.

PostgreSQL cannot replace the definition of a materialized view. Indexes, privileges, options and comments go with it;
views that read it are made to read the new one in the same transaction.
"""

from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.errors import RefusedError
from lifecycle.names import LONGEST, QualifiedName, quoted
from lifecycle.views.catalog import View, read_view

LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
NEW, OLD = "lifecycle_new_", "lifecycle_old_"
INDEXES: Final = """
select c.relname::text, i.indisunique, substring(pg_get_indexdef(i.indexrelid) from ' USING .*$'), i.indisclustered
  from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = %s::regclass order by 1
"""
READERS: Final = """
select distinct n.nspname::text, c.relname::text, c.relkind::text
  from pg_depend d join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
  join pg_class c on c.oid = w.ev_class and c.oid <> d.refobjid join pg_namespace n on n.oid = c.relnamespace
 where d.refclassid = 'pg_class'::regclass and d.refobjid = %s::regclass order by 1, 2
"""
GRANTS: Final = """
select a.privilege_type, case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
       a.is_grantable
  from pg_class c cross join lateral aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
 where c.oid = %s::regclass and a.grantee <> c.relowner
"""
COMMENTS: Final = """
select a.attname::text, col_description(a.attrelid, a.attnum) from pg_attribute a
 where a.attrelid = %s::regclass and a.attnum > 0 and col_description(a.attrelid, a.attnum) is not null
"""


def rebuild(conn: Connection, view: View, body: str) -> str:
    """Exchange the materialized view for one of this query; a line that says so.

    RefusedError when another materialized view reads it, or the application changes it meanwhile.
    """
    name = view.name
    new, old = (QualifiedName(name.schema, prefix + name.name) for prefix in (NEW, OLD))
    if len(new.name.encode()) > LONGEST:
        raise RefusedError("its name is too long for one beside it")
    readers = [QualifiedName(schema, relation) for schema, relation, kind in _plain_readers(conn, name)]
    conn.execute(f"drop materialized view if exists {new}".encode())
    options = f" with ({view.options})" if view.options else ""
    conn.execute(f"create materialized view {new}{options} as {body}".encode())
    indexes = rows(conn, INDEXES, (str(name),))
    for index, unique, definition, _ in indexes:
        beside = quoted(_beside(index))
        conn.execute(f"create {'unique ' if unique else ''}index {beside} on {new}{definition}".encode())
    conn.execute(f"analyze {new}".encode())
    _dress(conn, view, new)
    with conn.transaction():
        conn.execute("set local search_path = ''")
        conn.execute(LOCK_TIMEOUT)
        conn.execute(f"alter materialized view {name} rename to {quoted(old.name)}".encode())
        again = read_view(conn, old)
        texts = [read_view(conn, reader) for reader in readers]
        if again is None or again.plain != view.plain:
            raise RefusedError("the application changed it at this moment; run `lifecycle migrate` again")
        conn.execute(f"alter materialized view {new} rename to {quoted(name.name)}".encode())
        for reader in texts:
            _read_new(conn, reader, old, name)
        conn.execute(f"drop materialized view {old}".encode())
        for index, _, _, clustered in indexes:
            made = QualifiedName(name.schema, _beside(index))
            conn.execute(f"alter index {made} rename to {quoted(index)}".encode())
            if clustered:
                conn.execute(f"alter materialized view {name} cluster on {quoted(index)}".encode())
    return f"materialized view {name} was built anew"


def require_rebuildable(conn: Connection, name: QualifiedName) -> None:
    """RefusedError when another materialized view reads it, which would go with it."""
    _plain_readers(conn, name)


def _beside(index: str) -> str:
    return (NEW + index).encode()[:LONGEST].decode(errors="ignore")


def _plain_readers(conn: Connection, name: QualifiedName) -> list[tuple[str, str, str]]:
    found = rows(conn, READERS, (str(name),))
    if blocked := [f"{schema}.{relation}" for schema, relation, kind in found if kind != "v"]:
        raise RefusedError(f"the materialized view {blocked[0]} reads it; drop that one, migrate, and make it again")
    return [(schema, relation, kind) for schema, relation, kind in found]


def _dress(conn: Connection, view: View, new: QualifiedName) -> None:
    """Privileges and comments of the old one; default privileges may have opened the new one."""
    for _, grantee, _ in rows(conn, GRANTS, (str(new),)):
        conn.execute(f"revoke all on {new} from {grantee}".encode())
    for privilege, grantee, grantable in rows(conn, GRANTS, (str(view.name),)):
        passed_on = " with grant option" if grantable else ""
        conn.execute(f"grant {privilege} on {new} to {grantee}{passed_on}".encode())
    conn.execute(sql.SQL("comment on materialized view {} is {}").format(new.identifier, sql.Literal(view.comment)))
    for column, comment in rows(conn, COMMENTS, (str(view.name),)):
        conn.execute(
            sql.SQL("comment on column {}.{} is {}").format(
                new.identifier, sql.Identifier(column), sql.Literal(comment)
            )
        )


def _read_new(conn: Connection, reader: View | None, old: QualifiedName, name: QualifiedName) -> None:
    if reader is None:
        raise RefusedError("the application dropped a view that reads it at this moment; run `lifecycle migrate` again")
    if not reader.is_ours_to_change:
        raise RefusedError(f"{reader.name} reads it and belongs to {reader.owner}; connect as {reader.owner}")
    text = reader.plain.replace(f"{old}", f"{name}").replace(f"{old.schema}.{quoted(old.name)}", str(name))
    options = f" with ({reader.options})" if reader.options else ""
    conn.execute(f"create or replace view {reader.name}{options} as {text}".encode())
