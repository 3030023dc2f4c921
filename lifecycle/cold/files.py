"""Writing one Parquet file, and telling its rows by count and checksum."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lifecycle.cold.columns import TEXT, ColdColumn, as_checksum, row_number_in_duckdb
from lifecycle.errors import ColdStorageError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# What DuckDB scans at a time; a piece of that size is what Spark hands to one task.
ROW_GROUP_ROWS: Final = 122_880
# Wide rows are written out earlier, so that memory does not grow with them.
ROW_GROUP_BYTES: Final = 64 * 1024 * 1024
READ_ROWS: Final = 32_768
# So many rows tell in which columns values repeat.
ROWS_ASKED: Final = 2_000


@dataclass(frozen=True)
class Figures:
    """What rows add up to: how many, and the sum of their numbers modulo 2^64 (columns.py)."""

    rows: int = 0
    checksum: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(self.rows + other.rows, as_checksum(self.checksum + other.checksum))

    def __sub__(self, other: "Figures") -> "Figures":
        return Figures(self.rows - other.rows, as_checksum(self.checksum - other.checksum))


def file_schema(columns: Sequence[ColdColumn]) -> "pa.Schema":
    """The columns of a file: all may be NULL, since a later version of the table may lack one's NOT NULL."""
    import pyarrow as pa

    types = {
        "boolean": pa.bool_(),
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        TEXT: pa.string(),
        "bytes": pa.binary(),
        "date": pa.date32(),
        "moment": pa.timestamp("us"),
        "moment in UTC": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([pa.field(column.name, types[column.stored]) for column in columns])


class ColdFile:
    """A Parquet file that is being written: zstd, in row groups, bounds of no column but the time in its footer.

    The bounds of any other column would be values of somebody, in a place where no search looks for them.
    """

    def __init__(self, path: Path, columns: Sequence[ColdColumn], time_column: str, metadata: dict[str, str]) -> None:
        self.path = path
        self._schema = file_schema(columns)
        self._time_column, self._metadata = time_column, metadata
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: "pa.RecordBatch") -> None:
        """Take rows; they reach the file a row group at a time."""
        self._waiting.append(batch.cast(self._schema))
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= ROW_GROUP_ROWS or self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the footer."""
        self._flush().close()

    def _flush(self) -> "pq.ParquetWriter":
        import pyarrow as pa

        waiting = pa.Table.from_batches(self._waiting, self._schema)
        writer = self._writer = self._writer or self._open(waiting)
        if waiting.num_rows:
            writer.write_table(waiting, row_group_size=ROW_GROUP_ROWS)
        self._waiting, self._rows, self._bytes = [], 0, 0
        return writer

    def _open(self, first: "pa.Table") -> "pq.ParquetWriter":
        """A dictionary costs time, and room, where hardly two of the first rows hold the same."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        some = first.slice(0, ROWS_ASKED)
        repeating = [name for name in some.column_names if pc.count_distinct(some[name]).as_py() * 2 <= some.num_rows]
        return pq.ParquetWriter(
            self.path,
            self._schema.with_metadata({f"lifecycle.{name}": text for name, text in self._metadata.items()}),
            compression="zstd",
            write_statistics=[self._time_column],
            use_dictionary=repeating or False,
        )


def read_file(path: Path, columns: Sequence[ColdColumn]) -> Iterator["pa.RecordBatch"]:
    """The rows of a file, some thousands at a time. ColdStorageError when it is no such file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != [column.name for column in columns]:
                raise ColdStorageError(f"{path.name}: its columns are not those that the manifest tells of")
            yield from file.iter_batches(READ_ROWS)
    except pa.ArrowException as damaged:
        raise ColdStorageError(f"{path.name}: cannot be read as Parquet ({type(damaged).__name__})") from damaged


def figures_of_file(path: Path, columns: Sequence[ColdColumn]) -> Figures:
    """Count and checksum of the rows of a file as it stands on the disk."""
    total = Figures()
    with RowNumbers(columns) as numbers:
        for batch in read_file(path, columns):
            total += numbers.figures(batch)
    return total


class RowNumbers:
    """Adds up the numbers of rows in memory, with DuckDB."""

    def __init__(self, columns: Sequence[ColdColumn]) -> None:
        import duckdb

        self._columns = tuple(columns)
        self._number = row_number_in_duckdb(self._columns)
        self._conn = duckdb.connect(config={"threads": 1})
        self._conn.execute("set timezone = 'UTC'")

    def __enter__(self) -> "RowNumbers":
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()

    def figures(self, batch: "pa.RecordBatch") -> Figures:
        """Count and checksum of a batch with the columns of the file."""
        if not batch.num_rows:
            return Figures()
        self._conn.register("cold_rows", _floats_as_bits(batch, self._columns))
        found = self._conn.execute(f"select count(*), sum({self._number}) from cold_rows").fetchone()  # noqa: S608
        self._conn.unregister("cold_rows")
        assert found is not None  # noqa: S101 - an aggregate returns one row
        return Figures(found[0], as_checksum(int(found[1])))


def _floats_as_bits(batch: "pa.RecordBatch", columns: Sequence[ColdColumn]) -> "pa.Table":
    """No two programs print every float alike, so its bits are compared."""
    import pyarrow as pa

    bits = {"float": pa.int32(), "double": pa.int64()}
    arrays = [
        batch.column(place).view(bits[column.stored]) if column.stored in bits else batch.column(place)
        for place, column in enumerate(columns)
    ]
    return pa.table(arrays, names=[column.name for column in columns])
