"""How each column of an event table stands in a file, and how a row is told by one number on either side.

Files are read by DuckDB, Spark and others, so they hold plain types alone: what has none there (uuid, json, numeric,
enumerations, arrays, types of extensions) is its text, from which PostgreSQL reads the same value again.
"""

from dataclasses import dataclass
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName

# By the name in pg_catalog. varchar and the like are text for everybody else.
NATIVE: Final = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "float",
    "float8": "double",
    "text": "text",
    "varchar": "text",
    "bytea": "bytes",
    "date": "date",
    "timestamp": "moment",
    "timestamptz": "moment in UTC",
}
TEXT: Final = "text"
# The value as text that it has on both sides; {} is the column. Everything else is compared as it prints.
IN_POSTGRESQL: Final = {
    "float": "('x' || pg_catalog.encode(pg_catalog.float4send({}), 'hex'))::bit(32)::int::text",
    "double": "('x' || pg_catalog.encode(pg_catalog.float8send({}), 'hex'))::bit(64)::bigint::text",
    "bytes": "pg_catalog.encode({}, 'hex')",
    "date": "({} - date '1970-01-01')::text",
    "moment": "(extract(epoch from {}) * 1000000)::bigint::text",
    "moment in UTC": "(extract(epoch from {}) * 1000000)::bigint::text",
}
IN_DUCKDB: Final = {
    "bytes": "lower(hex({}))",
    "date": "({} - date '1970-01-01')::varchar",
    "moment": "epoch_us({})::varchar",
    "moment in UTC": "epoch_us({})::varchar",
}
# Between two values, and in place of NULL: letters that no text of a client holds by chance at the same place.
BETWEEN: Final = "\x1f"
NULL: Final = "\x1e"
COLUMNS: Final = """
select a.attname::text, format_type(a.atttypid, a.atttypmod),
       case when t.typnamespace = 'pg_catalog'::regnamespace then t.typname::text end, a.attgenerated <> '',
       a.attnotnull, a.attnum::int
  from pg_attribute a join pg_type t on t.oid = a.atttypid
 where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped order by a.attnum
"""


@dataclass(frozen=True)
class ColdColumn:
    """A column by name, its type as PostgreSQL prints it, and as what a file stores it (a value of NATIVE).

    `number` is its place in the catalog, by which one is known again that has another name by now: `called`.
    """

    name: str
    type: str
    stored: str
    generated: bool = False
    not_null: bool = False
    number: int = 0
    called: str = ""

    @property
    def now(self) -> str:
        """Its name in the table."""
        return self.called or self.name

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.now)

    @property
    def selected(self) -> sql.Composed:
        """The value that a file stores, under the column's name."""
        cast = "::text" if self.stored == TEXT else ""
        return sql.SQL("{0}{1} as {0}").format(self.identifier, sql.SQL(cast))

    @property
    def told(self) -> sql.Composable:
        """The value as text, in PostgreSQL; of a `selected` value as of the column itself."""
        return sql.SQL(IN_POSTGRESQL.get(self.stored, "{}::text")).format(self.identifier)

    @property
    def told_by_duckdb(self) -> str:
        """The value as text, in DuckDB; a float comes as the integer of the same bits."""
        name = '"' + self.name.replace('"', '""') + '"'
        return IN_DUCKDB.get(self.stored, "{}::varchar").format(name)

    @property
    def may_be_infinite(self) -> bool:
        return self.stored in ("date", "moment", "moment in UTC")


def read_columns(conn: Connection, table: QualifiedName) -> tuple[ColdColumn, ...]:
    """The table's columns in their order; RefusedError where there is no such table."""
    found = rows(conn, COLUMNS, (str(table),))
    if not found:
        raise RefusedError(f"{table}: there is no such table. Correct event_tables.yaml, then run this again.")
    return tuple(
        ColdColumn(name, kind, NATIVE.get(built_in or "", TEXT), generated, not_null, number)
        for name, kind, built_in, generated, not_null, number in found
    )


def row_number(columns: tuple[ColdColumn, ...]) -> sql.Composed:
    """A row as a signed 64-bit number in PostgreSQL: the first half of the MD5 of its values' texts.

    Added up over rows (modulo 2^64) it is the checksum of a file: rows may come in any order.
    """
    texts = sql.SQL(", ").join(sql.SQL("coalesce({}, {})").format(column.told, sql.Literal(NULL)) for column in columns)
    joined = sql.SQL("pg_catalog.concat_ws({}, {})").format(sql.Literal(BETWEEN), texts)
    return sql.SQL("('x' || left(pg_catalog.md5({}), 16))::bit(64)::bigint").format(joined)


def row_number_in_duckdb(columns: tuple[ColdColumn, ...]) -> str:
    """The same number in DuckDB, unsigned."""
    text = f" || '{BETWEEN}' || ".join(f"coalesce({column.told_by_duckdb}, '{NULL}')" for column in columns)
    return f"('0x' || left(md5({text}), 16))::ubigint"


def as_checksum(total: int) -> int:
    """A sum of row numbers, signed or not, as the checksum between 0 and 2^64 - 1."""
    return total % 2**64
