"""The archive beside its table: made after the table's columns, and kept in step with them."""

import time
from collections.abc import Callable, Iterator
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.archive.grants import close, open_like
from lifecycle.archive.layout import (
    ARCHIVED_AT,
    FINGERPRINT,
    GZIP,
    SHA256,
    Archive,
    ArchivedColumn,
    Layout,
    exists,
    read_layout,
)
from lifecycle.archive.readers import require_no_references
from lifecycle.archive.surroundings import keep_surroundings, leave_group_policy
from lifecycle.database import Connection, rows, value
from lifecycle.errors import BusyError, RefusedError

LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
KNOWN: Final = sql.SQL("select column_name, source, source_number from lifecycle.archived_columns where {}")
FORGET: Final = sql.SQL("delete from lifecycle.archived_columns where {}")
REMEMBER: Final = """
insert into lifecycle.archived_columns (archive_schema, archive_table, column_name, source, source_number)
values (%s, %s, %s, %s, %s)
"""
STORED: Final = """
select a.attname::text, format('%%I.%%I', n.nspname, t.typname)
  from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
 where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped
"""
OID: Final = "select to_regclass(%s)::oid::bigint"


class LayoutChangedError(Exception):
    """The table has other columns than a moment ago: bring the archive in step, then try again."""


def keep_in_step(conn: Connection, archive: Archive) -> Iterator[str]:
    """Make the archive or bring it up to its table's columns, with what stands around both; a line per change.

    Each step is a short transaction that waits for a lock only briefly: psycopg's LockNotAvailable is the caller's to
    try again. RefusedError when a column cannot be taken up; it names the column, and nothing was changed by that step.
    """
    layout = read_layout(conn, archive)
    require_no_references(conn, archive.source)
    name = archive.declared.archive
    with conn.transaction():
        conn.execute(LOCK_TIMEOUT)
        if not exists(conn, name):
            _create(conn, layout)
            yield f"archive {name}: made for {archive.source}"
        else:
            yield from _take_up(conn, layout)
        _remember(conn, layout)
    yield from keep_surroundings(conn, layout)


def bring_in_step(conn: Connection, archive: Archive, sleep: Callable[[float], None] = time.sleep) -> Layout:
    """The archive with the columns that its table has now. Raises BusyError when a lock stays taken."""
    for attempt in range(30):
        try:
            for _ in keep_in_step(conn, archive):
                pass
            return read_layout(conn, archive)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            last = error
            sleep(min(0.2 * (attempt + 1), 2.0))
    raise BusyError(
        f"{archive.job}: {last.diag.message_primary}, again and again. End the long transaction, then run this again."
    ) from last


def hold_columns(conn: Connection, layout: Layout) -> None:
    """Keep the table's columns as they are until the caller's transaction ends; LayoutChangedError if they are not."""
    conn.execute(sql.SQL("lock table only {} in row exclusive mode").format(layout.archive.source.identifier))
    if value(conn, FINGERPRINT, (str(layout.archive.source),)) != layout.fingerprint:
        raise LayoutChangedError(str(layout.archive.source))


def _columns_of(column: ArchivedColumn) -> list[tuple[str, str]]:
    """What the archive keeps of a column: names and types."""
    made = [(column.name, column.stored)]
    if column.compressed:
        made += [(column.name + GZIP, "pg_catalog.bytea"), (column.name + SHA256, "pg_catalog.bytea")]
    return made


def _named(column: ArchivedColumn) -> list[str]:
    """What a grant on a column of the source opens: its checksum would tell a text that somebody guesses."""
    return [column.name, *([column.name + GZIP] if column.compressed else [])]


def _create(conn: Connection, layout: Layout) -> None:
    archive, declared = layout.archive, layout.archive.declared
    name = declared.archive
    never_null = (declared.id, declared.group, declared.time)
    columns = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(made),
            sql.SQL(kind),
            sql.SQL(" not null" if made in never_null else ""),
        )
        for column in layout.columns
        for made, kind in _columns_of(column)
    ]
    columns += [
        sql.SQL("{} timestamptz not null default now()").format(sql.Identifier(ARCHIVED_AT)),
        sql.SQL("primary key ({})").format(sql.Identifier(declared.id)),
    ]
    conn.execute(sql.SQL("create table {} ({})").format(name.identifier, sql.SQL(", ").join(columns)))
    conn.execute(sql.SQL("alter table {} enable row level security").format(name.identifier))
    close(conn, name)
    open_like(conn, archive.source, name, {column.name: _named(column) for column in layout.columns})
    for column in layout.compressed:
        _store_as_it_is(conn, layout, column)
    for indexed in ((declared.group, declared.time), (declared.time,)):
        conn.execute(
            sql.SQL("create index on {} ({})").format(name.identifier, sql.SQL(", ").join(map(sql.Identifier, indexed)))
        )
    told = f"Rows of {archive.source} that are older than {declared.after}, each with all of its columns. "
    told += "A compressed column is either gzip (<column>_gzip) or, where that would be larger, as it is. "
    told += f"Written only by the job {archive.job}."
    conn.execute(sql.SQL("comment on table {} is {}").format(name.identifier, sql.Literal(told)))


def _store_as_it_is(conn: Connection, layout: Layout, column: ArchivedColumn) -> None:
    """What is compressed already must not be tried again."""
    conn.execute(
        sql.SQL("alter table {} alter column {} set storage external").format(
            layout.archive.declared.archive.identifier, sql.Identifier(column.name + GZIP)
        )
    )


def _take_up(conn: Connection, layout: Layout) -> Iterator[str]:
    archive = layout.archive
    name = archive.declared.archive
    known = {
        column: (source, number) for column, source, number in conn.execute(KNOWN.format(archive.keeps_archived_rows))
    }
    if not known:
        raise RefusedError(
            f"{name}: exists and was not made by the archive of {archive.source}. Name another table in archive.yaml, "
            "or rename this one."
        )
    yield from _follow_renames(conn, layout, known)
    stored = dict(rows(conn, STORED, (str(name),)))
    for column in layout.columns:
        for made, kind in _columns_of(column):
            if made not in stored:
                _add(conn, layout, column, made, kind)
                yield f"archive {name}: column {made} taken up"
            elif stored[made] != kind:
                _retype(conn, layout, made, stored[made], kind)
                yield f"archive {name}: column {made} is {kind} now"


def _follow_renames(conn: Connection, layout: Layout, known: dict[str, tuple[int, int]]) -> Iterator[str]:
    name = layout.archive.declared.archive
    source = value(conn, OID, (str(layout.archive.source),))
    by_number = {number: column for column, (oid, number) in known.items() if oid == source}
    renamed = [c for c in layout.columns if by_number.get(c.number, c.name) != c.name]
    stored = dict(rows(conn, STORED, (str(name),)))
    ends = ("", GZIP, SHA256)
    leaving = {by_number[column.number] for column in renamed}
    if blocked := [column.name for column in renamed if column.name in stored and column.name not in leaving]:
        before = next(by_number[column.number] for column in renamed if column.name == blocked[0])
        raise RefusedError(
            f"{layout.archive.source}: {before} is named {blocked[0]} now, and {name} still keeps the values of an "
            f"earlier column {blocked[0]}. Rename or drop that column of {name}, then run this again."
        )
    # By way of names of our own: two columns may have changed places.
    for first in (True, False):
        for column in renamed:
            before, between = by_number[column.number], f"lifecycle_{column.number}"
            for end in ends:
                if before + end in stored:
                    old, new = (before, between) if first else (between, column.name)
                    conn.execute(
                        sql.SQL("alter table {} rename column {} to {}").format(
                            name.identifier, sql.Identifier(old + end), sql.Identifier(new + end)
                        )
                    )
    for column in renamed:
        yield f"archive {name}: column {by_number[column.number]} is named {column.name} now"


def _add(conn: Connection, layout: Layout, column: ArchivedColumn, made: str, kind: str) -> None:
    """Rows that are archived already get what the table's own old rows got."""
    name = layout.archive.declared.archive
    missing = column.missing if made == column.name else None
    conn.execute(
        sql.SQL("alter table {} add column {} {}{}").format(
            name.identifier,
            sql.Identifier(made),
            sql.SQL(kind),
            sql.SQL("") if missing is None else sql.SQL(" default {}").format(sql.Literal(missing)),
        )
    )
    if missing is not None:
        conn.execute(
            sql.SQL("alter table {} alter column {} drop default").format(name.identifier, sql.Identifier(made))
        )
    if made == column.name + GZIP:
        _store_as_it_is(conn, layout, column)
    if made in _named(column):
        granted = {column.name: [made]}
        open_like(conn, layout.archive.source, name, granted)


def _retype(conn: Connection, layout: Layout, made: str, before: str, kind: str) -> None:
    name = layout.archive.declared.archive
    try:
        with conn.transaction():
            if made == layout.archive.declared.group:
                leave_group_policy(conn, layout)
            conn.execute(
                sql.SQL("alter table {table} alter column {column} type {kind} using {column}::{kind}").format(
                    table=name.identifier,
                    column=sql.Identifier(made),
                    kind=sql.SQL(kind),
                )
            )
    except (psycopg.DataError, psycopg.errors.CannotCoerce, psycopg.errors.DatatypeMismatch):
        raise RefusedError(
            f"{layout.archive.source}.{made}: has another type now, and archived values of {name}.{made} ({before}) "
            f"cannot be cast to it ({kind}). Nothing moves until they can: alter the type of {name}.{made} with the "
            "USING of your own migration."
        ) from None


def _remember(conn: Connection, layout: Layout) -> None:
    archive = layout.archive
    source = value(conn, OID, (str(archive.source),))
    name = archive.declared.archive
    wanted = {column.name: (source, column.number) for column in layout.columns}
    known = {column: (oid, number) for column, oid, number in conn.execute(KNOWN.format(archive.keeps_archived_rows))}
    if wanted == known:
        return
    conn.execute(FORGET.format(archive.keeps_archived_rows))
    for column, (oid, number) in wanted.items():
        conn.execute(REMEMBER.encode(), (name.schema, name.name, column, oid, number))
