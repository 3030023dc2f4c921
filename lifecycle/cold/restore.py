"""A month comes back: its files become the month's partition again, in one transaction."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.cold import manifest
from lifecycle.cold.columns import ColdColumn, as_checksum, read_columns, row_number
from lifecycle.cold.export import print_as_exported
from lifecycle.cold.files import Figures, RowNumbers, read_file
from lifecycle.cold.foreign_keys import apply_foreign_keys
from lifecycle.cold.home import require_home
from lifecycle.cold.load import columns_to_load, copy_rows, newer_columns_as_of_old_rows
from lifecycle.cold.narrow import FOLLOW
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import month_lock, remove_retired
from lifecycle.cold.tables import ColdTable, thawed_name
from lifecycle.database import Connection, connect_directly, operation_lock, politely, rows, value
from lifecycle.errors import BusyError, ColdStorageError, LifecycleError, RefusedError, VerificationError
from lifecycle.names import QualifiedName
from lifecycle.partitions.months import add_months, partition_name
from lifecycle.partitions.tables import PARTITION_SCHEMA

BUILD: Final = "select lifecycle.build_partition(to_regclass(%s), %s, 'month', %s, %s, %s)::text"
PARTITION_OF_MONTH: Final = """
select p.name, p.marker from lifecycle.event_partitions_of(to_regclass(%s)) p
 where not p.is_default and p.lower_bound < %s and p.upper_bound > %s
"""
DEFAULT_PARTITION: Final = "select p.name from lifecycle.event_partitions_of(to_regclass(%s)) p where p.is_default"
HOLD: Final = """
insert into lifecycle.cold_restored (schema_name, table_name, month, hot_until) values (%s, %s, %s, %s)
on conflict (schema_name, table_name, month) do update set hot_until = excluded.hot_until
"""
OUT_OF_NARROW: Final = """
select lifecycle.drop_narrow_month(p, %s, %s) from lifecycle.event_table_policies p
 where p.schema_name = %s and p.table_name = %s
"""
NOTE_ROWS: Final = """
select lifecycle.note_dropped_rows(%s, %s, to_regclass(%s))
 where to_regprocedure('lifecycle.note_dropped_rows(text,text,regclass)') is not null
"""
# What the month's files are, told by the transaction that takes their place: whoever takes rows out of one waits.
SAME_FILES: Final = """
select array_agg(l.id order by l.id) from (
    select f.id from lifecycle.cold_files f
     where f.state = 'live' and f.schema_name = %s and f.table_name = %s and f.month = %s for update
) l
"""


@dataclass(frozen=True)
class MonthRestored:
    """A month that is a partition again.

    `after_actions`: rows that lost a value or went, since what they pointed to is gone. `left_out`: columns that the
    table has no more.
    """

    month: datetime
    partition: str
    rows: int
    files: int
    after_actions: int
    left_out: tuple[str, ...]


def restore_month(
    url: str,
    table: ColdTable,
    month: datetime,
    storage: ColdStorage,
    *,
    keep_for: timedelta,
    now: datetime,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> MonthRestored:
    """Bring a month back for a time, equal row for row, then as foreign keys would have left it.

    Rows of the month that came late, or that were taken out of a file meanwhile, are in it, too. Raises RefusedError
    when no file holds the month, this is a copy of the files' database, or a row points to one that is gone and its
    foreign key says nothing of that; BusyError when a lock stays taken or the files changed.
    """
    told = f"{table.relation} {month:%Y-%m}"
    with (
        connect_directly(url, application_name="lifecycle cold") as conn,
        operation_lock(conn, month_lock(table.relation, month)),
    ):
        require_home(conn)
        files = manifest.live_files(conn, table.relation, month)
        if not files:
            raise RefusedError(f"{told}: no file holds this month. `lifecycle cold status` lists those that do.")
        built = build_beside(conn, table, month)
        try:
            left_out = _load(conn, storage, table, files, built, lambda done: progress(f"{told}: loading", 0.8 * done))
            changed = apply_foreign_keys(conn, table, built)
            conn.execute(sql.SQL("analyze {}").format(built))
            late = _take_place(
                conn, table, month, built, [file.id for file in files], now + keep_for, told_to_views=changed > 0
            )
        except LifecycleError:
            # Rows of somebody who is erased meanwhile shall not stand there.
            conn.execute(sql.SQL("drop table if exists {}").format(built))
            raise
        remove_retired(conn, storage)
        progress(f"{told}: is a partition again", 1.0)
        return MonthRestored(
            month=month,
            partition=partition_name(table.table.stem, month),
            rows=sum(file.rows or 0 for file in files) + late,
            files=len(files),
            after_actions=changed,
            left_out=tuple(sorted(left_out)),
        )


def _load(
    conn: Connection,
    storage: ColdStorage,
    table: ColdTable,
    files: Sequence[manifest.ManifestFile],
    built: sql.Identifier,
    progress: Callable[[float], None],
) -> set[str]:
    """Load every file; the columns that the table has no more. BusyError when an erasure exchanged one meanwhile."""
    columns = read_columns(conn, table.relation)
    left_out: set[str] = set()
    for number, file in enumerate(files):
        try:
            left_out |= load_file(conn, storage, file, built, columns, table.relation)
        except ColdStorageError:
            if file.id in {each.id for each in manifest.live_files(conn, table.relation, file.month)}:
                raise
            raise BusyError(f"{file.key}: was exchanged while it was loaded; run this again") from None
        progress((number + 1) / len(files))
    return left_out


def build_beside(conn: Connection, table: ColdTable, month: datetime) -> sql.Identifier:
    """An empty table like the month's partition, beside it; what an earlier run loaded is dropped."""
    name = partition_name(table.table.stem, month) + "_restored"
    built = sql.Identifier(PARTITION_SCHEMA, name)
    ours = value(
        conn, "select obj_description(to_regclass(%s), 'pg_class') like 'lifecycle:%% of %%'", (built.as_string(conn),)
    )
    if ours:
        conn.execute(sql.SQL("drop table {}").format(built))
    value(conn, BUILD, (str(table.relation), name, table.table.time_column, month, add_months(month, 1)))
    return built


def load_file(
    conn: Connection,
    storage: ColdStorage,
    file: manifest.ManifestFile,
    built: sql.Identifier,
    columns: tuple[ColdColumn, ...],
    table: QualifiedName,
) -> set[str]:
    """Load one file and compare what arrived; returns the columns of the file that the table has no more.

    Columns that are newer than the file hold what PostgreSQL would show of its rows, had they stayed.
    """
    print_as_exported(conn)
    stored = manifest.columns_of(conn, file.layout)
    now = {column.name: column for column in columns}
    kept = columns_to_load(stored, columns, generated=True)
    compared = tuple(column for column in kept if now[column.now].stored == column.stored)
    with tempfile.TemporaryDirectory(prefix="lifecycle-cold-") as scratch, conn.transaction():
        path = Path(scratch) / "file.parquet"
        storage.fetch(file.stored, path)
        before = _figures(conn, built, compared)
        with newer_columns_as_of_old_rows(conn, built, table, stored):
            copy_rows(conn, built, columns_to_load(stored, columns), read_file(path, stored))
        arrived = _figures(conn, built, compared) - before
        expected = Figures()
        with RowNumbers(compared) as numbers:
            for batch in read_file(path, stored):
                expected += numbers.figures(batch.select([column.name for column in compared]))
    if arrived != expected:
        raise VerificationError(
            f"{file.key}: {arrived.rows:,} rows arrived with checksum {arrived.checksum}; {expected.rows:,} with "
            f"{expected.checksum} are in the file. Nothing was changed; run this again."
        )
    return {column.now for column in stored} - set(now)


def _figures(conn: Connection, built: sql.Identifier, columns: tuple[ColdColumn, ...]) -> Figures:
    query = sql.SQL("select count(*), coalesce(sum({}), 0) from {}").format(row_number(columns), built)
    count, total = conn.execute(query).fetchone() or (0, 0)
    return Figures(count, as_checksum(int(total)))


def _take_place(
    conn: Connection,
    table: ColdTable,
    month: datetime,
    built: sql.Identifier,
    files: list[int],
    until: datetime,
    *,
    told_to_views: bool,
) -> int:
    """Attach the month and retire its files at one moment; returns the rows that came late and moved in.

    `told_to_views`: kept views have to follow, since the rows are not what they were when the month left.
    """
    relation = str(table.relation)
    upper = add_months(month, 1)
    name = partition_name(table.table.stem, month)
    parent = table.relation.identifier
    time_column = sql.Identifier(table.table.time_column)

    def attach() -> int:
        conn.execute("select lifecycle.hold_cold_border()")
        conn.execute(sql.SQL("lock table only {} in access exclusive mode").format(parent))
        known = (table.relation.schema, table.relation.name, month)
        if value(conn, SAME_FILES, known) != sorted(files):
            raise BusyError(f"{relation} {month:%Y-%m}: its files changed while they were loaded; run this again")
        # What changes its place changes no figure.
        conn.execute("set local lifecycle.moves_rows = 'yes'")
        told_anew = told_to_views or table.accept_changed_views
        conn.execute(OUT_OF_NARROW.encode(), (month, told_anew, table.relation.schema, table.relation.name))
        if told_anew:
            conn.execute(NOTE_ROWS.encode(), (table.relation.schema, table.relation.name, built.as_string(conn)))
        now = read_columns(conn, table.relation)
        columns = sql.SQL(", ").join(column.identifier for column in now if not column.generated)
        late = 0
        for place, marker in rows(conn, PARTITION_OF_MONTH, (relation, upper, month)):
            partition = sql.Identifier(PARTITION_SCHEMA, place)
            if marker != "month":
                raise RefusedError(f"{partition.as_string(conn)} holds this month and is none of ours; drop it first")
            late += _insert(conn, built, columns, sql.SQL("select {} from only {}").format(columns, partition))
            conn.execute(sql.SQL("drop table {}").format(partition))
        for (place,) in rows(conn, DEFAULT_PARTITION, (relation,)):
            default = sql.Identifier(PARTITION_SCHEMA, place)
            gone = sql.SQL("delete from only {0} where {1} >= {2} and {1} < {3} returning {4}").format(
                default, time_column, sql.Literal(month), sql.Literal(upper), columns
            )
            conn.execute(sql.SQL("lock table only {} in access exclusive mode").format(default))
            late += _insert(conn, built, columns, gone)
        thawed = thawed_name(table.relation)
        if value(conn, "select to_regclass(%s)", (str(thawed),)):
            conn.execute(FOLLOW.encode(), (relation, str(thawed)))
            held = read_columns(conn, thawed)
            shared = sql.SQL(", ").join(column.identifier for column in columns_to_load(held, now))
            gone = sql.SQL("delete from {0} where {1} >= {2} and {1} < {3} returning {4}").format(
                thawed.identifier, time_column, sql.Literal(month), sql.Literal(upper), shared
            )
            with newer_columns_as_of_old_rows(conn, built, table.relation, held):
                late += _insert(conn, built, shared, gone)
        conn.execute(sql.SQL("alter table {} rename to {}").format(built, sql.Identifier(name)))
        partition = sql.Identifier(PARTITION_SCHEMA, name)
        bounds = (sql.Literal(month), sql.Literal(upper))
        conn.execute(
            sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
                parent, partition, *bounds
            )
        )
        conn.execute(sql.SQL("alter table {} drop constraint lifecycle_bounds").format(partition))
        settings = sql.SQL("select lifecycle.copy_index_settings({}::regclass, {}::regclass)")
        conn.execute(settings.format(sql.Literal(relation), sql.Literal(partition.as_string(conn))))
        manifest.retire(conn, files)
        conn.execute(HOLD.encode(), (*known, until))
        return late

    late, _ = politely(conn, attach, what=f"{relation} {month:%Y-%m} comes back", relation=relation)
    return late


def _insert(conn: Connection, target: sql.Identifier, columns: sql.Composed, source: sql.Composed) -> int:
    moved = sql.SQL("with came as ({}) insert into {} ({}) overriding system value select {} from came")
    try:
        return conn.execute(moved.format(source, target, columns, columns)).rowcount
    except psycopg.errors.UniqueViolation as twice:
        raise RefusedError(
            f"a row came late that has the key of a row of the month ({twice.diag.constraint_name}); delete one of them"
        ) from twice
