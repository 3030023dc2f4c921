"""Objects that nobody reads any more leave the store, and are seen to be gone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from psycopg import sql

from lifecycle.cold import manifest
from lifecycle.cold.home import require_home
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import ColdTable, narrow_name
from lifecycle.database import Connection, politely, rows, value
from lifecycle.names import QualifiedName
from lifecycle.partitions.tables import PARTITION_SCHEMA

# Nothing that runs is older; what is so old and has no row came from somebody else or another time of the database.
ORPHAN_AGE: Final = timedelta(days=2)
RETIRE_EXPIRED: Final = """
select lifecycle.retire_cold_files(p, %s) from lifecycle.event_table_policies p
 where p.schema_name = %s and p.table_name = %s
"""
# One that was removed already was written by somebody who had lost the database meanwhile.
UNKNOWN: Final = """
select k.key from unnest(%s::text[], %s::timestamptz[]) k(key, modified)
  left join lifecycle.cold_files f on f.key = k.key
 where f.state = 'removed' or f.key is null and k.modified < %s
"""
# Files of a move that will have to read its month again: a row of it was changed, by an erasure perhaps. One that is
# only planned may be written at this moment; its move sees to it.
RETIRE_OUTDATED: Final = """
update lifecycle.cold_files f set state = 'retired', retired_at = clock_timestamp()
  from lifecycle.cold_moves m
 where m.id = f.move_id and f.state = 'stored' and lifecycle.is_outdated(m.id)
"""
MOVES_AT_WORK: Final = """
select m.id, format('%I.%I', m.schema_name, m.table_name), m.month from lifecycle.cold_moves m
 where exists (select from lifecycle.cold_files f where f.move_id = m.id and f.state in ('planned', 'stored'))
"""
# Whoever works on the month holds the lock for a session; here it is held for one transaction, as any pooler bears.
GIVE_UP: Final = """
with free as materialized (select pg_try_advisory_xact_lock(hashtextextended(%(lock)s, 0)) as lock), given_up as (
    update lifecycle.cold_moves m set state = 'pending', changed_at = clock_timestamp()
      from free where free.lock and m.id = %(move)s and m.state not in ('committed', 'cleaned')
)
update lifecycle.cold_files f set state = 'retired', retired_at = clock_timestamp()
  from free where free.lock and f.move_id = %(move)s and f.state in ('planned', 'stored')
"""


# What was filled beside the narrow table and is no part of it yet.
LEFT_FOR_VIEWS: Final = """
select p.schema_name, p.table_name, m.month
  from lifecycle.event_table_policies p
  join pg_class c on c.relnamespace = to_regnamespace('event_partitions') and c.relname ~ '_narrow_[0-9]{6}$'
  cross join lateral (select to_date(right(c.relname, 6), 'YYYYMM')::timestamp at time zone 'UTC') m(month)
 where c.relname = lifecycle.narrow_month_name(p, m.month, true)
"""
DROP_LEFT: Final = """
with free as materialized (select pg_try_advisory_xact_lock(hashtextextended(%(lock)s, 0)) as lock)
select lifecycle.drop_narrow_leftover(p, %(month)s) from free join lifecycle.event_table_policies p
    on free.lock and p.schema_name = %(schema)s and p.table_name = %(table)s
"""


# What a restore loaded that was killed; those it was loaded for may have been erased since.
LEFT_OF_RESTORES: Final = """
select p.schema_name, p.table_name, m.month, c.relname::text
  from lifecycle.event_table_policies p
  join pg_class c on c.relnamespace = to_regnamespace('event_partitions') and not c.relispartition
       and c.relname ~ '_[0-9]{4}_[0-9]{2}_restored$' and left(c.relname, -17) = p.stem
  cross join lateral (select to_date(left(right(c.relname, 16), 7), 'YYYY_MM')::timestamp at time zone 'UTC') m(month)
"""
IS_FREE: Final = "select pg_try_advisory_xact_lock(hashtextextended(%s, 0))"


@dataclass(frozen=True)
class Swept:
    """What left the store: files that were read no more, objects that no row knew, and unfinished uploads."""

    retired: int = 0
    unknown: int = 0
    uploads: int = 0


def remove_retired(
    conn: Connection, storage: ColdStorage, progress: Callable[[str, float], None] = lambda _message, _fraction: None
) -> int:
    """Remove every retired file and its versions; how many.

    ColdStorageError leaves the others for the next run, RefusedError all: the files are another database's.
    """
    if not (files := manifest.files_to_remove(conn)):
        return 0
    require_home(conn)
    for number, file in enumerate(files):
        gone = storage.remove(file.key)
        manifest.removed(conn, file.id, gone.versions)
        progress(f"{number + 1} of {len(files)} files removed", (number + 1) / len(files))
    return len(files)


def give_up_dead_moves(conn: Connection) -> None:
    """Retire what moves wrote that nobody goes on with at this moment, and what is outdated of those at work; drop what
    they filled for views, and what restores loaded that were killed.

    The next move of such a month begins anew, and so does one at work.
    """
    conn.execute(RETIRE_OUTDATED.encode())
    for move, table, month in rows(conn, MOVES_AT_WORK):
        conn.execute(GIVE_UP.encode(), {"move": move, "lock": f"lifecycle.{month_lock(table, month)}"})
    for schema, name, month in rows(conn, LEFT_FOR_VIEWS):
        lock = f"lifecycle.{month_lock(QualifiedName(schema, name), month)}"
        conn.execute(DROP_LEFT.encode(), {"schema": schema, "table": name, "month": month, "lock": lock})
    for schema, name, month, loaded in rows(conn, LEFT_OF_RESTORES):
        with conn.transaction():
            if value(conn, IS_FREE, (f"lifecycle.{month_lock(QualifiedName(schema, name), month)}",)):
                conn.execute(sql.SQL("drop table {}").format(sql.Identifier(PARTITION_SCHEMA, loaded)))


def month_lock(table: object, month: datetime) -> str:
    """The name of the lock under which one session at a time moves, restores or puts away a month."""
    return f"cold month {table} {month.astimezone(UTC):%Y-%m}"


def retire_expired(conn: Connection, table: ColdTable, now: datetime) -> int:
    """Retire the files of months past retention; how many. BusyError while views over them are read."""
    names = (now, table.relation.schema, table.relation.name)
    count, _ = politely(
        conn,
        lambda: value(conn, RETIRE_EXPIRED, names),
        what=f"{table.relation}: months past retention go",
        relation=str(narrow_name(table.relation)),
    )
    return int(count or 0)


def sweep(conn: Connection, table: ColdTable, storage: ColdStorage, now: datetime) -> Swept:
    """Remove what nobody reads: retired files, what moves and restores left that were cut off, objects under the
    table's folder that no row names, unfinished uploads. RefusedError in a copy of the database.

    An object is planned in the manifest before it is written, so one without a row was written for a database that was
    set back to an earlier time, or by somebody else; it goes once it is two days old.
    """
    require_home(conn)
    give_up_dead_moves(conn)
    retired = remove_retired(conn, storage)
    there = list(storage.list(table.folder))
    keys, moments = [found.key for found in there], [found.modified for found in there]
    unknown = [key for (key,) in rows(conn, UNKNOWN, (keys, moments, now - ORPHAN_AGE))]
    for key in unknown:
        storage.remove(key)
    unfinished = [found for found in storage.list_uploads(table.folder) if found.started < now - ORPHAN_AGE]
    for upload in unfinished:
        storage.abort(upload)
    return Swept(retired, len(unknown), len(unfinished))
