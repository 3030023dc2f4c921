"""Identity and serial columns: what numbers the rows goes on where it was, under the same name.

A serial column's sequence stays and changes its owner. An identity column's belongs to its table alone, so the parent
gets one of its own that goes on from the old one's last number, in the transaction that attaches the old table.
"""

from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, run_all, value
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.tables import PARTITION_SCHEMA

# i: of an identity column, a: owned by a column (serial).
SEQUENCES: Final = """
select a.attname::text, n.nspname::text, c.relname::text, c.oid, s.seqcache, obj_description(c.oid, 'pg_class'),
       s.seqtypid::regtype::text
  from pg_depend d join pg_class c on c.oid = d.objid and c.relkind = 'S' join pg_sequence s on s.seqrelid = c.oid
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
 where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = %s and d.deptype = %s
 order by 1
"""
GRANTS: Final = """
select format('grant %%s on sequence %%s to %%s%%s', a.privilege_type, %(target)s::text,
              case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
              case when a.is_grantable then ' with grant option' else '' end)
  from pg_class c, aclexplode(c.relacl) a where c.oid = %(oid)s
"""
# Before this version a partition does not share its parent's identity.
SHARED_SINCE: Final = 170000
# In the comment of a sequence that everybody may use, until the parent has the table's name.
OPENED: Final = "lifecycle:opened "


def carry_identities(conn: Connection, names: Names, old: TableStructure) -> None:
    """Let the parent's identity columns go on from the old table's; runs under the lock that keeps writers out.

    Until the swap the application inserts into the old table: there the parent's sequence is shared, or, before
    PostgreSQL 17, stands in a default, which anybody who may insert must be able to use.
    """
    parent_oid = value(conn, "select to_regclass(%s)::oid", (names.parent_before_swap.as_string(conn),))
    made = {row[0]: row[2] for row in rows(conn, SEQUENCES, (parent_oid, "i"))}
    for column, schema, name, oid, cache, comment, kind in rows(conn, SEQUENCES, (old.oid, "i")):
        before = sql.Identifier(schema, name)
        # The same setting once more: nextval() outside of an INSERT waits for the end of this transaction.
        conn.execute(sql.SQL("alter sequence {} cache {}").format(before, sql.Literal(cache)))
        last, called = conn.execute(sql.SQL("select last_value, is_called from {}").format(before)).fetchall()[0]
        target = sql.Identifier(PARTITION_SCHEMA, name)
        granted = [row[0] for row in rows(conn, GRANTS, {"oid": oid, "target": target.as_string(conn)})]
        shared = conn.info.server_version >= SHARED_SINCE
        to_open = not shared and not any(
            grant.upper().startswith("GRANT USAGE") and " to public" in grant for grant in granted
        )
        statements: list[str | sql.Composable] = [
            sql.SQL("alter table only {} alter column {} drop identity").format(names.public, sql.Identifier(column))
        ]
        if made[column] != name:
            statements.append(
                sql.SQL("alter sequence {} rename to {}").format(
                    sql.Identifier(PARTITION_SCHEMA, made[column]), sql.Identifier(name)
                )
            )
        statements += [
            # LIKE makes them all of bigint.
            sql.SQL("alter sequence {} as {}").format(target, sql.SQL(kind)),
            sql.SQL("select setval({}::regclass, {}, {})").format(
                sql.Literal(target.as_string(conn)), sql.Literal(last), sql.Literal(called)
            ),
            sql.SQL("comment on sequence {} is {}").format(
                target, sql.Literal(OPENED + (comment or "") if to_open else comment)
            ),
            sql.SQL("select lifecycle.close_to_api({}::regclass)").format(sql.Literal(target.as_string(conn))),
            *granted,
        ]
        if not shared:
            statements.append(
                sql.SQL("alter table only {} alter column {} set default nextval({}::regclass)").format(
                    names.public, sql.Identifier(column), sql.Literal(target.as_string(conn))
                )
            )
        if to_open:
            statements.append(sql.SQL("grant usage on sequence {} to public").format(target))
        run_all(conn, statements)


def release_sequences(
    conn: Connection, names: Names, old_oid: int, parent_oid: int
) -> tuple[list[sql.Composable], list[sql.Composable]]:
    """Statements for the swap: before the tables are moved, after they are."""
    before: list[sql.Composable] = []
    after: list[sql.Composable] = []
    for column, schema, name, *_ in rows(conn, SEQUENCES, (old_oid, "a")):
        sequence = sql.Identifier(schema, name)
        before.append(sql.SQL("alter sequence {} owned by none").format(sequence))
        after.append(
            sql.SQL("alter sequence {} owned by {}").format(
                sequence, sql.Identifier(names.table.schema, names.table.name, column)
            )
        )
    for _, schema, name, _, _, comment, _ in rows(conn, SEQUENCES, (parent_oid, "i")):
        if (comment or "").startswith(OPENED):
            sequence = sql.Identifier(schema, name)
            text = comment.removeprefix(OPENED) or None
            before += [
                sql.SQL("revoke usage on sequence {} from public").format(sequence),
                sql.SQL("comment on sequence {} is {}").format(sequence, sql.Literal(text)),
            ]
    return before, after
