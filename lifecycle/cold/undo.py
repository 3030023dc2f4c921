"""Taking cold months back: only when nothing is in the store any more."""

from collections.abc import Iterator
from typing import Final

from lifecycle.cold.narrow import take_narrow_tables_back
from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError

LIVE: Final = """
select format('%I.%I', f.schema_name, f.table_name), count(distinct f.month), sum(f.rows)::bigint
  from lifecycle.cold_files f where f.state = 'live' group by 1 order by 1
"""
LEFT: Final = "select count(*) from lifecycle.cold_files f where f.state in ('planned', 'stored', 'retired')"


def take_cold_months_back(conn: Connection, _application: Application) -> Iterator[str]:
    """RefusedError while rows or leftovers are in the store: the tables that go are the only ones that know of them.

    Then views read their event tables alone again.
    """
    if held := rows(conn, LIVE):
        told = ", ".join(f"{table} ({months} months, {count:,} rows)" for table, months, count in held)
        raise RefusedError(
            f"rows are in cold storage: {told}. Bring every month back (`lifecycle cold restore MONTH`) before the "
            "tables go that know where they are."
        )
    if left := rows(conn, LEFT)[0][0]:
        raise RefusedError(
            f"{left} files wait to be removed from the store; run the job move_cold_months, which does it, then this "
            "again."
        )
    yield from take_narrow_tables_back(conn)
