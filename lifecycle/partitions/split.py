"""Second half of the conversion: the old table's rows go into month tables, and these take its place.

Month tables are built beside the old table, two at a time, each in one transaction: a table that exists is complete.
Changes made meanwhile are captured and replayed. One short transaction then exchanges the old partition for the new
ones, after counts and checksums agreed.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

import psycopg
from psycopg import sql

from lifecycle.database import Connection, connect_directly, politely, rows, run_all, value
from lifecycle.errors import BusyError
from lifecycle.partitions.capture import Target, pending, prepare_replay, replay
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.months import add_months, before_name, month_range, month_start, partition_name

BUILDERS = 2
BUILDER_SETTINGS = (
    "set maintenance_work_mem = '256MB'; set max_parallel_maintenance_workers = 0;"
    " set max_parallel_workers_per_gather = 0; set synchronous_commit = off"
)
# The exchange replays what is left under the lock; this few keys take a millisecond or two.
FEW_CHANGES = 60
REPLAY_ROUNDS = 50

FIRST_KEPT = "select lifecycle.first_kept_month(p, %s) from lifecycle.event_table_policies p where p.table_name = %s"
OWN_TABLES = """
select c.relname::text from pg_class c
 where c.relnamespace = 'event_partitions'::regnamespace and c.relkind = 'r' and not c.relispartition
   and obj_description(c.oid, 'pg_class') ~ %s
"""
# What ATTACH compares, or would build under its lock where it is missing. Foreign keys come later.
STRUCTURES = """
select c.relname::text,
       (select string_agg(format('%%s %%s %%s %%s %%s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                                 a.attgenerated, pg_get_expr(d.adbin, d.adrelid)), ', ' order by a.attname)
          from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
       (select string_agg(format('%%s%%s', i.indisunique, f.definition), ', ' order by f.definition, i.indisunique)
          from pg_index i cross join lateral (
            select substr(pg_get_indexdef(i.indexrelid), position(' USING ' in pg_get_indexdef(i.indexrelid)))
          ) f(definition)
         where i.indrelid = c.oid and i.indisvalid),
       (select string_agg(pg_get_constraintdef(k.oid), ', ' order by k.conname)
          from pg_constraint k where k.conrelid = c.oid and k.contype = 'c' and k.conname <> 'lifecycle_bounds')
  from pg_class c where c.oid = any (%s::regclass[])
"""
# The definition behind the table's name: from there on it fits any table with the same columns.
PARENT_INDEXES = """
select case when k.contype is null
            then format('create %%sindex on %%%%s%%s', case when i.indisunique then 'unique ' else '' end,
                        substr(d.def, position(' USING ' in d.def)))
            else 'alter table %%s add ' || pg_get_constraintdef(k.oid) end
  from pg_index i cross join lateral (select pg_get_indexdef(i.indexrelid)) d(def)
  left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u')
 where i.indrelid = %s::regclass and i.indisvalid order by i.indisprimary desc, i.indexrelid
"""
INDEXED_COLUMNS = """
select a.attname::text from pg_attribute a
 where a.attrelid = %s::regclass and a.attnum > 0 and exists (
    select from pg_index i where i.indrelid = a.attrelid and a.attnum = any (i.indkey)) order by a.attnum
"""
FOREIGN_KEYS = """
select k.conname, pg_get_constraintdef(k.oid), k.confrelid::regclass::text
  from pg_constraint k where k.conrelid = %s::regclass and k.contype = 'f' order by 1
"""
FOREIGN_KEY_VALID = "select convalidated from pg_constraint where conrelid = %s::regclass and conname = %s"


def split_targets(conn: Connection, names: Names, now: datetime) -> list[Target]:
    """The partitions that will hold the old table's rows, as of `now`.

    One for everything past retention (if there is any; rotation drops it whole), one for each month from the oldest
    kept row to the months ahead, and the default for what client clocks put beyond.
    """
    table = names.table
    first_kept: datetime = value(conn, FIRST_KEPT, (now, table.name))
    last = add_months(month_start(now), table.months_ahead)
    oldest = sql.SQL("select min({0}) from only {1} where {0} >= %s and {0} < %s").format(
        names.time_column, names.legacy
    )
    past = sql.SQL("select exists (select from only {} where {} < %s)").format(names.legacy, names.time_column)
    found = conn.execute(oldest, (first_kept, add_months(last, 1))).fetchone()
    oldest_row = found[0] if found else None
    has_past = (conn.execute(past, (first_kept,)).fetchone() or (False,))[0]
    first = min(month_start(oldest_row or now), month_start(now))
    targets = []
    if has_past:
        first = month_start(first_kept)
        targets.append(Target(before_name(table.name, first), "before", None, first))
    for month in month_range(first, last):
        targets.append(Target(partition_name(table.name, month), "month", month, add_months(month, 1)))
    targets.append(Target(f"{table.name}_default", "default", None, None))
    return targets


def existing_targets(conn: Connection, names: Names) -> set[str]:
    """Tables that earlier runs built for this conversion and that belong to no parent yet."""
    marker = rf"^lifecycle:(month|before|default) of {names.table.schema}\.{names.table.name}$"
    return {row[0] for row in rows(conn, OWN_TABLES, (marker,))}


def outdated_targets(conn: Connection, names: Names, tables: set[str]) -> set[str]:
    """Those of our copies whose columns, indexes or checks are not the parent's (any more).

    The application may change its table while we copy it.
    """
    parent = names.public.as_string(conn)
    copies = {names.partition(name).as_string(conn): name for name in tables}
    structures = {row[0]: row[1:] for row in rows(conn, STRUCTURES, ([parent, *copies],))}
    wanted = structures.pop(names.table.name)
    return {name for name, structure in structures.items() if structure != wanted}


def drop_targets(conn: Connection, names: Names, tables: set[str]) -> None:
    """Drop copies that no longer fit; nobody reads them."""
    for name in sorted(tables):
        conn.execute(sql.SQL("drop table {}").format(names.partition(name)))


def _build(url: str, names: Names, old: TableStructure, target: Target, targets: list[Target]) -> int:
    partition = names.partition(target.name)
    options = [option for option in old.storage_options if not option.startswith("autovacuum_enabled=")]
    with connect_directly(url, application_name="lifecycle split") as conn:
        conn.execute(BUILDER_SETTINGS)
        indexes = [row[0] for row in rows(conn, PARENT_INDEXES, (names.public.as_string(conn),))]
        with conn.transaction():
            bounds: list[sql.Composable] = []
            if not target.is_default:
                bounds = [
                    sql.SQL("alter table {} add constraint lifecycle_bounds check ({})").format(
                        partition, target.condition(names.time_column, [])
                    )
                ]
            run_all(
                conn,
                [
                    sql.SQL("create table {} (like {} including all excluding indexes) with ({})").format(
                        partition,
                        names.public,
                        sql.SQL(", ".join([*options, "autovacuum_enabled = false"])),
                    ),
                    *bounds,
                ],
            )
            copied = conn.execute(
                sql.SQL("insert into {} ({}) select {} from only {} where {}").format(
                    partition,
                    old.written_columns,
                    old.written_columns,
                    names.legacy,
                    target.condition(names.time_column, targets),
                )
            ).rowcount
            comment = sql.Literal(f"lifecycle:{target.marker} of {names.table.qualified_name}")
            run_all(
                conn,
                [
                    *(index % partition.as_string(conn) for index in indexes),
                    sql.SQL("comment on table {} is {}").format(partition, comment),
                    sql.SQL("select lifecycle.close_to_api({}::regclass)").format(
                        sql.Literal(partition.as_string(conn))
                    ),
                    analyze_indexed(conn, names, partition),
                ],
            )
            if old.owner != value(conn, "select current_user"):
                conn.execute(sql.SQL("alter table {} owner to {}").format(partition, sql.Identifier(old.owner)))
    return copied


def analyze_indexed(conn: Connection, names: Names, relation: sql.Identifier) -> sql.Composed:
    """ANALYZE of the columns that indexes hold: a fifth of the time, for all that the planner asks at once.

    It leaves the change counters alone, so autovacuum analyzes the other columns in its own time.
    """
    columns = rows(conn, INDEXED_COLUMNS, (names.public.as_string(conn),))
    return sql.SQL("analyze {} ({})").format(
        relation, sql.SQL(", ").join(sql.Identifier(column) for (column,) in columns)
    )


def build_targets(
    url: str,
    names: Names,
    old: TableStructure,
    targets: list[Target],
    built: set[str],
    progress: Callable[[str, float], None],
) -> None:
    """Copy the old table into those targets that are not built yet, two at a time."""
    waiting = [target for target in targets if target.name not in built]
    done = len(targets) - len(waiting)
    with ThreadPoolExecutor(BUILDERS) as pool:
        futures = [pool.submit(_build, url, names, old, target, targets) for target in waiting]
        try:
            for target, future in zip(waiting, futures, strict=True):
                copied = future.result()
                done += 1
                progress(f"{names.table.name}: built {target.name}, {copied:,} rows", done / len(targets))
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def add_foreign_keys(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> None:
    """Give each month table the parent's foreign keys, validated, so that attaching scans nothing.

    An account deleted while its rows were copied fails the validation until its change is replayed.
    """
    keys = rows(conn, FOREIGN_KEYS, (names.public.as_string(conn),))
    for target in targets:
        partition = names.partition(target.name)
        for name, definition, referenced in keys:
            place = partition.as_string(conn)
            valid = value(conn, FOREIGN_KEY_VALID, (place, name))
            if valid is None:
                add = sql.SQL("alter table {} add constraint {} {} not valid").format(
                    partition, sql.Identifier(name), sql.SQL(definition)
                )
                politely(conn, partial(conn.execute, add), what=f"foreign key of {place}", relation=referenced)
            if not valid:
                _validate(conn, names, old, targets, partition, name)


def _validate(
    conn: Connection, names: Names, old: TableStructure, targets: list[Target], partition: sql.Identifier, name: str
) -> None:
    validate = sql.SQL("alter table {} validate constraint {}").format(partition, sql.Identifier(name))
    for _ in range(REPLAY_ROUNDS):
        try:
            conn.execute(validate)
            return
        except psycopg.errors.ForeignKeyViolation:
            with conn.transaction():
                replay(conn, names, old, targets)
    conn.execute(validate)


def catch_up(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> None:
    """Replay captured changes until few are left; a busy table ends with a bounded rest for the exchange."""
    prepare_replay(conn, names)
    for _ in range(REPLAY_ROUNDS):
        with conn.transaction():
            replay(conn, names, old, targets)
        if pending(conn, names) < FEW_CHANGES:
            return


def exchange(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> float:
    """Put the new partitions in the old one's place, in one transaction; returns milliseconds under lock."""
    prepare_replay(conn, names)
    partitions = [names.partition(target.name) for target in targets]
    referenced = sorted({row[2] for row in rows(conn, FOREIGN_KEYS, (names.public.as_string(conn),))})
    statements: list[sql.Composable] = [
        sql.SQL("alter table {} detach partition {}").format(names.public, names.legacy),
        sql.SQL("comment on table {} is {}").format(
            names.legacy, sql.Literal(f"lifecycle:detached of {names.table.qualified_name}")
        ),
    ]
    for target, partition in zip(targets, partitions, strict=True):
        statements.append(
            sql.SQL("alter table {} attach partition {} {}").format(names.public, partition, target.for_values())
        )
        if old.replica_identity != "d":
            statements.append(
                sql.SQL("select lifecycle.copy_replica_identity({}::regclass, {}::regclass)").format(
                    sql.Literal(names.public.as_string(conn)), sql.Literal(partition.as_string(conn))
                )
            )

    def swap() -> None:
        # Keeps out whoever would alter the table, and nobody else, while it is compared with its copies.
        conn.execute(sql.SQL("lock table only {} in share update exclusive mode").format(names.public))
        if outdated_targets(conn, names, {target.name for target in targets}):
            raise BusyError(
                f"{names.table.qualified_name} was altered while it was copied. Nothing was switched over; run the "
                "conversion again, it copies what no longer fits once more."
            )
        # Nobody knows the new tables; the tables that keys point at come next; the parent, where the crowd is, last.
        conn.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(", ").join(partitions)))
        for name in referenced:
            conn.execute(sql.SQL("lock table only {} in access exclusive mode").format(sql.SQL(name)))
        conn.execute(sql.SQL("lock table {} in access exclusive mode").format(names.public))
        replay(conn, names, old, targets)
        run_all(conn, statements)

    _, milliseconds = politely(
        conn,
        swap,
        what=f"exchanging the partitions of {names.table.qualified_name}",
        relation=names.table.qualified_name,
    )
    return milliseconds
