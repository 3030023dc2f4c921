"""Rows of a file into a table of the database, where PostgreSQL reads each value's text as the column's type."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final

from psycopg import sql

from lifecycle.cold.columns import ColdColumn
from lifecycle.database import Connection, rows
from lifecycle.names import QualifiedName

if TYPE_CHECKING:
    import pyarrow as pa

# What rows of before a column's time hold in it, as PostgreSQL remembers it of partitions that are as old.
MISSING: Final = """
select a.attname::text, (
    select format('%%L', (m.attmissingval::text::text[])[1])
      from pg_inherits i join pg_attribute m on m.attrelid = i.inhrelid
     where i.inhparent = a.attrelid and m.attname = a.attname and m.atthasmissing limit 1),
       pg_get_expr(d.adbin, d.adrelid), a.attnotnull
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
   and a.attname <> all (%s)
"""


def columns_to_load(
    stored: tuple[ColdColumn, ...], now: Iterable[ColdColumn], *, generated: bool = False
) -> tuple[ColdColumn, ...]:
    """The columns of a file that the table still has; without those that it makes of others, unless they are wanted."""
    held = {column.name: column for column in now}
    return tuple(column for column in stored if column.now in held and (generated or not held[column.now].generated))


def newer_columns(conn: Connection, table: QualifiedName, stored: Iterable[ColdColumn]) -> dict[str, str | None]:
    """The columns that `table` has got since, with what they hold in rows of before, as SQL; None is NULL."""
    newer = rows(conn, MISSING, (str(table), [column.now for column in stored]))
    return {name: missing or (default if not_null else None) for name, missing, default, not_null in newer}


@contextmanager
def newer_columns_as_of_old_rows(
    conn: Connection, target: sql.Composable, table: QualifiedName, stored: Iterable[ColdColumn]
) -> Iterator[None]:
    """In this block rows of a file come into `target`, a table like `table`: in columns that are newer than the file
    they hold what PostgreSQL would show of them, had they stayed."""
    newer = rows(conn, MISSING, (str(table), [column.now for column in stored]))
    _set_defaults(conn, target, list(newer_columns(conn, table, stored).items()))
    yield
    _set_defaults(conn, target, [(name, default) for name, _, default, _ in newer])


def _set_defaults(conn: Connection, target: sql.Composable, defaults: list[tuple[str, str | None]]) -> None:
    for name, default in defaults:
        statement = f"alter column {{}} set default {default}" if default else "alter column {} drop default"
        conn.execute(sql.SQL("alter table {} " + statement).format(target, sql.Identifier(name)))


def copy_rows(
    conn: Connection, target: sql.Composable, columns: tuple[ColdColumn, ...], batches: Iterator["pa.RecordBatch"]
) -> int:
    """COPY these columns of rows of a file into a table; how many rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    names = [column.name for column in columns]
    query = sql.SQL("copy {} ({}) from stdin (format csv)").format(
        target, sql.SQL(", ").join(column.identifier for column in columns)
    )
    count = 0
    options = csv.WriteOptions(include_header=False)
    with conn.cursor().copy(query) as copy:
        for batch in batches:
            part = batch.select(names)
            for place, column in enumerate(columns):
                if column.stored == "bytes":
                    encoded = [None if raw is None else "\\x" + raw.hex() for raw in part.column(place).to_pylist()]
                    part = part.set_column(place, column.name, pa.array(encoded, pa.string()))
                elif column.stored in ("moment", "moment in UTC"):
                    text = pc.cast(part.column(place).cast(pa.timestamp("us")), pa.string())
                    zone = "+00" if column.stored == "moment in UTC" else ""
                    part = part.set_column(place, column.name, pc.binary_join_element_wise(text, zone, ""))
            sink = BytesIO()
            csv.write_csv(part, sink, options)
            copy.write(sink.getbuffer())
            count += part.num_rows
    return count
