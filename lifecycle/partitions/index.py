"""An index on a partitioned table, built without stopping writers: PostgreSQL has no CREATE INDEX CONCURRENTLY there.

The parent's index is made first, alone: from then on every new partition gets one. Those that are there are built one
after the other, concurrently, and attached; the last one makes the parent's valid. Killed anywhere, it goes on there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, connect_directly, operation_lock, politely, rows, value
from lifecycle.errors import BusyError, RefusedError
from lifecycle.names import LONGEST, QualifiedName

Progress = Callable[[str, float], None]

# CREATE INDEX CONCURRENTLY waits for older transactions; nobody but VACUUM and ALTER waits behind it.
PATIENCE: Final = "10min"
KIND: Final = "select relkind::text from pg_class where oid = to_regclass(%s)"
KEY: Final = """
select array(select a.attname::text from unnest(t.partattrs::int2[]) k(number)
               join pg_attribute a on a.attrelid = t.partrelid and a.attnum = k.number)
  from pg_partitioned_table t where t.partrelid = %s::regclass
"""
COLUMNS: Final = """
select array_agg(attname::text) from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped
"""
DEFINITION: Final = """
select i.indisunique::text || substr(d.text, position(' USING ' in d.text))
  from pg_index i cross join lateral (select pg_get_indexdef(i.indexrelid)) d(text) where i.indexrelid = to_regclass(%s)
"""
STANDING: Final = """
select c.relkind::text, i.indrelid = to_regclass(%(table)s), i.indisvalid
  from pg_class c left join pg_index i on i.indexrelid = c.oid where c.oid = to_regclass(%(index)s)
"""
# Partitions without an index that is attached to the parent's.
MISSING: Final = """
select n.nspname::text, c.relname::text, c.oid, c.relkind::text
  from pg_inherits h join pg_class c on c.oid = h.inhrelid join pg_namespace n on n.oid = c.relnamespace
 where h.inhparent = %(table)s::regclass and not exists (
    select from pg_inherits a join pg_index i on i.indexrelid = a.inhrelid
     where a.inhparent = %(index)s::regclass and i.indrelid = c.oid)
 order by c.relname
"""
PARTITIONS: Final = "select count(*) from pg_inherits where inhparent = %s::regclass"


@dataclass(frozen=True)
class Wanted:
    """An index as CREATE INDEX takes it. `elements`: names of columns, or what PostgreSQL takes in their place, such as
    `lower(city)` or `city desc`; `where` is the condition of a partial index."""

    table: QualifiedName
    elements: tuple[str, ...]
    unique: bool = False
    where: str | None = None
    name: str | None = None
    using: str = "btree"


@dataclass(frozen=True)
class BuiltIndex:
    """The index, and how many partitions' parts this run built; 0 when it was there."""

    name: QualifiedName
    built: int


def build_index(url: str, wanted: Wanted, progress: Progress) -> BuiltIndex:
    """Build the index, or go on where an earlier run stopped; `progress(message, fraction)` after each partition.

    Raises RefusedError for a table that is not partitioned, for what PostgreSQL refuses on a partitioned table, for a
    name that something else has, and for rows that break --unique, after which nothing is left of the index; BusyError
    when older transactions stay open, after which another run goes on.
    """
    with connect_directly(url, application_name="lifecycle index") as conn, operation_lock(conn, "partitioned_index"):
        _require_partitioned(conn, wanted)
        body = _body(conn, wanted)
        name = QualifiedName(wanted.table.schema, wanted.name or _usual_name(conn, wanted))
        _make_parents(conn, wanted, name, body)
        return BuiltIndex(name, _build_parts(conn, wanted, name, body, progress))


def _require_partitioned(conn: Connection, wanted: Wanted) -> None:
    kind = value(conn, KIND, (str(wanted.table),))
    if kind is None:
        raise RefusedError(f"{wanted.table} does not exist")
    if kind != "p":
        raise RefusedError(f"{wanted.table} is not partitioned: CREATE INDEX CONCURRENTLY builds its index")


def _columns(conn: Connection, wanted: Wanted) -> set[str]:
    return set(value(conn, COLUMNS, (str(wanted.table),)))


def _body(conn: Connection, wanted: Wanted) -> sql.Composed:
    """USING ... (...) WHERE ..., tried on an empty table first. RefusedError in PostgreSQL's words."""
    known = _columns(conn, wanted)
    if wanted.unique and (missing := set(value(conn, KEY, (str(wanted.table),))) - set(wanted.elements)):
        raise RefusedError(
            f"a unique index on {wanted.table} must hold {', '.join(sorted(missing))}, by which it is partitioned: "
            "PostgreSQL checks each partition alone"
        )
    body = sql.SQL(" using {} ({}){}").format(
        sql.Identifier(wanted.using),
        sql.SQL(", ").join(sql.Identifier(each) if each in known else sql.SQL(each) for each in wanted.elements),
        sql.SQL(f" where {wanted.where}") if wanted.where else sql.SQL(""),
    )
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(sql.SQL("create temp table lifecycle_shape (like {})").format(wanted.table.identifier))
            conn.execute(sql.SQL("create index lifecycle_shape_idx on pg_temp.lifecycle_shape{}").format(body))
    except psycopg.Error as error:
        raise RefusedError(f"no such index on {wanted.table}: {error.diag.message_primary}") from None
    return body


def _usual_name(conn: Connection, wanted: Wanted) -> str:
    """As PostgreSQL would call it."""
    known = _columns(conn, wanted)
    name = "_".join([wanted.table.name, *(each if each in known else "expr" for each in wanted.elements), "idx"])
    if len(name.encode()) > LONGEST:
        raise RefusedError(f"the usual name {name} is longer than {LONGEST} bytes: give the index one with --name")
    return name


def _make_parents(conn: Connection, wanted: Wanted, name: QualifiedName, body: sql.Composed) -> None:
    """Make the parent's index alone, or find it made by an earlier run."""
    create = sql.SQL("create {} index {} on only {}{}").format(
        sql.SQL("unique" if wanted.unique else ""), sql.Identifier(name.name), wanted.table.identifier, body
    )
    found = rows(conn, STANDING, {"table": str(wanted.table), "index": str(name)})
    if not found:
        politely(conn, partial(conn.execute, create), what=f"index {name}", relation=str(wanted.table))
        return
    kind, on_table, _ = found[0]
    if kind != "I" or not on_table or value(conn, DEFINITION, (str(name),)) != _would_be(conn, wanted, body):
        raise RefusedError(f"{name} exists and is another index, or none: choose a name with --name")


def _would_be(conn: Connection, wanted: Wanted, body: sql.Composed) -> str:
    """The definition as the server would print it."""
    with conn.transaction(force_rollback=True):
        conn.execute(sql.SQL("create temp table lifecycle_shape (like {})").format(wanted.table.identifier))
        unique = sql.SQL("unique" if wanted.unique else "")
        conn.execute(sql.SQL("create {} index lifecycle_shape_idx on pg_temp.lifecycle_shape{}").format(unique, body))
        return str(value(conn, DEFINITION, ("pg_temp.lifecycle_shape_idx",)))


def _build_parts(conn: Connection, wanted: Wanted, name: QualifiedName, body: sql.Composed, progress: Progress) -> int:
    """Build and attach what is missing, until nothing is: partitions come and go meanwhile."""
    place = {"table": str(wanted.table), "index": str(name)}
    built = 0
    while missing := rows(conn, MISSING, place):
        schema, partition, oid, kind = missing[0]
        if kind != "r":
            raise RefusedError(f"{schema}.{partition} is no ordinary table: build its index by hand, then attach it")
        part = QualifiedName(schema, _part_name(name.name, oid))
        try:
            _build_part(conn, QualifiedName(schema, partition), part, wanted, body)
            attach = sql.SQL("alter index {} attach partition {}").format(name.identifier, part.identifier)
            politely(conn, partial(conn.execute, attach), what=f"attaching {part}", relation=f"{schema}.{partition}")
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject):
            if value(conn, "select exists (select from pg_class where oid = %s)", (oid,)):
                raise
            continue  # rotation dropped it
        except psycopg.errors.UniqueViolation:
            _take_back(conn, name, part, wanted)
            raise RefusedError(
                f"{name}: rows of {schema}.{partition} are the same in {', '.join(wanted.elements)}. Nothing is left"
                " of the index; correct them, then run this again"
            ) from None
        built += 1
        total = value(conn, PARTITIONS, (str(wanted.table),))
        done = total - len(missing) + 1
        progress(f"{partition}: built, {done} of {total}", done / total)
    return built


def _part_name(index: str, partition_oid: int) -> str:
    """The same in every run, so that what a killed one left is found."""
    tail = f"_{partition_oid}"
    return index.encode()[: LONGEST - len(tail)].decode(errors="ignore") + tail


def _build_part(
    conn: Connection, partition: QualifiedName, part: QualifiedName, wanted: Wanted, body: sql.Composed
) -> None:
    found = rows(conn, STANDING, {"table": str(partition), "index": str(part)})
    if found and found[0][1] and found[0][2]:
        return
    try:
        conn.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(PATIENCE)))
        if found and found[0][1]:
            # Left by a build that died.
            conn.execute(sql.SQL("drop index concurrently {}").format(part.identifier))
        conn.execute(
            sql.SQL("create {} index concurrently {} on {}{}").format(
                sql.SQL("unique" if wanted.unique else ""), sql.Identifier(part.name), partition.identifier, body
            )
        )
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise BusyError(
            f"index {part} on {partition}: not finished within {PATIENCE}, because older transactions, VACUUM or ALTER "
            "are in the way. Wait for them or end them, then run this again; it goes on from here."
        ) from error
    finally:
        if not conn.closed:
            conn.execute("set lock_timeout = 0")


def _take_back(conn: Connection, name: QualifiedName, part: QualifiedName, wanted: Wanted) -> None:
    conn.execute(sql.SQL("drop index concurrently if exists {}").format(part.identifier))
    drop = sql.SQL("drop index {}").format(name.identifier)
    politely(conn, partial(conn.execute, drop), what=f"dropping {name}", relation=str(wanted.table))
