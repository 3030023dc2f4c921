"""The rows of one relation as files: one statement reads them, one snapshot, the worker splits and sorts them, and each
file is put away as soon as it is complete."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg import sql

from lifecycle.cold.columns import TEXT, ColdColumn, as_checksum, row_number
from lifecycle.cold.files import ColdFile, Figures
from lifecycle.cold.split import SplitRows
from lifecycle.cold.tables import ColdTable
from lifecycle.database import Connection, libpq_url
from lifecycle.errors import RefusedError

# Small enough that the files of a person are rewritten within seconds, large enough that a store is not asked for
# thousands; wide rows make more files.
ROWS_PER_FILE: Final = 50_000
BYTES_PER_FILE: Final = 64 * 2**20
MOST_BUCKETS: Final = 1024
# Types whose values Arrow prints as PostgreSQL does; of others PostgreSQL tells the text that decides about the file.
PRINTED_ALIKE: Final = (TEXT, "smallint", "integer", "bigint")
KEY: Final = "lifecycle_key"
# Values as text have one form, whatever the database's own settings.
PRINTED: Final = (
    "set timezone = 'UTC'",
    "set datestyle = 'ISO'",
    "set intervalstyle = 'postgres'",
    "set extra_float_digits = 1",
)
SESSION: Final = (*PRINTED, "set row_security = off", "set statement_timeout = 0")
EVERY_ROW: Final = sql.SQL("true")
INFINITE: Final = sql.SQL("select exists (select from only {} where not isfinite({}))")


@dataclass(frozen=True)
class Written:
    """A file that waits on the disk, with so many rows."""

    bucket: int
    path: Path
    rows: int


def buckets_for(rows: int, size: int = 0) -> int:
    """Into how many files a month of so many rows is split, which takes so many bytes in the database."""
    return max(1, min(MOST_BUCKETS, round(max(rows / ROWS_PER_FILE, size / BYTES_PER_FILE))))


def bucket_expression(split_by: tuple[str, ...], buckets: int) -> sql.Composed:
    """The bucket of a row. Rows that name nobody stand together."""
    return sql.SQL("(('x' || left(pg_catalog.md5({}), 8))::bit(32)::bigint % {})::int").format(
        _key(split_by), sql.Literal(buckets)
    )


def _key(split_by: tuple[str, ...]) -> sql.Composed:
    texts = [sql.SQL("{}::text").format(sql.Identifier(column)) for column in split_by]
    return sql.SQL("coalesce({})").format(sql.SQL(", ").join([*texts, sql.SQL("''")]))


def require_finite(conn: Connection, relation: sql.Composable, columns: tuple[ColdColumn, ...]) -> None:
    """RefusedError when a date or moment is infinite: a file knows no such thing."""
    for column in columns:
        if column.may_be_infinite:
            found = conn.execute(INFINITE.format(relation, column.identifier)).fetchone()
            if found and found[0]:
                raise RefusedError(
                    f"{relation.as_string(conn)}.{column.name}: holds infinity, which Parquet has not. The month stays "
                    "in the database; set those values to NULL or to a date, then move it again."
                )


@dataclass(frozen=True)
class Export:
    """What is read, and how it is split: by the text of the first of the columns `key` that a row has."""

    query: str
    columns: tuple[ColdColumn, ...]
    key: tuple[str, ...]
    time_column: str
    buckets: int


def export_of(
    conn: Connection,
    table: ColdTable,
    relation: sql.Composable,
    columns: tuple[ColdColumn, ...],
    buckets: int,
    where: sql.Composable = EVERY_ROW,
) -> Export:
    """The relation's own rows for files by person, each sorted by person and time."""
    stored = {column.now: column.stored for column in columns}
    selected = [column.selected for column in columns]
    key = table.split_by
    if not all(stored[name] in PRINTED_ALIKE for name in key):
        selected.append(sql.SQL("{} as {}").format(_key(key), sql.Identifier(KEY)))
        key = (KEY,)
    query = sql.SQL("select {} from only {} where {}").format(sql.SQL(", ").join(selected), relation, where)
    return Export(query.as_string(conn), columns, key, table.table.time_column, buckets)


def print_as_exported(conn: Connection) -> None:
    """Let a session of our own print values as files hold them."""
    for setting in PRINTED:
        conn.execute(setting.encode())


def figures_by_bucket(
    conn: Connection,
    table: ColdTable,
    relation: sql.Composable,
    columns: tuple[ColdColumn, ...],
    buckets: int,
    where: sql.Composable = EVERY_ROW,
) -> dict[int, Figures]:
    """Count and checksum of the relation's own rows by bucket, as PostgreSQL tells them in a look of its own.

    Each value is printed once, for its bucket and its number alike.
    """
    print_as_exported(conn)
    printed = sql.SQL("select {} from only {} where {} offset 0").format(
        sql.SQL(", ").join(column.selected for column in columns), relation, where
    )
    query = sql.SQL("select {}, count(*), sum({}) from ({}) t group by 1").format(
        bucket_expression(table.split_by, buckets), row_number(columns), printed
    )
    return {bucket: Figures(count, as_checksum(int(total))) for bucket, count, total in conn.execute(query)}


def export_files(
    url: str,
    export: Export,
    folder: Path,
    metadata: dict[str, str],
    progress: Callable[[int], None] = lambda _rows: None,
) -> Generator[Written]:
    """Run the query once, then give each file as it is complete; the caller removes it. `progress` gets rows so far.

    The rows wait in `folder`. Memory holds what the driver reads at a time, or one file, whatever the month holds.
    """
    from adbc_driver_postgresql import dbapi

    names = [column.name for column in export.columns]
    with dbapi.connect(libpq_url(url)) as conn, conn.cursor() as cursor:
        for setting in SESSION:
            cursor.execute(setting)
        cursor.execute(export.query)
        reader = cursor.fetch_record_batch()
        rows = SplitRows(folder, reader.schema, export.key, export.time_column, export.buckets)
        with closing(rows):
            done = 0
            for batch in reader:
                rows.add(batch)
                done += batch.num_rows
                progress(done)
            for bucket, batches in rows.files():
                file = ColdFile(folder / f"{bucket}.parquet", export.columns, export.time_column, metadata)
                count = 0
                for batch in batches:
                    count += batch.num_rows
                    file.write(batch.select(names))
                file.close()
                yield Written(bucket, file.path, count)
