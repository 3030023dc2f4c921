"""Lines of PostgreSQL's COPY text format, and their way into a table."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Any, Final

from psycopg import sql

from lifecycle.database import Connection, rows

NULL: Final = r"\N"
ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
CHUNK_LINES: Final = 2_000
PROGRESS_LINES: Final = 50_000

Progress = Callable[[str, int], None]


def escape(text: str) -> str:
    """Text as COPY wants it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def json_field(value: Any) -> str:
    """A json or jsonb value as COPY wants it."""
    return escape(ENCODER.encode(value))


def field(value: Any) -> str:
    """Any value: None is NULL, dict and list are jsonb, date and datetime are ISO 8601."""
    if value is None:
        return NULL
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict | list):
        return json_field(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def line(*values: Any) -> str:
    """One row; the values in the order of the table's column list."""
    return "\t".join(map(field, values)) + "\n"


def text_array(values: Sequence[str]) -> str:
    """A text[] literal."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


# Secondary indexes and foreign keys, as the statements that drop them and make them again.
REBUILT_INDEXES: Final = """
select format('drop index %%s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid)
  from pg_index i
 where i.indrelid = to_regclass(%(table)s)
   and not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.conrelid = i.indrelid)
 order by i.indexrelid
"""
REBUILT_FOREIGN_KEYS: Final = """
select format('alter table %%s drop constraint %%I', conrelid::regclass, conname),
       format('alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
  from pg_constraint
 where conrelid = to_regclass(%(table)s) and contype = 'f'
 order by conname
"""


def bulk_copy(conn: Connection, table: str, columns: Sequence[str], lines: Iterable[str], progress: Progress) -> int:
    """copy_lines() for many rows: indexes and foreign keys are made anew after the rows, in the same transaction.

    A million events take 18 s instead of 29 s on two cores.
    """
    with conn.transaction():
        rebuilt = [
            pair for query in (REBUILT_INDEXES, REBUILT_FOREIGN_KEYS) for pair in rows(conn, query, {"table": table})
        ]
        for drop, _make in rebuilt:
            conn.execute(drop.encode())
        total = copy_lines(conn, table, columns, lines, progress)
        for _drop, make in rebuilt:
            conn.execute(make.encode())
    return total


def copy_lines(conn: Connection, table: str, columns: Sequence[str], lines: Iterable[str], progress: Progress) -> int:
    """COPY `lines` into `table` (optionally schema.table) in one transaction; returns the number of rows.

    `progress(table, rows so far)` is called now and then, and at the end.
    """
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    total = 0
    chunk: list[str] = []
    with conn.transaction(), conn.cursor() as cursor, cursor.copy(statement) as copy:
        for text in lines:
            chunk.append(text)
            if len(chunk) == CHUNK_LINES:
                copy.write("".join(chunk))
                total += CHUNK_LINES
                chunk.clear()
                if total % PROGRESS_LINES == 0:
                    progress(table, total)
        copy.write("".join(chunk))
        total += len(chunk)
    progress(table, total)
    return total
