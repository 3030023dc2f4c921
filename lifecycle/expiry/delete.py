"""Rows past their time: deleted by the database function, batch after batch, until none is left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import RefreshError
from lifecycle.pacing import UNPACED, Pacing

DELETE: Final = "select deleted, error from lifecycle.delete_expired_rows(%s, %s)"


@dataclass(frozen=True)
class ExpiryRun:
    """Rows that were deleted, by name of their table, in so many transactions."""

    deleted: Mapping[str, int] = field(default_factory=dict)
    batches: int = 0


def delete_expired(
    conn: Connection,
    job: str,
    *,
    batch: int | None = None,
    pacing: Pacing = UNPACED,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> ExpiryRun:
    """Delete what is past its time, one batch in one transaction after the other.

    Raises RefreshError when a batch failed (earlier ones stay deleted), psycopg's LockNotAvailable when another session
    deletes, UndefinedFunction before `lifecycle migrate`.
    """
    total, batches = dict[str, int](), 0
    while True:
        with pacing.work(), without_statement_timeout(conn):
            deleted, error = rows(conn, DELETE, (job, batch))[0]
        batches += 1
        if error is not None:
            raise RefreshError(f"{job}, batch {batches}: {error}. It is undone and waits for the next run.")
        total = {name: total.get(name, 0) + count for name, count in deleted.items()}
        if not any(deleted.values()):
            return ExpiryRun(total, batches)
        progress(", ".join(f"{count:,} of {name}" for name, count in total.items()) + " deleted", 0.0)
