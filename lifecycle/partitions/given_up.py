"""After an error: the application's table is as it was before the run, or as the run's last complete step left it."""

from contextlib import suppress

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from lifecycle.database import Connection, value
from lifecycle.errors import BusyError
from lifecycle.partitions.attach import AUTOVACUUM_LOCKS, KEY_INDEX, restore_autovacuum
from lifecycle.partitions.catalog import Names, TableStructure, table_structure
from lifecycle.partitions.tables import MonthlyTable

BEGUN = "select exists (select from lifecycle.partition_conversions where schema_name = %s and table_name = %s)"
FORGET = "delete from lifecycle.partition_conversions where schema_name = %s and table_name = %s"


def remembered_options(conn: Connection, table: MonthlyTable) -> tuple[str, ...]:
    """The storage options that the table had before the conversion touched them."""
    options = value(
        conn,
        "select storage_options from lifecycle.partition_conversions where schema_name = %s and table_name = %s",
        (table.schema, table.name),
    )
    return tuple(options or ())


def leave_as_it_was(conn: Connection, names: Names, *, keep_index: bool) -> None:
    """Whatever ended the run, switch autovacuum on again: nobody knows when the next one comes.

    One try: what was in the way of the run may be in the way of this too, and a later run finds it. The key index goes
    where another run would not need it, that is unless `keep_index` or the table is attached already.
    """
    if conn.closed or conn.info.transaction_status is not TransactionStatus.IDLE:
        return
    with suppress(BusyError, psycopg.Error):
        if not value(conn, BEGUN, (names.table.schema, names.table.name)):
            return
        options = remembered_options(conn, names.table)
        for target in (names.public, names.legacy):
            found = table_structure(conn, target.as_string(conn))
            if found and found.kind == "r" and "autovacuum_enabled=false" in found.storage_options:
                restore_autovacuum(conn, target, options, tries=1)
        old = table_structure(conn, names.table.qualified_name)
        if old and old.kind == "r" and not old.is_partition and not keep_index:
            _drop_key_index(conn, names, old)
            conn.execute(FORGET, (names.table.schema, names.table.name))


def _drop_key_index(conn: Connection, names: Names, old: TableStructure) -> None:
    """Drop the index of a conversion that will not go on; what is the key by now, or not ours, stays."""
    if old.primary_key_name == names.new_key_index or old.primary_key == old.new_key(names.table.time_column):
        return
    index = sql.Identifier(names.table.schema, names.new_key_index)
    if value(conn, KEY_INDEX, (names.table.schema, names.new_key_index)) is not None:
        conn.execute(sql.SQL("set lock_timeout = {}").format(sql.Literal(f"{AUTOVACUUM_LOCKS.timeout:.0f}s")))
        conn.execute(sql.SQL("drop index concurrently {}").format(index))
