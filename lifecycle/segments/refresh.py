"""Segments: what each account likes, brought up to date by the database function, and how the cache stands.

What is computed and written lives in the database, so that psql and the platform's own scheduler can do it, too.
Everything returned here is a count: no account, no taste of anyone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import BusyError, RefreshError

REFRESH: Final = """
select accounts_seen, written, cleared, unchanged, skipped_busy, remaining, outcome, error
  from public.refresh_account_segments(%s)
"""
STATUS: Final = """
select consented, with_segments, without_consent, waiting, oldest_waiting, lack from lifecycle.segments_status()
"""
ACCOUNTS_PER_TAG: Final = "select tag, accounts from lifecycle.accounts_per_tag()"
BATCH_SIZE: Final = 1000


@dataclass(frozen=True)
class SegmentRefresh:
    """What a refresh did, in accounts. `skipped_busy` were being edited and wait, with others, in `remaining`.

    `lack` names the sources, or the place of segments, that are gone; what depends on them stays as it was.
    """

    accounts_seen: int = 0
    written: int = 0
    cleared: int = 0
    unchanged: int = 0
    skipped_busy: int = 0
    remaining: int = 0
    batches: int = 0
    lack: str | None = None


@dataclass(frozen=True)
class SegmentsStatus:
    """How the cache stands, in accounts. `without_consent` hold segments, may not, and wait for no refresh.

    `oldest_waiting` is the moment of the oldest change that no refresh has taken; None when there is none.
    """

    consented: int
    with_segments: int
    without_consent: int
    waiting: int
    oldest_waiting: datetime | None
    accounts_per_tag: tuple[tuple[str, int], ...]
    lack: str | None = None


def refresh_segments(
    conn: Connection,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> SegmentRefresh:
    """Compute the segments of all accounts that wait, one batch in one transaction after the other.

    Ends after the first batch that is not full, so changes that keep coming cannot keep it busy for ever. Raises
    RefreshError when a batch failed (earlier ones stay), BusyError when a lock stayed taken, psycopg's
    LockNotAvailable when another refresh runs, UndefinedFunction before `lifecycle migrate`.
    """
    total = SegmentRefresh()
    while True:
        with without_statement_timeout(conn):
            seen, written, cleared, unchanged, busy, remaining, outcome, error = rows(conn, REFRESH, (batch_size,))[0]
        if outcome in ("busy", "failure"):
            kind = BusyError if outcome == "busy" else RefreshError
            raise kind(f"segments, batch {total.batches + 1}: {error}. It is undone and waits for the next run.")
        total = SegmentRefresh(
            accounts_seen=total.accounts_seen + seen,
            written=total.written + written,
            cleared=total.cleared + cleared,
            unchanged=total.unchanged + unchanged,
            skipped_busy=busy,
            remaining=remaining,
            batches=total.batches + 1,
            lack=error,
        )
        progress("segments of changed accounts", total.accounts_seen / max(total.accounts_seen + remaining, 1))
        if seen < batch_size or seen == busy:
            return total


def segments_status(conn: Connection) -> SegmentsStatus:
    """Read how the cache stands; psycopg's UndefinedFunction before `lifecycle migrate`."""
    consented, held, unlawful, waiting, oldest, lack = rows(conn, STATUS)[0]
    return SegmentsStatus(
        consented=consented,
        with_segments=held,
        without_consent=unlawful,
        waiting=waiting,
        oldest_waiting=oldest and oldest.astimezone(UTC),
        accounts_per_tag=tuple((slug, count) for slug, count in rows(conn, ACCOUNTS_PER_TAG)),
        lack=lack,
    )
