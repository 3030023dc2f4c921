"""What a conversion needs on the server's disk: months are built beside the old table, which goes last."""

from collections.abc import Sequence
from typing import Final

from lifecycle.database import Connection, value
from lifecycle.language import Phrase
from lifecycle.units import size_text

# The copy is written to the log as well, which grows no further than to its next checkpoints.
LOG: Final = "select pg_size_bytes(current_setting('max_wal_size')) + pg_size_bytes(current_setting('wal_keep_size'))"
MATERIALIZED: Final = """
select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c
 where c.relkind = 'm' and c.oid = any (%s)
"""


def bytes_needed(conn: Connection, size: int, dependents: Sequence[int]) -> int:
    """The most that converting a table of `size` bytes takes beside what is there now.

    A second copy, another one of the materialized views among `dependents`, and the log of the copy.
    """
    filled_anew: int = value(conn, MATERIALIZED, (list(dependents),))
    log: int = value(conn, LOG)
    return size + filled_anew + min(size, log)


def space_warning(needed: int) -> Phrase:
    """PostgreSQL tells nobody how much room its disk has left, so a person has to look."""
    return Phrase(
        "it needs {size} of free disk ({count:,} bytes) until the old table is dropped."
        " PostgreSQL cannot say whether there is as much: look at the server's disk (on Supabase: Reports > Database)",
        size=size_text(needed),
        count=needed,
    )
