"""Vouchers and redemptions past retention: deleted by the database function, until none is left.

What is deleted is decided in the database (migrations/versions/0009_chat_archive.sql), so that psql and Supabase's own
scheduler can do it, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import RefreshError
from lifecycle.policy import VOUCHERS

DELETE: Final = "select redemptions, vouchers, error from public.delete_expired_vouchers(%s)"


@dataclass(frozen=True)
class VoucherRun:
    """Rows that were deleted, in so many transactions."""

    redemptions: int = 0
    vouchers: int = 0
    batches: int = 0


def delete_expired_vouchers(
    conn: Connection,
    *,
    batch_size: int = VOUCHERS.batch_size,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> VoucherRun:
    """Delete what is past retention, one batch in one transaction after the other.

    Raises RefreshError when a batch failed (earlier ones stay deleted), psycopg's LockNotAvailable when another session
    deletes, UndefinedFunction before `lifecycle migrate`.
    """
    total = VoucherRun()
    while True:
        with without_statement_timeout(conn):
            redemptions, vouchers, error = rows(conn, DELETE, (batch_size,))[0]
        if error is not None:
            raise RefreshError(
                f"vouchers, batch {total.batches + 1}: {error}. It is undone and waits for the next run."
            )
        total = VoucherRun(total.redemptions + redemptions, total.vouchers + vouchers, total.batches + 1)
        if not redemptions and not vouchers:
            return total
        progress(f"{total.redemptions:,} redemptions and {total.vouchers:,} vouchers deleted", 0.0)
