"""The new parent: everything of the old table that PostgreSQL does not inherit, reproduced from the catalog.

The server itself writes each definition (pg_get_indexdef and its kin) while `search_path` holds the table's own
schema, so that the table's name comes out bare; run with the partition schema first on the path, the same text
then means the new parent. No text is edited.
"""

from psycopg import sql

from lifecycle.database import Connection, rows, run_all, value
from lifecycle.partitions.carried import (
    CONSTRAINT_WITH_INDEX,
    in_tablespace,
    primary_key,
    settings_of_indexes_and_triggers,
    tablespace_clause,
)
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.tables import PARTITION_SCHEMA

INDEXES = """
select pg_get_indexdef(i.indexrelid, 0, true), c.relname, obj_description(c.oid, 'pg_class'), t.spcname::text
  from pg_index i join pg_class c on c.oid = i.indexrelid left join pg_tablespace t on t.oid = c.reltablespace
 where i.indrelid = %(oid)s and i.indisvalid and not i.indisprimary
   and c.relname <> %(skip)s
   and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('u', 'x'))
 order by c.relname
"""
UNIQUE = f"""
select format('alter table %%I.%%I add constraint %%I %%s', %(schema)s::text, %(table)s::text, k.conname,
              {CONSTRAINT_WITH_INDEX}),
       k.conname, obj_description(o.oid, 'pg_class')
  from pg_constraint k join pg_class o on o.oid = k.conindid
 where k.conrelid = %(oid)s and k.contype = 'u' order by k.conname
"""  # noqa: S608 - constants of ours
FOREIGN_KEYS = """
select format('alter table %%I.%%I add constraint %%I %%s', %(schema)s::text, %(table)s::text, k.conname,
              pg_get_constraintdef(k.oid))
  from pg_constraint k where k.conrelid = %(oid)s and k.contype = 'f' order by k.conname
"""
REPLICA_INDEX = """
select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
 where i.indrelid = %s and i.indisreplident
"""
CONSTRAINT_COMMENTS = """
select format('comment on constraint %%I on %%I.%%I is %%L', k.conname, %(schema)s::text, %(table)s::text,
              obj_description(k.oid, 'pg_constraint'))
  from pg_constraint k
 where k.conrelid = %(oid)s and k.contype in ('u', 'f') and obj_description(k.oid, 'pg_constraint') is not null
"""
TRIGGERS = """
select pg_get_triggerdef(t.oid, true), t.tgname, t.tgenabled::text, obj_description(t.oid, 'pg_trigger'),
       t.tgtype::int & 1 = 1
  from pg_trigger t where t.tgrelid = %s and not t.tgisinternal order by t.tgname
"""
POLICIES = """
select format('create policy %%I on %%I.%%I as %%s for %%s to %%s%%s%%s', p.polname, %(schema)s::text, %(table)s::text,
              case when p.polpermissive then 'permissive' else 'restrictive' end,
              case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                            when 'd' then 'delete' else 'all' end,
              (select string_agg(case when r = 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ')
                 from unnest(p.polroles) r),
              ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
              ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  from pg_policy p where p.polrelid = %(oid)s order by p.polname
"""
POLICY_COMMENTS = """
select format('comment on policy %%I on %%I.%%I is %%L', p.polname, %(schema)s::text, %(table)s::text,
              obj_description(p.oid, 'pg_policy'))
  from pg_policy p where p.polrelid = %(oid)s and obj_description(p.oid, 'pg_policy') is not null
"""
GRANTS = """
select format('grant %%s%%s on table %%s to %%s%%s',
              g.privilege, ' (' || quote_ident(g.column_name) || ')', %(target)s::text,
              case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
              case when g.is_grantable then ' with grant option' else '' end)
  from (select a.privilege_type, a.grantee, a.is_grantable, null::name
          from pg_class c, aclexplode(c.relacl) a where c.oid = %(oid)s
         union all
        select a.privilege_type, a.grantee, a.is_grantable, t.attname
          from pg_attribute t, aclexplode(t.attacl) a where t.attrelid = %(oid)s and not t.attisdropped
       ) g(privilege, grantee, is_grantable, column_name)
"""
ENABLED = {"D": "disable", "R": "enable replica", "A": "enable always"}


def bare_names(conn: Connection, *schemas: str) -> None:
    """From here to the end of the transaction the server writes names in these schemas without them."""
    _search_path(conn, schemas)


def names_mean_new(conn: Connection, *schemas: str) -> None:
    """From here to the end of the transaction a bare name means the new object, where there is one."""
    _search_path(conn, (PARTITION_SCHEMA, *schemas))


def _search_path(conn: Connection, schemas: tuple[str, ...]) -> None:
    path = ", ".join(sql.Identifier(schema).as_string(conn) for schema in dict.fromkeys(schemas))
    conn.execute("select set_config('search_path', %s, true)", (path,))


def grants(conn: Connection, oid: int, target: sql.Identifier) -> list[str]:
    """GRANT statements that give `target` the table and column privileges of the relation `oid`."""
    return [row[0] for row in rows(conn, GRANTS, {"oid": oid, "target": target.as_string(conn)})]


def access_statements(conn: Connection, names: Names, old: TableStructure) -> list[str | sql.Composable]:
    """Who may do what with the old table, as statements that give the parent the same: row security, policies, grants.

    The caller has made names bare (`bare_names`) and runs the statements where they mean the parent.
    """
    parent = names.parent_before_swap
    place = {"oid": old.oid, "schema": PARTITION_SCHEMA, "table": names.table.name}
    closed_to_owner: list[str | sql.Composable] = []
    if value(conn, "select relacl is not null from pg_class where oid = %s", (old.oid,)):
        # What the owner may not do is said by a list without it.
        owner = sql.Identifier(old.owner)
        closed_to_owner = [sql.SQL("revoke all on table {} from {}").format(parent, owner)]
    row_security = sql.SQL("enable" if old.row_security else "disable")
    force = sql.SQL("force" if old.force_row_security else "no force")
    return [
        sql.SQL("select lifecycle.close_to_api({}::regclass)").format(sql.Literal(parent.as_string(conn))),
        sql.SQL("alter table {} {} row level security").format(parent, row_security),
        sql.SQL("alter table {} {} row level security").format(parent, force),
        *(row[0] for row in rows(conn, POLICIES, place)),
        *(row[0] for row in rows(conn, POLICY_COMMENTS, place)),
        *closed_to_owner,
        *grants(conn, old.oid, parent),
    ]


def create_parent(conn: Connection, names: Names, old: TableStructure) -> list[str]:
    """Create the partitioned table beside the old one; returns the statements that add its foreign keys.

    Foreign keys lock the tables they point at, so the caller adds them when it holds all other locks.
    Must run inside a transaction; leaves `search_path` pointing at the new parent first.
    """
    table, parent = names.table, names.parent_before_swap
    place = {"oid": old.oid, "schema": PARTITION_SCHEMA, "table": table.name}
    bare_names(conn, table.schema)
    indexes = rows(conn, INDEXES, {"oid": old.oid, "skip": names.new_key_index})
    unique = rows(conn, UNIQUE, place)
    foreign_keys = [row[0] for row in rows(conn, FOREIGN_KEYS, place)]
    foreign_keys += [row[0] for row in rows(conn, CONSTRAINT_COMMENTS, place)]
    triggers = rows(conn, TRIGGERS, (old.oid,))
    settings = settings_of_indexes_and_triggers(conn, old.oid, table.name)
    access = access_statements(conn, names, old)
    key = primary_key(conn, old.oid)
    comment = value(conn, "select obj_description(%s, 'pg_class')", (old.oid,))

    names_mean_new(conn, table.schema)
    columns = sql.SQL(", ").join(map(sql.Identifier, old.new_key(table.time_column)))
    statements: list[str | sql.Composable] = [
        # Extended statistics come with the swap of names: theirs are taken until then.
        sql.SQL(
            "create table {} (like {} including defaults including constraints including storage"
            " including compression including comments including generated including identity)"
            " partition by range ({}) {}"
        ).format(parent, names.public, names.time_column, tablespace_clause(conn, old.oid)),
        sql.SQL("select lifecycle.copy_column_settings({}::regclass, {}::regclass)").format(
            sql.Literal(names.public.as_string(conn)), sql.Literal(parent.as_string(conn))
        ),
        sql.SQL("alter table {} add constraint {} {}").format(
            parent, sql.Identifier(key.name), key.definition(columns)
        ),
        *(row[0] for row in unique),
        *(statement for row in indexes for statement in in_tablespace(row[3], row[0])),
        sql.SQL("comment on table {} is {}").format(parent, sql.Literal(comment)),
        sql.SQL("comment on constraint {} on {} is {}").format(
            sql.Identifier(key.name), parent, sql.Literal(key.comment)
        ),
    ]
    commented = [(row[1], row[2]) for row in indexes] + [(row[1], row[2]) for row in unique]
    for name, index_comment in [*commented, (key.name, key.index_comment)]:
        if index_comment:
            index = sql.Identifier(PARTITION_SCHEMA, name)
            statements.append(sql.SQL("comment on index {} is {}").format(index, sql.Literal(index_comment)))
    if old.owner != value(conn, "select current_user"):
        statements.append(sql.SQL("alter table {} owner to {}").format(parent, sql.Identifier(old.owner)))
    statements += access
    for definition, name, enabled, trigger_comment, _ in triggers:
        trigger = sql.Identifier(name)
        statements.append(definition)
        if enabled in ENABLED:
            statements.append(
                sql.SQL("alter table {} {} trigger {}").format(parent, sql.SQL(ENABLED[enabled]), trigger)
            )
        if trigger_comment:
            statements.append(
                sql.SQL("comment on trigger {} on {} is {}").format(trigger, parent, sql.Literal(trigger_comment))
            )
    statements += settings
    replica_index = value(conn, REPLICA_INDEX, (old.oid,))
    if old.replica_identity in ("f", "n"):
        kind = sql.SQL("full" if old.replica_identity == "f" else "nothing")
        statements.append(sql.SQL("alter table {} replica identity {}").format(parent, kind))
    elif replica_index:
        statements.append(
            sql.SQL("alter table {} replica identity using index {}").format(parent, sql.Identifier(replica_index))
        )
    run_all(conn, statements)
    return foreign_keys
