"""A person's rows in cold months, as an export reads them: beside the event table, in a table of the session alone.

Nothing is taken out of a file, and nothing is left of it after the transaction.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from psycopg import sql

from lifecycle.cold import manifest
from lifecycle.cold.columns import read_columns
from lifecycle.cold.files import read_file
from lifecycle.cold.load import columns_to_load, copy_rows, newer_columns, newer_columns_as_of_old_rows
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.search import KeyCondition, conditions_within, duckdb_of, reading, rows_with_keys
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import no_storage, thawed_name
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.erasures.cold_files import HAS_MANIFEST, key_conditions
from lifecycle.errors import ColdStorageError
from lifecycle.names import QualifiedName
from lifecycle.person_export.tables import collect_keys

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

READABLE: Final = "select lifecycle.reachable(%s) is not null"
KEYS: Final = "select kind, key from pg_temp.person_export_keys"
STILL_LIVE: Final = "select f.state = 'live' from lifecycle.cold_files f where f.id = %s"
# Rows of a file may lack what the table has come to demand.
MAY_LACK: Final = """
select string_agg(format('alter column %%I drop not null', a.attname), ', ') from pg_attribute a
 where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped and a.attnotnull
"""
NAME: Final = """
select format('%%I.%%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.oid = to_regclass(%s)
"""
NOT_OF_JOBS: Final = "select lifecycle.but_what_jobs_wrote(to_regclass(%s))"
SESSION: Final = "pg_temp"


class UnreadFileError(ColdStorageError):
    """A file could not be read; `file` is its id. Where it was exchanged meanwhile, the export can begin anew."""

    def __init__(self, message: str, file: int) -> None:
        super().__init__(message)
        self.file = file


@dataclass
class _Table:
    """An event table with its files. `loaded`: the session's table for rows of these; `cold`: all that is not in the
    event table; `whole`: all rows. Positions of rows that are loaded already are kept by file."""

    name: QualifiedName
    files: Sequence[ManifestFile]
    number: int
    positions: dict[int, set[int]] = field(default_factory=dict)

    @property
    def loaded(self) -> sql.Identifier:
        return sql.Identifier(SESSION, f"person_export_rows_{self.number}")

    @property
    def cold(self) -> sql.Identifier:
        return sql.Identifier(SESSION, f"person_export_cold_{self.number}")

    @property
    def whole(self) -> sql.Identifier:
        return sql.Identifier(SESSION, f"person_export_whole_{self.number}")


def tables_to_lock(conn: Connection, application: Application) -> list[QualifiedName]:
    """What has to stay where it is from before an export's snapshot to its end.

    A partition that went into files after the snapshot would be missing from it, in the database and in files.
    """
    wanted = (name for table in application.event_tables for name in (table, thawed_name(table)))
    return [name for name in wanted if value(conn, READABLE, (str(name),))]


def still_live(conn: Connection, file: int) -> bool:
    """Whether readers find a file's rows in it, as of now."""
    return bool(value(conn, STILL_LIVE, (file,)))


def load_cold_rows(
    conn: Connection,
    application: Application,
    person: str,
    storage: ColdStorage | None,
    progress: Callable[[str], None] = lambda _table: None,
) -> dict[QualifiedName, sql.Composable]:
    """Collect the person's keys, those among them that only cold rows tell, and give of each event table the relation
    of its rows from cold months; it may hold rows of others, by which the limits of keys are judged.

    For the rest of the caller's transaction, whose snapshot says which files there are. RefusedError without a store,
    UnreadFileError when a file cannot be read.
    """
    tables = list(_cold_tables(conn, application))
    for table in tables:
        _make_relations(conn, table)
    in_place: dict[str, str | None] = {}
    for table in tables:
        in_place[str(table.name)] = str(value(conn, NAME, (table.whole.as_string(conn),)))
        in_place[str(thawed_name(table.name))] = None
    collect_keys(conn, person, in_place)
    if any(table.files for table in tables):
        if storage is None:
            raise no_storage(next(table.name for table in tables if table.files))
        _load(conn, person, storage, tables, in_place, progress)
    return {table.name: table.cold for table in tables}


def _cold_tables(conn: Connection, application: Application) -> Iterator[_Table]:
    files = manifest.all_live_files(conn) if value(conn, HAS_MANIFEST) else ()
    names = dict.fromkeys((*application.event_tables, *(file.relation for file in files)))
    for number, name in enumerate(names, 1):
        # Of a table by which nobody is found nothing is read.
        own = [file for file in files if file.relation == name and key_conditions(conn, name, {})]
        thawed = value(conn, READABLE, (str(thawed_name(name)),))
        if value(conn, READABLE, (str(name),)) and (own or thawed):
            yield _Table(name, own, number)


def _make_relations(conn: Connection, table: _Table) -> None:
    own = table.name.identifier
    conn.execute(
        sql.SQL("create temporary table {} (like {} including defaults including generated) on commit drop").format(
            table.loaded, own
        )
    )
    if lacking := value(conn, MAY_LACK, (table.loaded.as_string(conn),)):
        conn.execute(sql.SQL("alter table {} {}").format(table.loaded, sql.SQL(lacking)))
    columns = read_columns(conn, table.name)
    names = sql.SQL(", ").join(column.identifier for column in columns)
    parts = [sql.SQL("select {} from {}").format(names, table.loaded)]
    thawed = thawed_name(table.name)
    if value(conn, READABLE, (str(thawed),)):
        held = read_columns(conn, thawed)
        named, newer = {column.name for column in held}, newer_columns(conn, table.name, held)
        cast = sql.SQL(", ").join(
            sql.SQL("({})::{}").format(
                column.identifier if column.name in named else sql.SQL(newer.get(column.name) or "null"),
                sql.SQL(column.type),
            )
            for column in columns
        )
        parts.append(sql.SQL("select {} from {}").format(cast, thawed.identifier))
    view = sql.SQL("create temporary view {} ({}) as {}")
    conn.execute(view.format(table.cold, names, sql.SQL(" union all ").join(parts)))
    # What jobs wrote into a ledger is nobody's (lifecycle.but_what_jobs_wrote).
    nobodys = sql.SQL(str(value(conn, NOT_OF_JOBS, (str(table.name),))))
    all_rows = sql.SQL(" union all ").join(
        sql.SQL("select {} from {} t where true{}").format(names, relation, nobodys) for relation in (own, table.cold)
    )
    conn.execute(view.format(table.whole, names, all_rows))


def _load(
    conn: Connection,
    person: str,
    storage: ColdStorage,
    tables: Sequence[_Table],
    in_place: dict[str, str | None],
    progress: Callable[[str], None],
) -> None:
    """Load the rows that have one of the keys, until these tell of no further ones. Keys that others have, too, may go
    again once their rows are there."""
    asked: set[tuple[str, str]] = set()
    with duckdb_of(storage) as duck:
        while new := {(kind, key) for kind, key in rows(conn, KEYS)} - asked:
            asked |= new
            keys: dict[str, list[str]] = {}
            for kind, key in new:
                keys.setdefault(kind, []).append(key)
            for table in tables:
                conditions = key_conditions(conn, table.name, keys)
                for file in table.files:
                    progress(f"{table.name} {file.month:%Y-%m}")
                    _load_rows(conn, duck, storage, table, file, conditions)
                conn.execute(sql.SQL("analyze {}").format(table.loaded))
            collect_keys(conn, person, in_place)


def _load_rows(
    conn: Connection,
    duck: "duckdb.DuckDBPyConnection",
    storage: ColdStorage,
    table: _Table,
    file: ManifestFile,
    conditions: Sequence[KeyCondition],
) -> None:
    stored = manifest.columns_of(conn, file.layout)
    held = table.positions.setdefault(file.id, set())
    try:
        with reading(file):
            found = rows_with_keys(duck, storage.location(file.key), conditions_within(conditions, stored)) - held
        if not found:
            return
        with tempfile.TemporaryDirectory(prefix="lifecycle-cold-") as scratch:
            path = Path(scratch) / "file.parquet"
            storage.fetch(file.stored, path)
            kept = columns_to_load(stored, read_columns(conn, table.name))
            with newer_columns_as_of_old_rows(conn, table.loaded, table.name, stored):
                copy_rows(conn, table.loaded, kept, _at(read_file(path, stored), found))
    except ColdStorageError as error:
        raise UnreadFileError(f"{str(error).removesuffix('.')}. Nothing of the export is left.", file.id) from None
    held |= found


def _at(batches: Iterator["pa.RecordBatch"], positions: set[int]) -> Iterator["pa.RecordBatch"]:
    """The rows at these positions (from 0)."""
    import pyarrow as pa

    start = 0
    for batch in batches:
        wanted = [place - start for place in positions if start <= place < start + batch.num_rows]
        start += batch.num_rows
        if wanted:
            yield batch.take(pa.array(sorted(wanted)))
