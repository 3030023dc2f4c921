"""Wait for transactions whose snapshot is older than the copied rows.

A transaction at REPEATABLE READ that reads the table for the first time after the exchange would look for rows with
a snapshot from before they were copied, and see none. CREATE INDEX CONCURRENTLY waits for the same transactions.
"""

import time
from collections.abc import Callable

from lifecycle.database import Connection, rows
from lifecycle.errors import BusyError
from lifecycle.locks import LOCKS
from lifecycle.partitions.tables import MonthlyTable

# A role that may not see other sessions' snapshots waits for all their transactions.
SNAPSHOT_HOLDERS = """
select l.virtualtransaction, a.pid, a.usename::text from pg_locks l join pg_stat_activity a using (pid)
 where l.locktype = 'virtualxid' and l.granted and a.datname = current_database() and a.pid <> pg_backend_pid()
   and a.backend_type not in ('autovacuum worker', 'walsender')
   and (a.backend_xmin is not null or a.xact_start is null)
"""
# Readers' and row locks stop no index build; a writer's does until its transaction ends.
INDEX_BUILD_BLOCKERS = """
select format('pid %%s (%%s)', a.pid, a.usename) from pg_stat_activity a
 where a.datname = current_database() and a.pid <> pg_backend_pid()
   and (a.backend_xmin is not null or exists (
     select from pg_locks l where l.pid = a.pid and l.granted and l.relation = to_regclass(%s)
        and l.mode not in ('AccessShareLock', 'RowShareLock')))
 order by a.xact_start limit 5
"""


def index_build_blockers(conn: Connection, table: MonthlyTable) -> str:
    """The sessions that CREATE INDEX CONCURRENTLY on the table waits for, for a message; empty when there is none."""
    return ", ".join(row[0] for row in rows(conn, INDEX_BUILD_BLOCKERS, (table.qualified_name,)))


def wait_for_older_snapshots(
    conn: Connection,
    table: MonthlyTable,
    *,
    tries: int = LOCKS.tries,
    longest_pause: float = LOCKS.longest_pause,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once every transaction that holds a snapshot now has ended; BusyError names those that do not."""
    older = {row[0]: row[1:] for row in rows(conn, SNAPSHOT_HOLDERS)}
    pause = LOCKS.first_pause
    for _ in range(tries):
        current = {row[0] for row in rows(conn, SNAPSHOT_HOLDERS)}
        older = {transaction: who for transaction, who in older.items() if transaction in current}
        if not older:
            return
        sleep(pause)
        pause = min(pause * 1.3, longest_pause)
    names = ", ".join(f"pid {pid} ({user})" for pid, user in older.values())
    raise BusyError(
        f"{table.qualified_name}: transactions older than the copied rows are still open: {names}. Nothing was "
        "switched over; the copies stay. End those transactions or wait for them, then run this again; it goes on "
        "from here."
    )
