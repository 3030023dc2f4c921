"""First half of the conversion: the old table, whole, becomes the only partition of a new parent.

Three steps, each repeatable: the key index, built concurrently; the attachment, one short transaction; the swap of
names, another. Between the last two the application still reads and writes the old table under its own name, while
dependent views already read the parent: both show the same rows at every moment.
"""

from dataclasses import replace

import psycopg
from psycopg import sql

from lifecycle.database import Connection, politely, rows, run_all, value
from lifecycle.errors import BusyError
from lifecycle.locks import LockPolicy
from lifecycle.partitions.carried import primary_key, statistics_objects
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.dependents import direct_dependents, replacements
from lifecycle.partitions.drift import bring_access_over, present_structures, refuse_changed_structure
from lifecycle.partitions.parent import REPLICA_INDEX, TRIGGERS, bare_names, create_parent
from lifecycle.partitions.sequences import carry_identities, release_sequences
from lifecycle.partitions.snapshots import index_build_blockers
from lifecycle.partitions.tables import PARTITION_SCHEMA

# Waits behind nobody's back: SHARE UPDATE EXCLUSIVE stalls no reader and no writer, and a timeout above
# deadlock_timeout (1 s) makes a running autovacuum give way.
AUTOVACUUM_LOCKS = LockPolicy(timeout=5.0, tries=12)

# CREATE INDEX CONCURRENTLY waits for older transactions; nobody but VACUUM and ALTER waits behind it.
KEY_INDEX_PATIENCE = "10min"
KEY_INDEX = """
select i.indisvalid and i.indisunique from pg_index i
 where i.indexrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""
# `<index>_legacy`, which undo.md reads back, unless that is taken or would be cut off.
INDEX_NAMES = """
select c.relname::text, case when octet_length(n.legacy) <= 63 and not exists (
           select from pg_class o where o.relname::text = n.legacy
              and o.relnamespace in (c.relnamespace, to_regnamespace(%(partitions)s)))
       then n.legacy else format('lifecycle_%%s_legacy', c.oid) end
  from pg_index i join pg_class c on c.oid = i.indexrelid cross join lateral (select c.relname || '_legacy') n(legacy)
 where i.indrelid = %(oid)s
"""
# A session that has compiled %rowtype of the old table would keep it for ever; touched, it compiles again.
TOUCH_FUNCTIONS = """
select format('alter function %%s cost %%s', p.oid::regprocedure, p.procost)
  from pg_proc p join pg_language l on l.oid = p.prolang
 where l.lanname = 'plpgsql' and p.prokind = 'f' and pg_has_role(p.proowner, 'usage')
   and strpos(lower(p.prosrc), lower(%s)) > 0
"""
REFERENCED_TABLES = "select distinct confrelid::regclass::text from pg_constraint where conrelid = %s and contype = 'f'"
PUBLICATIONS = """
select p.pubname, p.pubviaroot,
       (select string_agg(quote_ident(a.attname), ', ' order by u.o) from unnest(r.prattrs) with ordinality u(n, o)
          join pg_attribute a on a.attrelid = r.prrelid and a.attnum = u.n),
       pg_get_expr(r.prqual, r.prrelid),
       exists (select from pg_publication_rel o join pg_class c on c.oid = o.prrelid
                where o.prpubid = p.oid and c.relkind = 'p' and o.prrelid <> r.prrelid)
  from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where r.prrelid = %s order by 1
"""


def build_key_index(conn: Connection, names: Names, old: TableStructure) -> None:
    """Build the unique index that becomes the new primary key, without blocking writers.

    A leftover of a build that died is invalid: it is dropped and built again. Raises UniqueViolation never, since
    the old key alone is unique already.
    """
    table = names.table
    if old.primary_key == old.new_key(table.time_column):
        return
    index = sql.Identifier(table.schema, names.new_key_index)
    valid = value(conn, KEY_INDEX, (table.schema, names.new_key_index))
    if valid:
        return
    try:
        conn.execute(f"set lock_timeout = '{KEY_INDEX_PATIENCE}'")
        if valid is False:
            conn.execute(sql.SQL("drop index concurrently {}").format(index))
        conn.execute(
            sql.SQL("create unique index concurrently {} on {} ({}){}").format(
                sql.Identifier(names.new_key_index),
                names.public,
                sql.SQL(", ").join(map(sql.Identifier, old.new_key(table.time_column))),
                primary_key(conn, old.oid).index_parameters(),
            )
        )
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        blockers = index_build_blockers(conn, table)
        raise BusyError(
            f"index {names.new_key_index} on {table.qualified_name}: not finished within {KEY_INDEX_PATIENCE}, because "
            f"older transactions, VACUUM or ALTER are in the way: {blockers or 'they have ended since'}. "
            "Wait for them or end them, then run this again; the index is built anew."
        ) from error
    finally:
        if not conn.closed:
            conn.execute("set lock_timeout = 0")


def switch_autovacuum_off(conn: Connection, target: sql.Identifier) -> None:
    """Keep autovacuum away: it would hold a lock that 50 ms tries can never get past."""
    name = target.as_string(conn)
    statement = sql.SQL("alter table {} set (autovacuum_enabled = false)").format(target)
    politely(conn, lambda: conn.execute(statement), what="autovacuum off", relation=name, locks=AUTOVACUUM_LOCKS)


def restore_autovacuum(
    conn: Connection, target: sql.Identifier, options: tuple[str, ...], *, tries: int = AUTOVACUUM_LOCKS.tries
) -> None:
    """Give `target` back the autovacuum setting that `options` (of the original table) hold, if any."""
    name = target.as_string(conn)
    before = next((option for option in options if option.startswith("autovacuum_enabled=")), None)
    change = sql.SQL("set ({})").format(sql.SQL(before)) if before else sql.SQL("reset (autovacuum_enabled)")
    statement = sql.SQL("alter table {} {}").format(target, change)
    politely(
        conn,
        lambda: conn.execute(statement),
        what="autovacuum on",
        relation=name,
        locks=replace(AUTOVACUUM_LOCKS, tries=tries),
    )


def remember_storage_options(conn: Connection, names: Names, old: TableStructure) -> None:
    """Keep the table's storage options for its partitions; the first run's word stands.

    Later runs find autovacuum switched off by an earlier one.
    """
    conn.execute(
        "insert into lifecycle.partition_conversions (schema_name, table_name, storage_options) values (%s, %s, %s)"
        " on conflict (schema_name, table_name) do nothing",
        (names.table.schema, names.table.name, list(old.storage_options)),
    )


def let_owner_in(conn: Connection, old: TableStructure) -> None:
    """Let the table's owner own relations in the partition schema, which PostgreSQL asks of every owner."""
    if not value(conn, "select has_schema_privilege(%s, %s, 'CREATE')", (old.owner, PARTITION_SCHEMA)):
        conn.execute(
            sql.SQL("grant usage, create on schema {} to {}").format(
                sql.Identifier(PARTITION_SCHEMA), sql.Identifier(old.owner)
            )
        )


def attach_whole(conn: Connection, names: Names, old: TableStructure) -> float:
    """Create the parent and attach the old table with bounds that hold every row; returns milliseconds under lock."""
    table = names.table
    rekey: list[sql.Composable] = []
    if old.primary_key != old.new_key(table.time_column):
        key, new_index = primary_key(conn, old.oid), sql.Identifier(names.new_key_index)
        rekey = [
            sql.SQL("alter table {} drop constraint {}").format(names.public, sql.Identifier(key.name)),
            sql.SQL("alter table {} add constraint {} primary key using index {}{}").format(
                names.public, new_index, new_index, sql.SQL(key.deferred)
            ),
        ]
        if value(conn, REPLICA_INDEX, (old.oid,)) == key.name:
            # A published table whose identity is an index that is gone takes no UPDATE.
            rekey.append(sql.SQL("alter table {} replica identity using index {}").format(names.public, new_index))
    # The parent's row triggers come down to each partition; the old ones would fire a second time.
    own_triggers = [
        sql.SQL("drop trigger {} on {}").format(sql.Identifier(row[1]), names.public)
        for row in rows(conn, TRIGGERS, (old.oid,))
        if row[4]
    ]

    def attach() -> None:
        foreign_keys = create_parent(conn, names, old)
        conn.execute(sql.SQL("lock table only {} in access exclusive mode").format(names.public))
        carry_identities(conn, names, old)
        run_all(
            conn,
            [
                *rekey,
                *own_triggers,
                *foreign_keys,
                sql.SQL("alter table {} attach partition {} for values from (minvalue) to (maxvalue)").format(
                    names.parent_before_swap, names.public
                ),
                sql.SQL(
                    "update lifecycle.partition_conversions set attached_at = clock_timestamp()"
                    " where schema_name = {} and table_name = {}"
                ).format(sql.Literal(table.schema), sql.Literal(table.name)),
            ],
        )

    _, milliseconds = politely(
        conn,
        attach,
        what=f"attaching {table.qualified_name} to its parent",
        relation=table.qualified_name,
        also=[row[0] for row in rows(conn, REFERENCED_TABLES, (old.oid,))],
    )
    return milliseconds


def _publication_statements(conn: Connection, names: Names, oid: int) -> list[sql.Composable]:
    statements: list[sql.Composable] = []
    for publication, via_root, columns, condition, other_parents in rows(conn, PUBLICATIONS, (oid,)):
        name = sql.Identifier(publication)
        statements.append(sql.SQL("alter publication {} drop table {}").format(name, names.legacy))
        if not via_root and not other_parents:
            # Subscribers keep seeing the table's own name instead of its partitions' names.
            statements.append(sql.SQL("alter publication {} set (publish_via_partition_root = true)").format(name))
        statements.append(
            sql.SQL("alter publication {} add table {}{}{}").format(
                name,
                names.public,
                sql.SQL(f" ({columns})") if columns else sql.SQL(""),
                sql.SQL(f" where ({condition})") if condition else sql.SQL(""),
            )
        )
    return statements


def swap_names(conn: Connection, names: Names, old: TableStructure) -> float | None:
    """Give the parent the table's name and hide the old table behind it.

    Returns milliseconds under lock, or None (and changes nothing) when somebody made a new view of the old table.
    """
    table = names.table
    # The application may have a table of the old one's new name: on the way it has one that nobody has.
    moving = f"lifecycle_{old.oid}"
    statements: list[sql.Composable] = [
        sql.SQL("alter table {} rename to {}").format(names.public, sql.Identifier(moving))
    ]
    for index, legacy_name in rows(conn, INDEX_NAMES, {"oid": old.oid, "partitions": PARTITION_SCHEMA}):
        if index != names.new_key_index:
            statements.append(
                sql.SQL("alter index {} rename to {}").format(
                    sql.Identifier(table.schema, index), sql.Identifier(legacy_name)
                )
            )
    statements += [
        sql.SQL("alter table {} set schema {}").format(
            sql.Identifier(table.schema, moving), sql.Identifier(PARTITION_SCHEMA)
        ),
        sql.SQL("alter table {} rename to {}").format(
            sql.Identifier(PARTITION_SCHEMA, moving), sql.Identifier(names.legacy_name)
        ),
        sql.SQL("alter table {} set schema {}").format(names.parent_before_swap, sql.Identifier(table.schema)),
        sql.SQL("select lifecycle.close_to_api({}::regclass)").format(sql.Literal(names.legacy.as_string(conn))),
        sql.SQL("comment on table {} is {}").format(
            names.legacy, sql.Literal(f"lifecycle:legacy of {table.qualified_name}")
        ),
        *_publication_statements(conn, names, old.oid),
        # PostgREST keeps keys and relations in a cache; on Supabase an event trigger tells it, elsewhere nobody does.
        sql.SQL("notify pgrst, 'reload schema'"),
    ]

    def swap() -> bool:
        # Locks the parent, then the old table below it; nobody can make a view of either from here on.
        conn.execute(sql.SQL("lock table {} in access exclusive mode").format(names.parent_before_swap))
        if direct_dependents(conn, old.oid) or replacements(conn, old.oid):
            return False
        now_old, now_parent = present_structures(conn, names)
        refuse_changed_structure(conn, names, now_old, now_parent)
        bring_access_over(conn, names, now_old, now_parent)
        before, after = release_sequences(conn, names, now_old.oid, now_parent.oid)
        bare_names(conn, table.schema)
        aside, statistics = statistics_objects(conn, now_old.oid)
        functions = [row[0] for row in rows(conn, TOUCH_FUNCTIONS, (table.name,))]
        run_all(conn, [*before, *aside, *statements, *after, *statistics, *functions])
        return True

    swapped, milliseconds = politely(
        conn, swap, what=f"swapping the names of {table.qualified_name}", relation=table.qualified_name
    )
    return milliseconds if swapped else None
