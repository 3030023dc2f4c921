"""The manifest of cold months: which files hold which rows, and what is on its way.

Each function is one transaction, or runs in its caller's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from lifecycle.cold.columns import ColdColumn
from lifecycle.cold.files import Figures
from lifecycle.cold.home import require_home
from lifecycle.cold.storage import StoredObject
from lifecycle.database import Connection, rows, value
from lifecycle.errors import BusyError
from lifecycle.names import QualifiedName

LAYOUT: Final = """
with known as (
    select l.id, l.version from lifecycle.cold_layouts l
     where l.schema_name = %(schema)s and l.table_name = %(table)s and l.columns = %(columns)s::jsonb
), made as (
    insert into lifecycle.cold_layouts (schema_name, table_name, version, columns)
    select %(schema)s, %(table)s, coalesce(max(l.version), 0) + 1, %(columns)s::jsonb from lifecycle.cold_layouts l
     where l.schema_name = %(schema)s and l.table_name = %(table)s and not exists (select from known)
    having not exists (select from known)
    on conflict do nothing returning id, version
)
select id, version from known union all select id, version from made
"""
LAYOUT_COLUMNS: Final = """
select l.columns, (
    select coalesce(jsonb_object_agg(a.attnum, array[a.attname::text, format_type(a.atttypid, a.atttypmod)]), '{}')
      from pg_attribute a
     where a.attrelid = to_regclass(format('%%I.%%I', l.schema_name, l.table_name))
       and a.attnum > 0 and not a.attisdropped)
  from lifecycle.cold_layouts l where l.id = %s
"""
PLAN_FILE: Final = """
insert into lifecycle.cold_files (move_id, schema_name, table_name, month, key, layout_id, bucket, buckets, split_by)
select m.id, m.schema_name, m.table_name, m.month, %(key)s, %(layout)s, %(bucket)s, %(buckets)s, %(split_by)s
  from lifecycle.cold_moves m where m.id = %(move)s returning id
"""
FILE_STORED: Final = """
update lifecycle.cold_files
   set state = 'stored', rows = %(rows)s, bytes = %(bytes)s, sha256 = %(sha256)s
 where id = %(file)s and state = 'planned'
"""
FILE_VERIFIED: Final = "update lifecycle.cold_files set checksum = %s, rows = %s where id = %s and state = 'stored'"
FILES: Final = """
select f.id, f.schema_name, f.table_name, f.month, f.key, f.layout_id, f.bucket, f.buckets, f.state, f.rows, f.bytes,
       f.sha256, f.checksum, f.split_by
  from lifecycle.cold_files f
"""
RETIRE: Final = """
update lifecycle.cold_files f set state = 'retired', retired_at = clock_timestamp()
 where f.id = any (%s) and f.state in ('planned', 'stored', 'live')
"""
REMOVED: Final = """
update lifecycle.cold_files set state = 'removed', removed_at = clock_timestamp(), removed_versions = %s where id = %s
"""


@dataclass(frozen=True)
class ManifestFile:
    """An object that the manifest knows. `rows`, `bytes`, `sha256` and `checksum` are None while it is only planned."""

    id: int
    relation: QualifiedName
    month: datetime
    key: str
    layout: int
    bucket: int
    buckets: int
    state: str
    rows: int | None
    bytes: int | None
    sha256: str | None
    checksum: int | None
    split_by: tuple[str, ...] = ()

    @property
    def stored(self) -> StoredObject:
        """As the store knows it; ValueError for one that is only planned."""
        if self.bytes is None or self.sha256 is None:
            raise ValueError(f"{self.key} is {self.state}: nothing says that it was written")
        return StoredObject(self.key, self.bytes, self.sha256)

    @property
    def figures(self) -> Figures:
        return Figures(self.rows or 0, self.checksum or 0)


def layout_of(conn: Connection, table: QualifiedName, columns: Sequence[ColdColumn]) -> tuple[int, int]:
    """Id and version of these columns, which they get when no file had them before."""
    told = Jsonb([{name: held for name, held in vars(column).items() if name != "called"} for column in columns])
    params = {"schema": table.schema, "table": table.name, "columns": told}
    while not (found := rows(conn, LAYOUT, params)):  # another session made it at this moment
        pass
    return found[0][0], found[0][1]


def columns_of(conn: Connection, layout: int) -> tuple[ColdColumn, ...]:
    """The columns of a layout, in the order in which its files hold them, each with the name that it has by now.

    One is known again by its place in the catalog and its type. It counts as dropped where another one of the layout
    has that place's name: a dump that was restored counts places anew.
    """
    told, named = rows(conn, LAYOUT_COLUMNS, (layout,))[0]
    columns = [ColdColumn(**column) for column in told]
    names = {column.name for column in columns}
    present = {name for name, _ in named.values()}
    return tuple(
        replace(column, called=name)
        if column.name not in present
        and (name := (found := named.get(str(column.number), ("", "")))[0]) not in names
        and found[1] == column.type
        else column
        for column in columns
    )


def plan_file(
    conn: Connection, move: int, key: str, layout: int, bucket: int, buckets: int, split_by: Sequence[str]
) -> int:
    """Name an object before it is written, so that no object is without a row here; its id. RefusedError in a copy.

    `split_by`: the columns of which the first that a row has decided that it stands in this one of so many buckets.
    """
    require_home(conn)
    place = {"bucket": bucket, "buckets": buckets, "split_by": list(split_by)}
    params = {"move": move, "key": key, "layout": layout, **place}
    return int(value(conn, PLAN_FILE, params))


def file_stored(conn: Connection, file: int, stored: StoredObject, count: int) -> None:
    """The store has it, with so many rows. BusyError when somebody has given it up meanwhile."""
    params = {"file": file, "rows": count, "bytes": stored.bytes, "sha256": stored.sha256}
    if not conn.execute(FILE_STORED.encode(), params).rowcount:
        raise BusyError(f"{stored.key}: another session gave it up while it was written; run this again")


def file_verified(conn: Connection, file: int, figures: Figures) -> None:
    """What the store gives out holds these rows."""
    conn.execute(FILE_VERIFIED.encode(), (figures.checksum, figures.rows, file))


def files_of_move(conn: Connection, move: int, states: Sequence[str]) -> tuple[ManifestFile, ...]:
    """Files of a move in any of these states, by bucket."""
    return _files(conn, "where f.move_id = %s and f.state = any (%s) order by f.bucket, f.id", (move, list(states)))


def live_files(conn: Connection, table: QualifiedName, month: datetime | None = None) -> tuple[ManifestFile, ...]:
    """The files in which readers find a table's cold rows, of one month or of all, by month and bucket."""
    return _files(
        conn,
        "where f.state = 'live' and f.schema_name = %s and f.table_name = %s"
        " and coalesce(f.month = %s, true) order by f.month, f.bucket, f.id",
        (table.schema, table.name, month),
    )


def all_live_files(conn: Connection) -> tuple[ManifestFile, ...]:
    """The files of all tables in which readers find rows."""
    return _files(conn, "where f.state = 'live' order by f.schema_name, f.table_name, f.month, f.bucket, f.id")


def files_to_remove(conn: Connection) -> tuple[ManifestFile, ...]:
    """Files that nobody reads any more and that the store may still have."""
    return _files(conn, "where f.state = 'retired' order by f.id")


def _files(conn: Connection, condition: str, params: Sequence[Any] = ()) -> tuple[ManifestFile, ...]:
    return tuple(
        ManifestFile(
            id=row[0],
            relation=QualifiedName(row[1], row[2]),
            month=row[3].astimezone(UTC),
            key=row[4],
            layout=row[5],
            bucket=row[6],
            buckets=row[7],
            state=row[8],
            rows=row[9],
            bytes=row[10],
            sha256=row[11],
            checksum=None if row[12] is None else int(row[12]),
            split_by=tuple(row[13]),
        )
        for row in rows(conn, FILES + condition, params)
    )


def retire(conn: Connection, files: Sequence[int]) -> None:
    """Nobody reads them from here on."""
    conn.execute(RETIRE.encode(), (list(files),))


def removed(conn: Connection, file: int, versions: int) -> None:
    """The store was seen to have it no more."""
    conn.execute(REMOVED.encode(), (versions, file))
