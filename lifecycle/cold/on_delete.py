"""ON DELETE actions reach cold rows: what pointed to a row that is gone is taken out of its file and treated so.

While rows stand in files the database does not know of them, so nothing happens to them when the row they point to is
deleted. Once a day their keys are compared with what there is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql

from lifecycle.cold import manifest
from lifecycle.cold.columns import read_columns
from lifecycle.cold.foreign_keys import ForeignKey, count_orphans, follow, foreign_keys
from lifecycle.cold.manifest import ManifestFile
from lifecycle.cold.search import FILE, POSITION, duckdb_of, quoted, reading
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import ColdTable, thawed_name
from lifecycle.cold.thaw import thaw
from lifecycle.database import Connection, connect_directly, value

if TYPE_CHECKING:
    import duckdb

Progress = Callable[[str, float], None]
# So many keys are compared at a time. DuckDB sorts out which ones there are within this memory, or on the disk.
BATCH: Final = 10_000
MEMORY: Final = "set memory_limit = '400MB'"
# Places (from 1) of keys to which there is no row. Keys come as text, an array for each column.
GONE: Final = sql.SQL(
    "select k.place from unnest({arrays}) with ordinality k({names}, place)"
    " where not exists (select from {referenced} r where {same})"
)
FORGET_DANGLING: Final = "delete from lifecycle.cold_dangling where schema_name = %s and table_name = %s"
NOTE_DANGLING: Final = """
insert into lifecycle.cold_dangling (schema_name, table_name, constraint_name, referenced, rows)
values (%s, %s, %s, %s, %s)
"""


@dataclass(frozen=True)
class Followed:
    """Rows that lost a value or went, since what they pointed to is gone; `dangling` are rows that point to nothing and
    stay as they are, by foreign key."""

    rows: int
    dangling: Mapping[str, int]


def follow_deletes(
    url: str,
    table: ColdTable,
    storage: ColdStorage,
    progress: Progress = lambda _message, _fraction: None,
) -> Followed:
    """Compare the foreign keys of cold rows with what they point to, in files and among rows that wait to go back.

    Rows whose key has an ON DELETE that acts are taken out of their files and treated so. Of the others `lifecycle cold
    status` tells how many there are. Raises BusyError when a file is exchanged meanwhile, ColdStorageError,
    VerificationError; what was taken out by then is treated by the next run.
    """
    # Rows of theirs that a policy hid from us would be missing: this session raises instead.
    with connect_directly(url, application_name="lifecycle cold") as conn:
        # What another event table's rows point to may be in files, too, which is not gone.
        keys = [key for key in foreign_keys(conn, table.relation) if not key.to_event_table]
        files = manifest.live_files(conn, table.relation)
        dangling = dict.fromkeys((key.name for key in keys if not key.acts), 0)
        if keys and files:
            types = {column.name: column.type for column in read_columns(conn, table.relation)}
            with duckdb_of(storage) as duck:
                duck.execute(MEMORY)
                for number, file in enumerate(files):
                    progress(f"{table.relation} {file.month:%Y-%m}: what rows point to", number / len(files))
                    with reading(file):
                        positions = _look_at_file(conn, duck, storage, file, keys, types, dangling)
                    if positions:
                        thaw(conn, storage, file, positions)
        changed = _treat_thawed_rows(conn, table, keys, dangling)
        _note(conn, table, keys, dangling)
        return Followed(changed, {name: count for name, count in dangling.items() if count})


def _look_at_file(
    conn: Connection,
    duck: "duckdb.DuckDBPyConnection",
    storage: ColdStorage,
    file: ManifestFile,
    keys: Sequence[ForeignKey],
    types: Mapping[str, str],
    dangling: dict[str, int],
) -> set[int]:
    """Positions of rows for which a key acts; the others that point to nothing are counted."""
    place = storage.location(file.key)
    held = {column.name for column in manifest.columns_of(conn, file.layout)}
    # In a column that is newer than the file, its rows hold nothing.
    found = {
        key: _rows_that_point(duck, place, key.columns, list(_gone(conn, duck, place, key, types)))
        for key in keys
        if held.issuperset(key.columns)
    }
    positions = set[int]().union(*(rows_of for key, rows_of in found.items() if key.acts))
    for key, rows_of in found.items():
        if not key.acts:
            # Those that are taken out are counted where they wait.
            dangling[key.name] += len(rows_of - positions)
    return positions


def _gone(
    conn: Connection,
    duck: "duckdb.DuckDBPyConnection",
    place: str,
    key: ForeignKey,
    types: Mapping[str, str],
) -> Iterator[tuple[str, ...]]:
    """Each key that rows of a file hold and to which there is no row."""
    query = GONE.format(
        arrays=sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in key.columns),
        names=sql.SQL(", ").join(map(sql.Identifier, key.columns)),
        referenced=sql.SQL(key.referenced),
        same=sql.SQL(" and ").join(
            sql.SQL("r.{} = k.{}::{}").format(sql.Identifier(their), sql.Identifier(my), sql.SQL(types[my]))
            for my, their in zip(key.columns, key.their_columns, strict=True)
        ),
    )
    names = ", ".join(f"{quoted(column)}::varchar" for column in key.columns)
    there = " and ".join(f"{quoted(column)} is not null" for column in key.columns)
    result = duck.execute(f"select distinct {names} from read_parquet(?) where {there}", [place])  # noqa: S608
    while batch := result.fetchmany(BATCH):
        arrays = [list(values) for values in zip(*batch, strict=True)]
        for (number,) in conn.execute(query, arrays).fetchall():
            yield batch[number - 1]


def _rows_that_point(
    duck: "duckdb.DuckDBPyConnection", place: str, columns: Sequence[str], gone: Sequence[tuple[str, ...]]
) -> set[int]:
    if not gone:
        return set()
    arrays = ", ".join(f"unnest(?::varchar[]) k{number}" for number in range(len(columns)))
    same = " and ".join(f"f.{quoted(column)}::varchar = k.k{number}" for number, column in enumerate(columns))
    query = f"select f.{POSITION} from {FILE} f join (select {arrays}) k on {same}"  # noqa: S608 - identifiers quoted
    found = duck.execute(query, [place, *(list(values) for values in zip(*gone, strict=True))]).fetchall()
    return {position for (position,) in found}


def _treat_thawed_rows(conn: Connection, table: ColdTable, keys: Sequence[ForeignKey], dangling: dict[str, int]) -> int:
    thawed = thawed_name(table.relation)
    if not keys or not value(conn, "select to_regclass(%s)", (str(thawed),)):
        return 0
    # A column that is newer than the waiting rows is nowhere set in them.
    held = {column.name for column in read_columns(conn, thawed)}
    keys = [key for key in keys if held.issuperset(key.columns)]
    with conn.transaction():
        changed = sum(follow(conn, key, thawed.identifier) for key in keys if key.acts)
        for key in (key for key in keys if not key.acts):
            dangling[key.name] += count_orphans(conn, key, thawed.identifier)
    return changed


def _note(conn: Connection, table: ColdTable, keys: Sequence[ForeignKey], dangling: Mapping[str, int]) -> None:
    known = (table.relation.schema, table.relation.name)
    with conn.transaction():
        conn.execute(FORGET_DANGLING.encode(), known)
        for key in keys:
            if dangling.get(key.name):
                conn.execute(NOTE_DANGLING.encode(), (*known, key.name, key.referenced, dangling[key.name]))
