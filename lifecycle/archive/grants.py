"""Who may read what was made of a table: those who may read the table, and nobody may write it."""

from collections.abc import Iterable, Mapping
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.names import QualifiedName

PUBLIC: Final = "public"
GRANTEES: Final = """
select distinct case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end
  from pg_class c cross join lateral aclexplode(c.relacl) a
 where c.oid = to_regclass(%s) and a.grantee <> c.relowner
"""
# '' stands for the whole table.
READERS: Final = """
select case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end, ''
  from pg_class c cross join lateral aclexplode(c.relacl) a
 where c.oid = to_regclass(%(source)s) and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
 union
select case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end, t.attname::text
  from pg_class c join pg_attribute t on t.attrelid = c.oid and not t.attisdropped
 cross join lateral aclexplode(t.attacl) a
 where c.oid = to_regclass(%(source)s) and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
"""


def role(name: str) -> sql.Composable:
    """A role as GRANT names it."""
    return sql.SQL("public") if name == PUBLIC else sql.Identifier(name)


def readers(conn: Connection, source: QualifiedName) -> dict[str, set[str]]:
    """The roles that may read a table beside its owner, with the columns; '' among them stands for all."""
    found: dict[str, set[str]] = {}
    for grantee, column in rows(conn, READERS, {"source": str(source)}):
        found.setdefault(grantee, set()).add(column)
    return found


def close(conn: Connection, target: QualifiedName) -> None:
    """Take away whatever default privileges gave."""
    for (grantee,) in rows(conn, GRANTEES, (str(target),)):
        conn.execute(sql.SQL("revoke all on {} from {}").format(target.identifier, role(grantee)))


def open_like(
    conn: Connection, source: QualifiedName, target: QualifiedName, columns: Mapping[str, Iterable[str]]
) -> None:
    """Let the readers of `source` read `target`; a grant on a column opens what `columns` says was made of it."""
    for grantee, readable in readers(conn, source).items():
        if "" in readable:
            conn.execute(sql.SQL("grant select on {} to {}").format(target.identifier, role(grantee)))
        made = sorted({name for column in readable for name in columns.get(column, ())})
        if made:
            listed = sql.SQL(", ").join(map(sql.Identifier, made))
            conn.execute(sql.SQL("grant select ({}) on {} to {}").format(listed, target.identifier, role(grantee)))
