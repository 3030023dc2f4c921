"""Cold months are read out of their files into the narrow table: a view came that reads more of them than it holds."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from psycopg import sql

from lifecycle.cold import manifest
from lifecycle.cold.columns import read_columns
from lifecycle.cold.restore import SAME_FILES, build_beside, load_file
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import month_lock
from lifecycle.cold.tables import ColdTable, narrow_name
from lifecycle.database import Connection, connect_directly, operation_lock, politely, rows, value
from lifecycle.errors import BusyError, RefusedError

# Months that are not there with every column of the narrow table; none while there is no such table.
LACKING: Final = """
select distinct f.month from lifecycle.event_table_policies p
  join lifecycle.cold_files f on f.schema_name = p.schema_name and f.table_name = p.table_name and f.state = 'live'
  left join lifecycle.narrow_months n
    on n.schema_name = p.schema_name and n.table_name = p.table_name and n.month = f.month
 where p.schema_name = %s and p.table_name = %s and lifecycle.narrow_table(p) is not null
   and (n.month is null or not n.column_names @> lifecycle.columns_of(lifecycle.narrow_table(p)))
 order by 1
"""
HELD: Final = "select unnest(lifecycle.columns_of(to_regclass(%s)))"
BUILD: Final = """
select lifecycle.build_narrow_month(p, %(month)s, to_regclass(%(built)s)) from lifecycle.event_table_policies p
 where p.schema_name = %(schema)s and p.table_name = %(table)s
"""
# Who takes rows out of one of these files waits, and finds the month as it is then.
HOLD_FILES: Final = """
select f.id from lifecycle.cold_files f
 where f.state = 'live' and f.schema_name = %s and f.table_name = %s and f.month = %s order by f.id for update
"""
DROP_LEFTOVER: Final = """
select lifecycle.drop_narrow_leftover(p, %(month)s) from lifecycle.event_table_policies p
 where p.schema_name = %(schema)s and p.table_name = %(table)s
"""
ATTACH: Final = """
select lifecycle.attach_narrow_month(p, %(month)s, true) from lifecycle.event_table_policies p
 where p.schema_name = %(schema)s and p.table_name = %(table)s
"""


def months_to_fill(conn: Connection, table: ColdTable) -> list[datetime]:
    """Cold months of which the narrow table does not hold every column that it has, the oldest first."""
    found = rows(conn, LACKING, (table.relation.schema, table.relation.name))
    return [month.astimezone(UTC) for (month,) in found]


def fill_narrow_months(
    url: str,
    table: ColdTable,
    storage: ColdStorage,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> int:
    """Fill the narrow table with what it lacks of cold months; how many. The next migration lets views see them.

    A month at a time, with room for it as a partition meanwhile. Raises AlreadyRunningError while another session works
    on one of them, BusyError when a lock stays taken or the files change, RefusedError when a file lacks a column that
    may have another name there, VerificationError or ColdStorageError; a month is filled or as it was.
    """
    with connect_directly(url, application_name="lifecycle cold") as conn:
        months = months_to_fill(conn, table)
        for number, month in enumerate(months):
            with operation_lock(conn, month_lock(table.relation, month)):
                _fill(conn, table, month, storage)
            progress(f"{table.relation} {month:%Y-%m}: read for views", (number + 1) / len(months))
        return len(months)


def _fill(conn: Connection, table: ColdTable, month: datetime, storage: ColdStorage) -> None:
    told, relation = f"{table.relation} {month:%Y-%m}", table.relation
    names = {"schema": relation.schema, "table": relation.name, "month": month}
    known = (relation.schema, relation.name, month)
    files = manifest.live_files(conn, relation, month)
    held = {column for (column,) in rows(conn, HELD, (str(narrow_name(relation)),))}
    built = build_beside(conn, table, month)
    columns = read_columns(conn, relation)
    for file in files:
        stored = {column.now for column in manifest.columns_of(conn, file.layout)}
        left_out = load_file(conn, storage, file, built, columns, relation)
        if left_out and (lacking := held - stored):
            raise RefusedError(
                f"{file.key}: has no {', '.join(sorted(lacking))}, and {', '.join(sorted(left_out))}, which {relation} "
                "has no more. A column may have been renamed, and its figures would be wrong. Give the column its old "
                "name back, or let the views that read it go."
            )
    value(conn, BUILD, names | {"built": built.as_string(conn)})
    conn.execute(sql.SQL("drop table {}").format(built))

    def take_place() -> None:
        conn.execute(HOLD_FILES.encode(), known)
        if value(conn, SAME_FILES, known) != [file.id for file in sorted(files, key=lambda file: file.id)]:
            raise BusyError(f"{told}: its files changed while they were read; run this again")
        if not value(conn, ATTACH, names):
            raise BusyError(f"{told}: what views read of it changed meanwhile; run this again")

    narrow = str(narrow_name(relation))
    try:
        politely(conn, take_place, what=f"{told} is read by views", relation=narrow)
    finally:
        value(conn, DROP_LEFTOVER, names)
