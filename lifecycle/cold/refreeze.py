"""Rows that were taken out of files go back into a file of their month, once they are as they should be."""

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from psycopg import sql

from lifecycle.cold import manifest
from lifecycle.cold.columns import read_columns
from lifecycle.cold.export import export_files, export_of, figures_by_bucket
from lifecycle.cold.files import Figures
from lifecycle.cold.moves import open_move
from lifecycle.cold.read_back import fetched_figures
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import month_lock
from lifecycle.cold.tables import ColdTable, thawed_name
from lifecycle.database import Connection, connect_directly, operation_lock, politely, value
from lifecycle.errors import VerificationError
from lifecycle.partitions.months import add_months

MONTHS: Final = sql.SQL("select distinct date_trunc('month', {} at time zone 'UTC') from {} order by 1")
DONE: Final = """
update lifecycle.cold_moves
   set state = 'cleaned', rows = %s, layout_id = %s, changed_at = clock_timestamp(), committed_at = clock_timestamp()
 where id = %s
"""
MAKE_LIVE: Final = """
update lifecycle.cold_files set state = 'live', live_at = clock_timestamp() where move_id = %s and state = 'stored'
"""
# What an earlier try stored before it was cut off.
RETIRE_EARLIER: Final = """
update lifecycle.cold_files set state = 'retired', retired_at = clock_timestamp()
 where move_id = %s and state in ('planned', 'stored')
"""
INTO_NARROW: Final = """
select lifecycle.freeze_narrow_rows(p, %s) from lifecycle.event_table_policies p
 where p.schema_name = %s and p.table_name = %s
"""
KEPT_SINCE: Final = """
select lifecycle.first_kept_month(p, least(%s, now())) from lifecycle.event_table_policies p
 where p.schema_name = %s and p.table_name = %s
"""


def thawed_months(conn: Connection, table: ColdTable) -> list[datetime]:
    """Months of rows that wait to go back into files, the oldest first."""
    thawed = thawed_name(table.relation)
    if not value(conn, "select to_regclass(%s)", (str(thawed),)):
        return []
    found = conn.execute(MONTHS.format(sql.Identifier(table.table.time_column), thawed.identifier)).fetchall()
    return [month.replace(tzinfo=UTC) for (month,) in found]


def refreeze(
    url: str,
    table: ColdTable,
    storage: ColdStorage,
    now: datetime,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> int:
    """Put thawed rows away, a file for each month; returns how many. Rows past retention are deleted instead.

    Whoever erases meanwhile waits for the month at work, which holds few rows. Raises AlreadyRunningError when another
    session works on one of the months, BusyError, VerificationError or ColdStorageError with the rows where they were.
    """
    with connect_directly(url, application_name="lifecycle cold") as conn:
        kept_since = value(conn, KEPT_SINCE, (now, table.relation.schema, table.relation.name))
        done = 0
        months = thawed_months(conn, table)
        for number, month in enumerate(months):
            with operation_lock(conn, month_lock(table.relation, month)):
                done += (
                    _expire(conn, table, month) if month < kept_since else _put_away(conn, url, table, month, storage)
                )
            progress(f"{table.relation} {month:%Y-%m}: thawed rows put away", (number + 1) / len(months))
        return done


def _rows_of(table: ColdTable, month: datetime) -> sql.Composed:
    column = sql.Identifier(table.table.time_column)
    return sql.SQL("{0} >= {1} and {0} < {2}").format(column, sql.Literal(month), sql.Literal(add_months(month, 1)))


def _expire(conn: Connection, table: ColdTable, month: datetime) -> int:
    gone = sql.SQL("delete from {} where {}").format(thawed_name(table.relation).identifier, _rows_of(table, month))
    return conn.execute(gone).rowcount


def _put_away(conn: Connection, url: str, table: ColdTable, month: datetime, storage: ColdStorage) -> int:
    thawed = thawed_name(table.relation)
    where = _rows_of(table, month)
    move = open_move(conn, table.relation, month, thawed.name)
    columns = read_columns(conn, thawed)
    layout, version = manifest.layout_of(conn, table.relation, columns)
    about = {"table": str(table.relation), "month": f"{month:%Y-%m}", "layout": str(version)}
    export = export_of(conn, table, thawed.identifier, columns, 1, where)
    held = sql.SQL("lock table {} in share row exclusive mode").format(thawed.identifier)
    with (
        tempfile.TemporaryDirectory(prefix="lifecycle-cold-") as scratch,
        # Files are planned beside the transaction that keeps erasures away, so that they are known if it fails.
        connect_directly(url, application_name="lifecycle cold manifest") as beside,
    ):

        def put_away() -> int:
            conn.execute(held)
            for written in export_files(url, export, Path(scratch), about):
                key = f"{table.folder}{month:%Y-%m}/{move}-{time.time_ns():x}-{written.bucket}.parquet"
                planned = manifest.plan_file(beside, move, key, layout, 0, 1, table.split_by)
                manifest.file_stored(beside, planned, storage.put(key, written.path), written.rows)
            found: dict[int, Figures] = {}
            for file in manifest.files_of_move(beside, move, ["stored"]):
                found[file.bucket] = fetched_figures(storage, file, columns)
                manifest.file_verified(beside, file.id, found[file.bucket])
            if found != figures_by_bucket(conn, table, thawed.identifier, columns, 1, where):
                raise VerificationError(f"{thawed}: the file of {month:%Y-%m} holds other rows; they stay there")
            conn.execute(INTO_NARROW.encode(), (month, table.relation.schema, table.relation.name))
            gone = conn.execute(sql.SQL("delete from {} where {}").format(thawed.identifier, where)).rowcount
            conn.execute(MAKE_LIVE.encode(), (move,))
            conn.execute(DONE.encode(), (gone, layout, move))
            return gone

        beside.execute(RETIRE_EARLIER.encode(), (move,))
        count, _ = politely(conn, put_away, what=f"putting away {thawed}", relation=str(thawed))
    return count
