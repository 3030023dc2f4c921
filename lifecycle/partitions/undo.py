"""Take event partitions back: nothing to undo but our tables, once the event tables are plain again."""

from collections.abc import Iterator
from typing import Final

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError

HELD: Final = """
select distinct coalesce(i.inhparent::regclass::text, c.oid::regclass::text)
  from pg_class c left join pg_inherits i on i.inhrelid = c.oid
 where c.relnamespace = to_regnamespace('event_partitions') and c.relkind in ('r', 'p') order by 1
"""


def require_plain_tables(conn: Connection, _application: Application) -> Iterator[str]:
    """RefusedError while a table is partitioned: it would go on working, and nothing would rotate it any more."""
    if held := [name for (name,) in rows(conn, HELD)]:
        raise RefusedError(
            f"schema event_partitions still holds tables of {', '.join(held)}. Turn the event tables back into plain "
            "tables first: docs/how-to/undo.md has the statements. Then run the command again."
        )
    return iter(())
