"""Moving messages into the archive, a batch at a time: read, compress, then one short transaction that moves.

Nothing is held while a batch is compressed but the claim of its day, an advisory lock of a second session that ends
with it. Two workers therefore take different days; and whatever both may do, the moving statement looks again at each
row, so a message is moved once, as it is, or left where it is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from lifecycle.chat_archive.batches import Due, Place, count_due, next_days, read_batch, start_of_next
from lifecycle.chat_archive.text import Packed, pack
from lifecycle.database import Connection, politely, rows, run_all
from lifecycle.policy import CHAT_ARCHIVE, ChatArchivePolicy

CLAIM: Final = """
select d.name from unnest(%s::text[]) d(name)
 where pg_try_advisory_xact_lock(hashtextextended('lifecycle.chat_archive.' || d.name, 0))
"""
# Statistics do not note a message that moves (revision 0009).
PREPARE: Final = (
    "set local statement_timeout = 0",
    "set local lifecycle.moves_messages = 'yes'",
    "create temp table lifecycle_chat_batch"
    " (id uuid not null, content_gzip bytea not null, content_sha256 bytea not null) on commit drop",
)
FILL: Final = "copy pg_temp.lifecycle_chat_batch from stdin (format binary)"
ANALYZE: Final = "analyze pg_temp.lifecycle_chat_batch"
# Waits for nobody: a message or a session that somebody changes just now is left for the next run. The text may
# have changed since it was read, so its checksum is taken again, and again under the lock. An id that the archive has
# already is left, too.
MOVE: Final = """
with session as materialized (
    select s.id from public.chat_sessions s
     where s.id in (select m.session_id from public.chat_messages m join pg_temp.lifecycle_chat_batch b using (id))
       and not exists (select from lifecycle.restored_chat_sessions r where r.session_id = s.id and r.until > %(now)s)
     order by s.id for key share skip locked
), held as materialized (
    select m.id, m.ctid as place, b.content_gzip, b.content_sha256
      from public.chat_messages m join pg_temp.lifecycle_chat_batch b using (id)
     where m.created_at < %(cutoff)s and m.session_id in (select s.id from session s)
       and sha256(convert_to(m.content, 'UTF8')) = b.content_sha256
       and not exists (select from public.chat_messages_archive a where a.id = m.id)
       for update of m skip locked
), gone as (
    delete from public.chat_messages m using held h where m.ctid = h.place and m.id = h.id
    returning m.id, m.session_id, m.role, m.tool_calls, m.latency_ms, m.created_at, octet_length(m.content) as bytes,
              h.content_gzip, h.content_sha256
), kept as (
    insert into public.chat_messages_archive
           (id, session_id, role, tool_calls, latency_ms, created_at, content_gzip, content_sha256)
    select g.id, g.session_id, g.role, g.tool_calls, g.latency_ms, g.created_at, g.content_gzip, g.content_sha256
      from gone g order by g.created_at
    returning octet_length(content_gzip) as bytes
)
select (select count(*) from kept), (select coalesce(sum(g.bytes), 0) from gone g),
       (select coalesce(sum(k.bytes), 0) from kept k)
"""


@dataclass(frozen=True)
class ArchiveRun:
    """What a run did. `left` were being changed, or are in the archive already; `busy_days` another worker has.

    `text_bytes` is the text that moved, `gzip_bytes` what it takes in the archive. `remaining` messages are still due,
    counted no further than the run's limit; the first run that finds a backlog ends at that limit.
    """

    moved: int = 0
    left: int = 0
    batches: int = 0
    busy_days: int = 0
    text_bytes: int = 0
    gzip_bytes: int = 0
    remaining: int = 0


def archive_messages(
    conn: Connection,
    claims: Connection,
    *,
    now: datetime,
    policy: ChatArchivePolicy = CHAT_ARCHIVE,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
    sleep: Callable[[float], None] = time.sleep,
) -> ArchiveRun:
    """Archive what is due at `now`, oldest first, up to the policy's limit for a run.

    `claims` is a second session; neither keeps any state, so both may go through a transaction pooler. Raises
    BusyError when the tables themselves stay locked, psycopg.Error otherwise; batches that were moved stay moved.
    """
    due, run, place = Due(now, policy), ArchiveRun(), Place()
    expected = count_due(conn, due, policy.run_limit)
    while run.moved < policy.run_limit:
        with claims.transaction():
            batch = _claim(conn, claims, due, place)
            if batch is None:
                break
            place = batch.end
            if batch.messages:
                run = _archive_batch(conn, due, batch, run, sleep)
        run = replace(run, busy_days=run.busy_days + batch.busy_days)
        progress("messages archived", min((run.moved + run.left) / max(expected, 1), 1.0))
    return replace(run, remaining=count_due(conn, due, policy.run_limit))


@dataclass(frozen=True)
class _Batch:
    """Packed messages of claimed days, and the place behind them."""

    end: Place
    messages: tuple[tuple[UUID, Packed], ...] = ()
    busy_days: int = 0


def _claim(conn: Connection, claims: Connection, due: Due, place: Place) -> _Batch | None:
    """Claim the next days until the caller's transaction ends, and pack a batch of theirs; None when nothing is due."""
    days = next_days(conn, due, place)
    if not days:
        return None
    free = {name for (name,) in rows(claims, CLAIM, ([day.name for day in days],))}
    claimed = [day for day in days if day.name in free]
    end, text_bytes, messages = start_of_next(days[-1]), 0, []
    for message, at, text in read_batch(conn, due, place, claimed) if claimed else ():
        messages.append((message, pack(text)))
        text_bytes += len(text)
        if len(messages) == due.policy.batch_size or text_bytes >= due.policy.batch_bytes:
            end = Place(at, message)
    return _Batch(end, tuple(messages), len(days) - len(claimed))


def _archive_batch(
    conn: Connection, due: Due, batch: _Batch, run: ArchiveRun, sleep: Callable[[float], None]
) -> ArchiveRun:
    (moved, text_bytes, gzip_bytes), _ = politely(
        conn,
        lambda: _move(conn, due, batch.messages),
        what="archive of chat messages",
        relation="public.chat_messages",
        also=("public.chat_messages_archive", "public.chat_sessions"),
        sleep=sleep,
    )
    return replace(
        run,
        moved=run.moved + moved,
        left=run.left + len(batch.messages) - moved,
        batches=run.batches + 1,
        text_bytes=run.text_bytes + text_bytes,
        gzip_bytes=run.gzip_bytes + gzip_bytes,
    )


def _move(conn: Connection, due: Due, batch: tuple[tuple[UUID, Packed], ...]) -> tuple[int, int, int]:
    """Messages, bytes of text and bytes of gzip that moved, in the caller's transaction."""
    run_all(conn, PREPARE)
    with conn.cursor().copy(FILL.encode()) as copy:
        copy.set_types(["uuid", "bytea", "bytea"])
        for message, packed in batch:
            copy.write_row((message, packed.content_gzip, packed.content_sha256))
    conn.execute(ANALYZE.encode())
    moved, text_bytes, gzip_bytes = rows(conn, MOVE, due.values(Place()))[0]
    return int(moved), int(text_bytes), int(gzip_bytes)
