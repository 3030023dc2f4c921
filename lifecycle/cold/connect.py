"""Hot and cold rows together, for notebooks and programs:

from lifecycle.cold.connect import connect

with connect(url, load_application(Path("application")), open_storage(ColdSettings("s3://bucket/cold"))) as reader:
    reader.query("select count(*) from public.page_views").rows()
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

from lifecycle.cold.columns import read_columns
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.query import READER, RESULT, FileChoice, Source, run
from lifecycle.cold.reading import literal
from lifecycle.cold.search import quoted
from lifecycle.cold.split import bucket_of
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import ColdTable, cold_tables, named_cold_table
from lifecycle.database import connect as connect_to_database
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.partitions.months import add_months

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

MEMORY_LIMIT: Final = "1GB"
MOST_ROWS: Final = 1_000_000


class ColdResult:
    """What a query returned; it is held by DuckDB, on the disk where it does not fit, until the reader is closed."""

    def __init__(self, conn: "duckdb.DuckDBPyConnection") -> None:
        self._conn = conn

    @property
    def relation(self) -> "duckdb.DuckDBPyRelation":
        """As DuckDB has it, to go on working with."""
        return self._conn.table(RESULT)

    @property
    def columns(self) -> list[str]:
        return list(self.relation.columns)

    def __len__(self) -> int:
        return len(self.relation)

    def rows(self, at_most: int | None = None) -> list[tuple[Any, ...]]:
        """The first rows, or all."""
        return self.relation.fetchall() if at_most is None else self.relation.limit(at_most).fetchall()

    def arrow(self) -> "pa.Table":
        """All rows as an Arrow table."""
        return self.relation.to_arrow_table()

    def df(self) -> "pd.DataFrame":
        """All rows as a DataFrame: moments in UTC, uuids as text, and a whole number stays one beside a NULL."""
        import pandas as pd
        import pyarrow as pa

        kept = {
            pa.bool_(): pd.BooleanDtype(),
            pa.int16(): pd.Int16Dtype(),
            pa.int32(): pd.Int32Dtype(),
            pa.int64(): pd.Int64Dtype(),
        }
        frame: pd.DataFrame = self.arrow().to_pandas(types_mapper=kept.get)
        return frame

    def write_csv(self, path: Path) -> None:
        """Write all rows as CSV with a line of names."""
        self.relation.write_csv(str(path), header=True)

    def write_parquet(self, path: Path) -> None:
        """Write all rows as Parquet."""
        self.relation.write_parquet(str(path), compression="zstd")


class ColdReader:
    """Queries over tables with cold months, hot and cold rows together, and every other table of the database.

    Each query sees one moment of its own. While it runs, no month moves; erasures go on.
    """

    def __init__(self, source: Source, application: Application) -> None:
        self._source, self._application = source, application
        self._open: list[duckdb.DuckDBPyConnection] = []

    def query(self, statement: str) -> ColdResult:
        """Run one SELECT of DuckDB's SQL, with tables under their names in PostgreSQL.

        Raises RefusedError when it is wrong or needs too much, ColdStorageError when the store fails, BusyError when
        files keep being exchanged, psycopg.Error when PostgreSQL is away or refuses.
        """
        return self._run(statement, lambda _file: True)

    def frame(
        self,
        table: str,
        start: datetime,
        end: datetime,
        columns: Sequence[str] | None = None,
        *,
        most_rows: int = MOST_ROWS,
    ) -> "pd.DataFrame":
        """Rows of a cold table from `start` until before `end`, in UTC unless they say otherwise.

        Only files of those months are read. Raises RefusedError when there are more than `most_rows` rows, or no such
        columns, and what query() raises.
        """
        cold = named_cold_table(self._application, table)
        found = self._run(
            f"{_select(cold, columns)} where {_within(cold, start, end)} limit {most_rows + 1}",
            _months(cold, start, end),
        )
        if len(found) > most_rows:
            raise RefusedError(
                f"{cold.relation} has more than {most_rows:,} rows there. Load fewer days, or raise most_rows."
            )
        return found.df()

    def of_person(
        self, table: str, column: str, key: str, start: datetime | None = None, end: datetime | None = None
    ) -> ColdResult:
        """Rows of a cold table that hold this key in this column.

        Of the column by which files are split, the first by which the map of personal data finds people in the table,
        one file of each month is read; of another, all.
        """
        cold = named_cold_table(self._application, table)
        key = self._as_printed(cold, column, key)
        within = _months(cold, start, end)

        def chosen(file: ManifestFile) -> bool:
            split = file.split_by[:1] == (column,)
            return within(file) and (not split or file.bucket == bucket_of(key, file.buckets))

        condition = f"{quoted(column)} = {literal(key)} and {_within(cold, start, end)}"
        return self._run(f"{_select(cold, None)} where {condition}", chosen)

    def close(self) -> None:
        """Forget the results."""
        while self._open:
            self._open.pop().close()

    def _run(self, statement: str, chosen: FileChoice) -> ColdResult:
        self._open.append(run(self._source, statement, chosen))
        return ColdResult(self._open[-1])

    def _as_printed(self, cold: ColdTable, column: str, key: str) -> str:
        """The key in the form in which PostgreSQL prints it, which decides about its file."""
        with connect_to_database(self._source.url, application_name=READER) as conn:
            found = next((each for each in read_columns(conn, cold.relation) if each.name == column), None)
            if found is None:
                raise RefusedError(f"{cold.relation} has no column {column}.")
            query = sql.SQL("select ({}::{})::text").format(sql.Literal(key), sql.SQL(found.type))
            try:
                row = conn.execute(query).fetchone()
            except psycopg.DataError:
                raise RefusedError(f"{cold.relation}.{column} holds {found.type}, which this key is not.") from None
        return str(row[0]) if row else key


@contextmanager
def connect(
    url: str, application: Application, storage: ColdStorage | None, *, memory_limit: str = MEMORY_LIMIT
) -> Iterator[ColdReader]:
    """A reader of the declared application's tables, whose results end with it.

    `url`: a direct connection or a session pooler, of a role that reads the tables and schema lifecycle. `storage`:
    where the files are, None where there are none. `memory_limit` bounds DuckDB, which puts more than that on the
    disk. Beside it stands what a statement reads of a table in the database that it names twice, or of several that
    are not cold.
    """
    tables = cold_tables(application)
    named = (*(table.relation for table in tables), *(relation.name for relation in application.relations))
    with tempfile.TemporaryDirectory(prefix="lifecycle-cold-", ignore_cleanup_errors=True) as folder:
        source = Source(
            url=url,
            tables=tuple(table.relation for table in tables),
            schemas=tuple(dict.fromkeys(relation.schema for relation in named)),
            storage=storage,
            memory_limit=memory_limit,
            folder=Path(folder),
        )
        reader = ColdReader(source, application)
        try:
            yield reader
        finally:
            reader.close()


def _select(cold: ColdTable, columns: Sequence[str] | None) -> str:
    shown = ", ".join(map(quoted, columns)) if columns else "*"
    return f"select {shown} from {quoted(cold.relation.schema)}.{quoted(cold.relation.name)}"  # noqa: S608


def _within(cold: ColdTable, start: datetime | None, end: datetime | None) -> str:
    bounds = [(sign, _in_utc(moment)) for sign, moment in ((">=", start), ("<", end)) if moment]
    column = quoted(cold.table.time_column)
    return " and ".join(["true", *(f"{column} {sign} timestamptz {literal(at.isoformat())}" for sign, at in bounds)])


def _months(cold: ColdTable, start: datetime | None, end: datetime | None) -> FileChoice:
    def within(file: ManifestFile) -> bool:
        too_early = start is not None and add_months(file.month, 1) <= _in_utc(start)
        too_late = end is not None and file.month >= _in_utc(end)
        return file.relation == cold.relation and not too_early and not too_late

    return within


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
