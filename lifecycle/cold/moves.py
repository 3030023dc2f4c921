"""Moves in the manifest: a month on its way into files, and how far it came."""

from datetime import datetime
from typing import Final

from lifecycle.database import Connection, rows, value
from lifecycle.names import QualifiedName

# One partition of a month at a time, so that a move that was cut off is found again.
OPEN_MOVE: Final = """
with known as (
    select m.id from lifecycle.cold_moves m
     where m.schema_name = %(schema)s and m.table_name = %(table)s and m.month = %(month)s
       and m.state not in ('committed', 'cleaned')
), made as (
    insert into lifecycle.cold_moves (schema_name, table_name, month, partition)
    select %(schema)s, %(table)s, %(month)s, %(partition)s where not exists (select from known) returning id
)
select id from known union all select id from made
"""
STATE: Final = "select m.state from lifecycle.cold_moves m where m.id = %s"
SET_STATE: Final = "update lifecycle.cold_moves set state = %s, changed_at = clock_timestamp() where id = %s"
BEGIN: Final = """
update lifecycle.cold_moves
   set state = 'exporting', layout_id = %(layout)s, captured_from = to_regclass(%(partition)s)::oid,
       captured_file = %(file)s,
       hot_bytes = pg_total_relation_size(to_regclass(%(partition)s)), partition = %(name)s, rows = null,
       changed_at = clock_timestamp()
 where id = %(move)s
"""
FILE_OF: Final = "select pg_relation_filenode(to_regclass(%s))"
ROWS_READ: Final = (
    "update lifecycle.cold_moves set state = 'uploaded', rows = %s, changed_at = clock_timestamp() where id = %s"
)
ROWS_OF_MOVE: Final = "select m.rows, m.hot_bytes from lifecycle.cold_moves m where m.id = %s"


def open_move(conn: Connection, table: QualifiedName, month: datetime, partition: str) -> int:
    """The move of a month that was begun and not ended, else a new one; its id."""
    names = {"schema": table.schema, "table": table.name, "month": month, "partition": partition}
    return int(value(conn, OPEN_MOVE, names))


def state_of(conn: Connection, move: int) -> str:
    """How far it came."""
    return str(value(conn, STATE, (move,)))


def set_state(conn: Connection, move: int, state: str) -> None:
    """It came so far."""
    conn.execute(SET_STATE.encode(), (state, move))


def file_of(conn: Connection, partition: str) -> int | None:
    """Where the rows of a partition (quoted) stand; elsewhere once ALTER TABLE has written them anew."""
    found: int | None = value(conn, FILE_OF, (partition,))
    return found


def begin(conn: Connection, move: int, layout: int, partition: str, name: str, file: int | None) -> None:
    """The partition (quoted, and its bare name) is about to be read, with columns of this layout; its rows stood in
    this file before anybody asked for its columns."""
    names = {"layout": layout, "partition": partition, "name": name, "file": file, "move": move}
    conn.execute(BEGIN.encode(), names)


def rows_read(conn: Connection, move: int, count: int) -> None:
    """All its rows are in files, which the store has."""
    conn.execute(ROWS_READ.encode(), (count, move))


def rows_and_bytes(conn: Connection, move: int) -> tuple[int, int]:
    """Rows that were read, and the bytes that they took in the database with their indexes."""
    count, size = rows(conn, ROWS_OF_MOVE, (move,))[0]
    return count, size
