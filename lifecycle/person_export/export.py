"""One export: keys, tables and files from one snapshot, noted in the log before and after."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from lifecycle.archive.text import unpack
from lifecycle.cold.storage import ColdStorage
from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError, VerificationError
from lifecycle.names import QualifiedName
from lifecycle.person_export.cold_rows import UnreadFileError, load_cold_rows, still_live, tables_to_lock
from lifecycle.person_export.cover import COVER_SHEET, cover_sheet
from lifecycle.person_export.files import TableFiles, new_file, new_folder
from lifecycle.person_export.tables import ExportedTable, exported_tables
from lifecycle.person_export.written import Found, Written

BEGIN: Final = "select export, refusal from lifecycle.begin_person_export(%s, %s)"
END: Final = "select lifecycle.end_person_export(%s, %s, %s, %s, %s)"
# As of one moment, which is that of the first statement that reads (LOCK is none): a row that moves to the archive
# meanwhile is in one file, not in both or in none. Moments are written in UTC, and rows that a policy hides from this
# role are an error, not missing.
SNAPSHOT: Final = (
    "set transaction isolation level repeatable read",
    "set local statement_timeout = 0",
    "set local idle_in_transaction_session_timeout = 0",
    "set local timezone = 'UTC'",
    "set local row_security = off",
)
ODD: Final = re.compile(r"[^\w.-]")


@dataclass(frozen=True)
class PersonExport:
    """An export that was written: its number in the log, tables with rows, and rows."""

    number: int
    folder: Path
    tables: int
    rows: int


def export_person(
    conn: Connection,
    application: Application,
    person: str,
    folder: Path,
    *,
    operator: str,
    now: datetime,
    storage: ColdStorage | None = None,
    progress: Callable[[str], None] = lambda _table: None,
) -> PersonExport:
    """Write everything that the map reaches of one person by keys that the database vouches for into a new folder.

    `storage` is where months are that left the database. RefusedError for somebody unknown, for one who is being
    erased, when the folder is there, when a table cannot be read, or without `storage` while there are such months;
    ColdStorageError when a file of them cannot be read; VerificationError when an archived text is damaged. Then
    nothing is left of the folder.
    """
    if application.personal_data is None:
        raise RefusedError("no personal data is declared: without personal_data.yaml nobody knows whose rows are whose")
    number, refusal = rows(conn, BEGIN, (person, operator))[0]
    if refusal is not None:
        raise RefusedError(f"No export: {refusal}.")
    try:
        with new_folder(folder):
            written = _written_as_of_now(conn, application, person, folder, storage, progress)
            with new_file(folder / COVER_SHEET) as file:
                file.write(cover_sheet(application, written, person=person, number=number, now=now))
            done = [each for each in written if each.rows]
            total = sum(each.rows for each in done)
            refusal = _end(conn, number, person, len(done), total)
            if refusal is not None:
                raise RefusedError(f"No export: {refusal}. What was written is deleted again.")
    except BaseException as error:
        if not conn.closed and refusal is None:
            # A connection that broke leaves the export in the log as one that was cut off.
            with suppress(psycopg.Error):
                _end(conn, number, person, None, None, type(error).__name__)
        raise
    return PersonExport(number, folder, len(done), total)


def _end(
    conn: Connection, number: int, person: str, tables: int | None, total: int | None, failure: str | None = None
) -> str | None:
    with without_statement_timeout(conn):
        refusal: str | None = value(conn, END, (number, person, tables, total, failure))
    return refusal


def _written_as_of_now(
    conn: Connection,
    application: Application,
    person: str,
    folder: Path,
    storage: ColdStorage | None,
    progress: Callable[[str], None],
) -> tuple[Written, ...]:
    """Once more as of a later moment, where a file is gone that an erasure has exchanged since."""
    try:
        return _written(conn, application, person, folder, storage, progress)
    except UnreadFileError as error:
        if still_live(conn, error.file):
            raise
    return _written(conn, application, person, folder, storage, progress)


def _written(
    conn: Connection,
    application: Application,
    person: str,
    folder: Path,
    storage: ColdStorage | None,
    progress: Callable[[str], None],
) -> tuple[Written, ...]:
    locked = tables_to_lock(conn, application)
    # Undone at the end: what was made for the session alone.
    with conn.transaction(force_rollback=True):
        for statement in SNAPSHOT:
            conn.execute(statement.encode())
        if locked:
            names = sql.SQL(", ").join(name.identifier for name in locked)
            conn.execute(sql.SQL("lock table {} in access share mode").format(names))
        cold = load_cold_rows(conn, application, person, storage, progress)
        return tuple(_write(conn, application, cold, folder, progress))


def _write(
    conn: Connection,
    application: Application,
    cold: Mapping[QualifiedName, sql.Composable],
    folder: Path,
    progress: Callable[[str], None],
) -> Iterator[Written]:
    for place, table in enumerate(exported_tables(conn, application, cold), 1):
        progress(str(table.name))
        stem = f"{place:02}_{ODD.sub('_', f'{table.name.schema}.{table.name.name}')}"
        with TableFiles(folder, stem, [column.name for column in table.columns]) as files:
            found = tuple(_found(conn, table, files))
        yield Written(table, stem if files.rows else "", found)


def _found(conn: Connection, table: ExportedTable, files: TableFiles) -> Iterator[Found]:
    """Row by row, so that no table has to fit into memory."""
    types = [kind for column in table.columns for kind in column.read_types]
    for way in table.ways:
        before = files.rows
        with conn.cursor() as cursor, cursor.copy(way.query) as copy:
            copy.set_types(types)
            for row in copy.rows():
                files.write(list(_values(table, row)))
        count = files.rows - before
        yield Found(way.by, way.kind, count, count if way.cold else 0)


def _values(table: ExportedTable, row: Sequence[Any]) -> Iterator[str | None]:
    parts = iter(row)
    for column in table.columns:
        if not column.packed:
            yield next(parts)
            continue
        try:
            text = unpack(next(parts), next(parts), next(parts))
        except VerificationError as error:
            raise VerificationError(f"{table.name}.{column.name}: {error}. Nothing of the export is left") from None
        yield text if text is None or column.is_json else json.dumps(text, ensure_ascii=False)
