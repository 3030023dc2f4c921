"""The rows of one relation as files: one statement reads them in order, one snapshot, and each file is put away as soon
as it is complete."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from psycopg import sql

from lifecycle.cold.columns import ColdColumn, as_checksum, row_number
from lifecycle.cold.files import ColdFile, Figures
from lifecycle.cold.tables import ColdTable
from lifecycle.database import Connection, libpq_url
from lifecycle.errors import RefusedError

if TYPE_CHECKING:
    import pyarrow as pa

# Small enough that a person's file is rewritten within a second, large enough that a store is not asked for thousands.
ROWS_PER_FILE: Final = 200_000
MOST_BUCKETS: Final = 256
BUCKET: Final = "lifecycle_bucket"
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


def buckets_for(rows: int) -> int:
    """Into how many files a month of so many rows is split."""
    return max(1, min(MOST_BUCKETS, round(rows / ROWS_PER_FILE)))


def bucket_of(key: str, buckets: int) -> int:
    """The file in which rows with this text in the deciding column stand; as bucket_expression() in PostgreSQL."""
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:8], 16) % buckets


def bucket_expression(split_by: tuple[str, ...], buckets: int) -> sql.Composed:
    """The bucket of a row. Rows that name nobody stand together."""
    texts = [sql.SQL("{}::text").format(sql.Identifier(column)) for column in split_by]
    key = sql.SQL(", ").join([*texts, sql.SQL("''")])
    return sql.SQL("(('x' || left(pg_catalog.md5(coalesce({})), 8))::bit(32)::bigint % {})::int").format(
        key, sql.Literal(buckets)
    )


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


def export_query(
    table: ColdTable,
    relation: sql.Composable,
    columns: tuple[ColdColumn, ...],
    buckets: int,
    where: sql.Composable = EVERY_ROW,
) -> sql.Composed:
    """Bucket and values of the relation's own rows, by bucket, person and time."""
    order = [sql.Identifier(column) for column in (*table.split_by, table.table.time_column)]
    return sql.SQL("select {} as {}, {} from only {} where {} order by 1, {}").format(
        bucket_expression(table.split_by, buckets),
        sql.Identifier(BUCKET),
        sql.SQL(", ").join(column.selected for column in columns),
        relation,
        where,
        sql.SQL(", ").join(order),
    )


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
    query: str,
    folder: Path,
    columns: tuple[ColdColumn, ...],
    time_column: str,
    metadata: dict[str, str],
    progress: Callable[[int], None] = lambda _rows: None,
) -> Generator[Written]:
    """Run the query once and give each file as it is complete; the caller removes it. `progress` gets rows so far.

    Memory holds a row group and what the driver reads at a time, whatever the month holds.
    """
    from adbc_driver_postgresql import dbapi

    done = 0
    with dbapi.connect(libpq_url(url)) as conn, conn.cursor() as cursor:
        for setting in SESSION:
            cursor.execute(setting)
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        file: ColdFile | None = None
        bucket, count = -1, 0
        for batch in reader:
            for its_bucket, part in _by_bucket(batch):
                if file is None or its_bucket != bucket:
                    if file is not None:
                        file.close()
                        yield Written(bucket, file.path, count)
                    bucket, count = its_bucket, 0
                    file = ColdFile(folder / f"{bucket}.parquet", columns, time_column, metadata)
                count += part.num_rows
                file.write(part.select([column.name for column in columns]))
            done += batch.num_rows
            progress(done)
        if file is not None:
            file.close()
            yield Written(bucket, file.path, count)


def _by_bucket(batch: "pa.RecordBatch") -> Iterator[tuple[int, "pa.RecordBatch"]]:
    """A batch in order of buckets, cut between them."""
    import numpy as np

    buckets = batch.column(0).to_numpy(zero_copy_only=False)
    edges = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), batch.num_rows]
    for start, end in pairwise(edges):
        if end > start:
            yield int(buckets[start]), batch.slice(start, end - start)
