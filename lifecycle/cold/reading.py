"""How a cold table is read as one: rows of the database and rows of files, with the same columns, types and values.

What a file stores as text (columns.py) the database gives as the same text. What DuckDB has a type for is that type
on both sides; everything else (enumerations, arrays, inet, json, ...) stays PostgreSQL's text on both. Columns are
those of the table as it is now: one that is newer than a file is NULL there, one that the table has no more is not
shown.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

from psycopg import sql

from lifecycle.cold.columns import TEXT, ColdColumn
from lifecycle.cold.search import quoted
from lifecycle.cold.tables import thawed_name
from lifecycle.names import QualifiedName

DUCKDB_TYPES: Final = {
    "boolean": "boolean",
    "smallint": "smallint",
    "integer": "integer",
    "bigint": "bigint",
    "float": "float",
    "double": "double",
    "text": "varchar",
    "bytes": "blob",
    "date": "date",
    "moment": "timestamp",
    "moment in UTC": "timestamptz",
}
UUID: Final = "uuid"
NUMERIC: Final = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?")
MOST_DIGITS: Final = 38
HOT_ROWS: Final = "hot_rows"


def duckdb_type(column: ColdColumn) -> str:
    """The type that readers see. A numeric without a precision that DuckDB has is a double, also in its own scans."""
    if column.type == UUID:
        return UUID
    if found := NUMERIC.fullmatch(column.type):
        digits, scale = (int(part or -1) for part in found.groups())
        return f"decimal({digits}, {scale})" if 0 <= scale <= digits <= MOST_DIGITS else "double"
    return "varchar" if column.stored == TEXT else DUCKDB_TYPES[column.stored]


def hot_view(table: QualifiedName, columns: Sequence[ColdColumn], thawed: Collection[str] | None) -> sql.Composed:
    """The statement that makes a view of the rows in the database, for the session alone, with no type in it that
    DuckDB would read otherwise than it stands.

    `thawed`: columns of the table of rows that were taken out of files, where it holds some (they are in no file).
    """
    parts = [sql.SQL("select {} from {}").format(_selected(columns), table.identifier)]
    if thawed is not None:
        held = sql.SQL(", ").join(
            sql.SQL("{}::{} as {}").format(
                column.identifier if column.name in thawed else sql.NULL, sql.SQL(column.type), column.identifier
            )
            for column in columns
        )
        source = sql.SQL("(select {} from {}) thawed").format(held, thawed_name(table).identifier)
        parts.append(sql.SQL("select {} from {}").format(_selected(columns), source))
    return sql.SQL("create temporary view {} as {}").format(
        sql.Identifier(HOT_ROWS), sql.SQL(" union all ").join(parts)
    )


def _selected(columns: Sequence[ColdColumn]) -> sql.Composed:
    return sql.SQL(", ").join(column.identifier if column.type == UUID else column.selected for column in columns)


def all_rows(
    database: str, columns: Sequence[ColdColumn], files: Sequence[tuple[Sequence[ColdColumn], Sequence[str]]]
) -> str:
    """A query in DuckDB for the rows in the database, attached under this name, and those of files.

    `files`: for each layout the columns of its files and where they are.
    """
    shown = ", ".join(f"{quoted(column.name)}::{duckdb_type(column)} as {quoted(column.name)}" for column in columns)
    parts = [f"select {shown} from {database}.pg_temp.{HOT_ROWS}"]  # noqa: S608 - identifiers quoted, places as literals
    for layout, places in files:
        known = {column.now: column.name for column in layout}
        sources = [quoted(known[column.name]) if column.name in known else "null" for column in columns]
        held = ", ".join(
            f"{source}::{duckdb_type(column)} as {quoted(column.name)}"
            for source, column in zip(sources, columns, strict=True)
        )
        listed = ", ".join(map(literal, places))
        parts.append(f"select {held} from read_parquet([{listed}], hive_partitioning = false)")  # noqa: S608
    return " union all ".join(parts)


def literal(text: str) -> str:
    """A text as DuckDB takes it inside of a statement."""
    return "'" + text.replace("'", "''") + "'"
