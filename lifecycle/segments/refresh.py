"""Segments: what each account likes, brought up to date by the database function, and how the cache stands.

What is computed and written lives in the database (migrations/versions/0004_account_segments.sql), so that psql and
Supabase's own scheduler can do it, too. Everything returned here is a count: no account, no preference of anyone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import RefreshError
from lifecycle.policy import SEGMENTS

REFRESH = """
select accounts_seen, written, cleared, unchanged, skipped_busy, remaining, error
  from public.refresh_account_segments(%s)
"""
# A waiting row without an account stands for all accounts.
STATUS = """
select count(*) filter (where lifecycle.may_personalize(p.preferences)),
       count(*) filter (where p.preferences -> 'segments' is not null),
       count(*) filter (where p.preferences -> 'segments' is not null
                          and not lifecycle.may_personalize(p.preferences) and not w.waits),
       count(*) filter (where w.waits), (select min(l.logged_at) from lifecycle.changed_segment_accounts l)
  from public.account_profiles p
 cross join (select exists (select from lifecycle.changed_segment_accounts l where l.account_id is null)) e(everybody)
  left join (select distinct l.account_id from lifecycle.changed_segment_accounts l) l on l.account_id = p.account_id
 cross join lateral (select e.everybody or l.account_id is not null) w(waits)
"""
ACCOUNTS_PER_TAG = """
select e.tag ->> 'slug', count(distinct p.account_id)
  from public.account_profiles p
 cross join lateral jsonb_path_query(p.preferences, '$.segments.tags[*]') e(tag)
  join public.activity_tags t on t.slug = e.tag ->> 'slug'
 group by 1 order by 2 desc, 1
"""


@dataclass(frozen=True)
class SegmentRefresh:
    """What a refresh did, in accounts. `skipped_busy` were being edited and wait, with others, in `remaining`."""

    accounts_seen: int = 0
    written: int = 0
    cleared: int = 0
    unchanged: int = 0
    skipped_busy: int = 0
    remaining: int = 0
    batches: int = 0


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


def refresh_segments(
    conn: Connection,
    *,
    batch_size: int = SEGMENTS.batch_size,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> SegmentRefresh:
    """Compute the segments of all accounts that wait, one batch in one transaction after the other.

    Ends after the first batch that is not full, so changes that keep coming cannot keep it busy for ever. Raises
    RefreshError when a batch failed (earlier ones stay), psycopg's LockNotAvailable when another refresh runs,
    UndefinedFunction before `lifecycle migrate`.
    """
    total = SegmentRefresh()
    while True:
        with without_statement_timeout(conn):
            seen, written, cleared, unchanged, busy, remaining, error = rows(conn, REFRESH, (batch_size,))[0]
        if error is not None:
            raise RefreshError(
                f"segments, batch {total.batches + 1}: {error}. It is undone and waits for the next run."
            )
        total = SegmentRefresh(
            accounts_seen=total.accounts_seen + seen,
            written=total.written + written,
            cleared=total.cleared + cleared,
            unchanged=total.unchanged + unchanged,
            skipped_busy=busy,
            remaining=remaining,
            batches=total.batches + 1,
        )
        progress("segments of changed accounts", total.accounts_seen / max(total.accounts_seen + remaining, 1))
        if seen < batch_size or seen == busy:
            return total


def segments_status(conn: Connection) -> SegmentsStatus:
    """Read how the cache stands; psycopg's UndefinedTable before `lifecycle migrate`."""
    consented, held, unlawful, waiting, oldest = rows(conn, STATUS)[0]
    return SegmentsStatus(
        consented=consented,
        with_segments=held,
        without_consent=unlawful,
        waiting=waiting,
        oldest_waiting=oldest and oldest.astimezone(UTC),
        accounts_per_tag=tuple((slug, count) for slug, count in rows(conn, ACCOUNTS_PER_TAG)),
    )
