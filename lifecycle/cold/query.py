"""One statement over hot and cold rows, as of one moment.

The moment is a snapshot of PostgreSQL: the manifest is read in it, and so is every table, by sessions of DuckDB that
take it over. In each snapshot a row is in the database or in a file, never in both; but whoever attaches or drops a
partition changes for every snapshot at once what the event table consists of. So the tables are locked against that
before the snapshot is taken. Whoever moves a month sees that the border is held and tries again later, instead of
queueing up in front of the application's writers. Taking rows out of a file, as an erasure does, waits for nobody:
the old file may be gone in the middle of a statement, which then runs again as of a later moment.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lifecycle.cold import manifest
from lifecycle.cold.columns import read_columns
from lifecycle.cold.duckdb_access import load_extension
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.query_errors import told
from lifecycle.cold.reading import all_rows, hot_view, literal
from lifecycle.cold.search import quoted
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import no_storage, thawed_name
from lifecycle.database import Connection, connect, connect_directly, libpq_url, rows, value
from lifecycle.errors import BusyError, RefusedError
from lifecycle.names import QualifiedName

if TYPE_CHECKING:
    import duckdb

READER: Final = "lifecycle cold reader"
BORDER: Final = "select pg_advisory_lock_shared(hashtextextended('lifecycle.cold_border', 0))"
# Also those whose declaration says no more that they go cold: their files are still there.
KNOWN_TABLES: Final = """
select distinct l.schema_name, l.table_name from lifecycle.cold_layouts l
 where to_regclass(format('%I.%I', l.schema_name, l.table_name)) is not null
"""
LIVE: Final = "select count(*) from lifecycle.cold_files f where f.id = any (%s) and f.state = 'live'"
# For the transaction: text as files have it, no row hidden by a policy, no end before that of the statement.
SETTINGS: Final = """
select set_config(s.name, w.value, true)
  from pg_settings s join (values ('timezone', 'UTC'), ('datestyle', 'ISO, YMD'), ('intervalstyle', 'postgres'),
       ('extra_float_digits', '1'), ('row_security', 'off'), ('statement_timeout', '0'), ('lock_timeout', '0'),
       ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0')) w(name, value)
    on lower(s.name) = w.name
"""
OTHERS: Final = "database"
RESULT: Final = "lifecycle_result"
# What tells of a table is no SELECT where a table is made of it.
TELLS: Final = re.compile(r"\s*(describe|desc|summarize|show)\b", re.IGNORECASE)
# A file may be exchanged once more while the statement runs again.
ATTEMPTS: Final = 5

FileChoice = Callable[[ManifestFile], bool]


@dataclass(frozen=True)
class Source:
    """Where rows are: the database, its cold tables as declared, and the store of their files.

    A statement may leave out the schema of what is in `schemas`. `memory_limit` is DuckDB's, such as 1GB; what does not
    fit goes to files below `folder`.
    """

    url: str
    tables: tuple[QualifiedName, ...]
    schemas: tuple[str, ...]
    storage: ColdStorage | None
    memory_limit: str
    folder: Path


def run(source: Source, statement: str, chosen: FileChoice) -> "duckdb.DuckDBPyConnection":
    """Run the statement; its rows are in the table RESULT of the connection that comes back, which the caller closes.

    `chosen` says which files are read. Nothing is held in PostgreSQL afterwards. Raises RefusedError when the statement
    is wrong or needs too much, ColdStorageError when the store fails, BusyError when files keep being exchanged.
    """
    import duckdb

    statement = _one_query(statement, source.url)
    for _ in range(ATTEMPTS):
        with ExitStack() as undo, _moment(source) as (conn, tables):
            read = [file for table in tables for file in manifest.live_files(conn, table) if chosen(file)]
            try:
                duck = _duckdb(source)
                undo.callback(duck.close)
                _run(source, conn, duck, tables, read, statement)
            except duckdb.IOException as error:
                if _all_live(source.url, read):
                    raise told(error, source.url) from None
            except duckdb.Error as error:
                raise told(error, source.url) from None
            else:
                undo.pop_all()
                return duck
    raise BusyError(
        f"files were exchanged each of {ATTEMPTS} times while they were read, as erasures do. Run this again later."
    )


def _one_query(statement: str, url: str) -> str:
    import duckdb

    try:
        found = duckdb.extract_statements(statement)
    except duckdb.Error as error:
        raise told(error, url) from None
    if len(found) != 1 or found[0].type != duckdb.StatementType.SELECT:
        raise RefusedError("Give one SELECT: several statements, and those that write or set things, are not run here.")
    return f"from ({statement.rstrip().rstrip(';')}\n)" if TELLS.match(statement) else statement


@contextmanager
def _moment(source: Source) -> Iterator[tuple[Connection, list[QualifiedName]]]:
    """A session in a transaction as of whose snapshot all is read, and the cold tables. No month moves meanwhile."""
    with connect_directly(source.url, application_name=READER) as conn:
        if value(conn, "select pg_is_in_recovery()"):
            raise RefusedError("This server is a standby, where no month can be held still. Name the primary server.")
        conn.execute(BORDER.encode())
        known = {QualifiedName(*row) for row in rows(conn, KNOWN_TABLES)}
        tables = sorted({*source.tables, *known})
        conn.execute("begin isolation level repeatable read read only")
        for table in tables:
            # Takes no snapshot yet, so that whatever it waits for is in the one that comes.
            conn.execute(sql.SQL("lock table only {} in access share mode").format(table.identifier))
        yield conn, tables


def _duckdb(source: Source) -> "duckdb.DuckDBPyConnection":
    """A database in memory, for one statement."""
    import duckdb

    spill = tempfile.mkdtemp(dir=source.folder)
    conn = duckdb.connect(config={"memory_limit": source.memory_limit, "temp_directory": spill})
    conn.execute("set timezone = 'UTC'")
    load_extension(conn, "postgres_scanner")
    # In this version one of several scans that are cut by pages reads as of a moment of its own.
    conn.execute("set pg_use_ctid_scan = false")
    return conn


def _run(
    source: Source,
    conn: Connection,
    duck: "duckdb.DuckDBPyConnection",
    tables: Sequence[QualifiedName],
    files: Sequence[ManifestFile],
    statement: str,
) -> None:
    if files and source.storage is None:
        raise no_storage(files[0].relation)
    if files and source.storage:
        source.storage.prepare_duckdb(duck)
    # One for each cold table: of a database that two scans share, DuckDB holds all it reads in memory, above its limit.
    databases = {table: f"hot_{number}" for number, table in enumerate(tables)}
    _attach(duck, source.url, list(databases.values()))
    snapshot = str(value(conn, "select pg_export_snapshot()"))
    duck.execute("begin")
    for database in (*databases.values(), OTHERS):
        _execute(duck, database, f"set transaction snapshot {literal(snapshot)}")
        _execute(duck, database, SETTINGS)
    for table, database in databases.items():
        held = [file for file in files if file.relation == table]
        _make_view(conn, duck, source.storage, database, table, held)
    for schema in source.schemas:
        duck.execute(f"create schema if not exists memory.{quoted(schema)}")
    places = (f"{database}.{quoted(schema)}" for schema in source.schemas for database in ("memory", OTHERS))
    duck.execute(f"set search_path = {literal(','.join(places))}")
    duck.execute(f"create temporary table {RESULT} as {statement}")
    duck.execute("commit")
    duck.execute("set search_path = 'memory.main'")
    for database in (*databases.values(), OTHERS):
        duck.execute(f"detach {database}")


def _attach(duck: "duckdb.DuckDBPyConnection", url: str, databases: Sequence[str]) -> None:
    """Attach PostgreSQL under these names and OTHERS. Its password stays in the memory of this connection."""
    target = conninfo_to_dict(libpq_url(url))
    target["application_name"] = target.get("application_name") or READER
    duck.execute("create temporary secret lifecycle_postgresql (type postgres, uri ?)", [make_conninfo("", **target)])
    for database in (*databases, OTHERS):
        # A view of the session is no writing to PostgreSQL's users, but to PostgreSQL it is; _make_view() ends it.
        mode = ", read_only" if database == OTHERS else ""
        options = f"type postgres, secret lifecycle_postgresql, secret_storage_table ''{mode}"
        duck.execute(f"attach '' as {database} ({options})")


def _execute(duck: "duckdb.DuckDBPyConnection", database: str, statement: str) -> None:
    duck.execute(f"call postgres_execute({literal(database)}, {literal(statement)})")


def _make_view(
    conn: Connection,
    duck: "duckdb.DuckDBPyConnection",
    storage: ColdStorage | None,
    database: str,
    table: QualifiedName,
    files: Sequence[ManifestFile],
) -> None:
    columns = read_columns(conn, table)
    thawed = {column.name for column in read_columns(conn, thawed_name(table))} if _waits(conn, table) else None
    _execute(duck, database, hot_view(table, columns, thawed).as_string(conn))
    _execute(duck, database, "set transaction read only")
    places: dict[int, list[str]] = {}
    for file in files:
        assert storage is not None  # noqa: S101 - _run() has seen to it
        places.setdefault(file.layout, []).append(storage.location(file.key))
    parts = [(manifest.columns_of(conn, layout), found) for layout, found in places.items()]
    duck.execute(f"create schema if not exists memory.{quoted(table.schema)}")
    duck.execute(
        f"create view memory.{quoted(table.schema)}.{quoted(table.name)} as {all_rows(database, columns, parts)}"
    )


def _waits(conn: Connection, table: QualifiedName) -> bool:
    """Whether rows are out of their files, as of the snapshot. The table is not locked by that."""
    thawed = thawed_name(table)
    if value(conn, "select to_regclass(%s)", (str(thawed),)) is None:
        return False
    with conn.transaction(force_rollback=True):
        found = conn.execute(sql.SQL("select exists (select from {})").format(thawed.identifier)).fetchone()
    return bool(found and found[0])


def _all_live(url: str, files: Sequence[ManifestFile]) -> bool:
    with connect(url, application_name=READER) as conn:
        return bool(value(conn, LIVE, ([file.id for file in files],)) == len(files))
