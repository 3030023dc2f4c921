"""Second half of the conversion: the old table's rows go into month tables, and these take its place.

Month tables are built beside the old table, two at a time, each in one transaction: a table that exists is complete.
Changes made meanwhile are captured (capture.py); exchange.py puts the new tables in the old one's place.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import psycopg
from psycopg import sql

from lifecycle.database import Connection, connect_directly, rows, run_all, value
from lifecycle.errors import BusyError
from lifecycle.pacing import Pacing
from lifecycle.partitions.capture import Target
from lifecycle.partitions.carried import CONSTRAINT_WITH_INDEX, in_tablespace, tablespace_clause
from lifecycle.partitions.catalog import Names, TableStructure, table_structure
from lifecycle.partitions.months import add_months, before_name, bound, month_range, month_start, partition_name, stated

BUILDERS = 2
NAMES_OF_RELATIONS = "pg_class_relname_nsp_index"
BUILDER_SETTINGS = (
    "set maintenance_work_mem = '256MB'; set max_parallel_maintenance_workers = 0;"
    " set max_parallel_workers_per_gather = 0; set synchronous_commit = off;"
    # Or the kernel writes out gigabytes at once after half a minute, and each commit of the application waits for them.
    # Not every system can: there the setting takes no value but none.
    " select set_config(name, '1MB', false) from pg_settings where name = 'backend_flush_after' and max_val <> '0'"
)

FIRST_KEPT = (
    "select lifecycle.first_kept_month(p, %s) from lifecycle.event_table_policies p"
    " where p.schema_name = %s and p.table_name = %s"
)
OWN_TABLES = """
select c.relname::text from pg_class c
 where c.relnamespace = 'event_partitions'::regnamespace and c.relkind = 'r' and not c.relispartition
   and obj_description(c.oid, 'pg_class') = any (%s)
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
PARENT_INDEXES = f"""
select case when k.contype is not null then 'alter table '
            when i.indisunique then 'create unique index on ' else 'create index on ' end,
       case when k.contype is not null then ' add ' || {CONSTRAINT_WITH_INDEX}
            else substr(d.def, position(' USING ' in d.def)) end,
       case when k.contype is null then t.spcname::text end
  from pg_index i join pg_class o on o.oid = i.indexrelid left join pg_tablespace t on t.oid = o.reltablespace
  cross join lateral (select pg_get_indexdef(i.indexrelid)) d(def)
  left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u')
 where i.indrelid = %s::regclass and i.indisvalid order by i.indisprimary desc, i.indexrelid
"""  # noqa: S608 - constants of ours
INDEXED_COLUMNS = """
select a.attname::text from pg_attribute a
 where a.attrelid = %s::regclass and a.attnum > 0 and exists (
    select from pg_index i where i.indrelid = a.attrelid and a.attnum = any (i.indkey)) order by a.attnum
"""


def split_targets(conn: Connection, names: Names, now: datetime) -> list[Target]:
    """The partitions that will hold the old table's rows, as of `now`.

    One for everything past retention (if there is any; rotation drops it whole), one for each month from the oldest
    kept row to the months ahead, and the default for what client clocks put beyond.
    """
    table = names.table
    first_kept: datetime = value(conn, FIRST_KEPT, (now, table.schema, table.name))
    this_month = month_start(table.clock(now))
    last = add_months(this_month, table.months_ahead)
    oldest = sql.SQL("select min({0}) from only {1} where {0} >= {2} and {0} < {3}").format(
        names.time_column, names.legacy, bound(first_kept), bound(add_months(last, 1))
    )
    past = sql.SQL("select exists (select from only {} where {} < {})").format(
        names.legacy, names.time_column, bound(first_kept)
    )
    found = conn.execute(oldest).fetchone()
    oldest_row = found[0] if found else None
    has_past = (conn.execute(past).fetchone() or (False,))[0]
    first = min(month_start(stated(oldest_row)), this_month) if oldest_row else this_month
    targets = []
    if has_past:
        first = month_start(first_kept)
        targets.append(Target(before_name(table.stem, first), "before", None, first))
    for month in month_range(first, last):
        targets.append(Target(partition_name(table.stem, month), "month", month, add_months(month, 1)))
    targets.append(Target(f"{table.stem}_default", "default", None, None))
    return targets


def existing_targets(conn: Connection, names: Names) -> set[str]:
    """Tables that earlier runs built for this conversion and that belong to no parent yet."""
    marks = [f"lifecycle:{marker} of {names.table.qualified_name}" for marker in ("month", "before", "default")]
    return {row[0] for row in rows(conn, OWN_TABLES, (marks,))}


def require_known_columns(conn: Connection, names: Names, old: TableStructure) -> None:
    """Raise BusyError when the application has changed the columns since `old` was read."""
    parent = table_structure(conn, names.public.as_string(conn))
    if parent is None or set(parent.columns) != set(old.columns):
        raise altered(names)


def altered(names: Names) -> BusyError:
    """The application changed its table under the conversion; another run copies again."""
    return BusyError(
        f"{names.table.qualified_name} was altered while it was copied. Nothing was switched over; run the "
        "conversion again, it copies what no longer fits once more."
    )


def outdated_targets(conn: Connection, names: Names, tables: set[str]) -> set[str]:
    """Those of our copies whose columns, indexes or checks are not the parent's any more.

    Says nothing of their rows: those are right as long as the capture trigger has been there since they were copied.
    """
    parent = names.public.as_string(conn)
    copies = [names.partition(name).as_string(conn) for name in tables]
    wanted = rows(conn, STRUCTURES, ([parent],))[0][1:]
    structures = {row[0]: row[1:] for row in rows(conn, STRUCTURES, (copies,))}
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
        indexes = rows(conn, PARENT_INDEXES, (names.public.as_string(conn),))
        tablespace = tablespace_clause(conn, value(conn, "select %s::regclass::oid", (names.public.as_string(conn),)))
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
                    sql.SQL(
                        "create table {} (like {} including all excluding indexes excluding identity) with ({}) {}"
                    ).format(
                        partition,
                        names.public,
                        sql.SQL(", ".join([*options, "autovacuum_enabled = false"])),
                        tablespace,
                    ),
                    sql.SQL("select lifecycle.copy_column_settings({}::regclass, {}::regclass)").format(
                        sql.Literal(names.public.as_string(conn)), sql.Literal(partition.as_string(conn))
                    ),
                    *bounds,
                ],
            )
            # LIKE has locked the parent, so its columns stay as they are until the copy is complete.
            require_known_columns(conn, names, old)
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
            place = partition.as_string(conn)
            made = [
                statement
                for before, after, space in indexes
                for statement in in_tablespace(space, before + place + after)
            ]
            _build_indexes(conn, made)
            run_all(
                conn,
                [
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


def _build_indexes(conn: Connection, statements: Sequence[str | sql.Composable]) -> None:
    """PostgreSQL gives an index a name that is free; of long names two builders find the same one at a time."""
    for tries_left in reversed(range(1 + len(statements))):
        try:
            with conn.transaction():
                run_all(conn, statements)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.constraint_name != NAMES_OF_RELATIONS or not tries_left:
                raise
        else:
            return


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
    pacing: Pacing,
    progress: Callable[[str, float], None],
) -> None:
    """Copy the old table into those targets that are not built yet, two at a time."""

    def build(target: Target) -> int:
        with pacing.work():
            return _build(url, names, old, target, targets)

    waiting = [target for target in targets if target.name not in built]
    done = len(targets) - len(waiting)
    with ThreadPoolExecutor(BUILDERS) as pool:
        futures = [pool.submit(build, target) for target in waiting]
        try:
            for target, future in zip(waiting, futures, strict=True):
                copied = future.result()
                done += 1
                progress(f"{names.table.name}: built {target.name}, {copied:,} rows", done / len(targets))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
