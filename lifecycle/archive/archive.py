"""Moving messages into the archive, a batch at a time, in one short transaction each.

Nothing is held while a batch is compressed but the claim of its days (read_ahead.py). Two workers therefore take
different days; and whatever both may do, the moving statement looks again at each row, so a message is moved once, as
it is, or left where it is.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from lifecycle.archive.batches import Due, Place, count_due
from lifecycle.archive.read_ahead import Batch, claimed_batches
from lifecycle.database import Connection, politely, rows, run_all
from lifecycle.policy import CHAT_ARCHIVE, ChatArchivePolicy

# Statistics do not note a message that moves (revision 0009).
PREPARE: Final = (
    "set local statement_timeout = 0",
    "set local lifecycle.moves_messages = 'yes'",
    # An archive that is empty when the statement is planned would be read whole for each message of the batch, while
    # another worker fills it.
    "set local enable_seqscan = off",
    "create temp table lifecycle_chat_batch"
    " (id uuid not null, session_id uuid not null, content_gzip bytea not null, content_sha256 bytea not null)"
    " on commit drop",
)
FILL: Final = "copy pg_temp.lifecycle_chat_batch from stdin (format binary)"
# What is joined by; the rest would only be read for nothing.
ANALYZE: Final = "analyze pg_temp.lifecycle_chat_batch (id, session_id)"
# Waits for nobody: a message or a session that somebody changes just now is left for the next run. The text may
# have changed since it was read, so its checksum is taken again, and again under the lock. An id that the archive has
# already is left, too, and so is a message that went to another session.
MOVE: Final = """
with session as materialized (
    select s.id from public.chat_sessions s
     where s.id in (select b.session_id from pg_temp.lifecycle_chat_batch b)
       and not exists (select from lifecycle.restored_chat_sessions r where r.session_id = s.id and r.until > %(now)s)
     order by s.id for key share skip locked
), held as materialized (
    select m.id, m.ctid as place, b.content_gzip, b.content_sha256
      from pg_temp.lifecycle_chat_batch b join session s on s.id = b.session_id
      join public.chat_messages m on m.id = b.id and m.session_id = b.session_id
     where m.created_at < %(cutoff)s
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
)
select count(*), coalesce(sum(g.bytes), 0), coalesce(sum(octet_length(g.content_gzip)), 0) from gone g
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

    `claims` is a second session, which a second thread uses until this function ends; neither keeps any state, so both
    may go through a transaction pooler. Raises BusyError when the tables themselves stay locked, psycopg.Error
    otherwise; batches that were moved stay moved.
    """
    due, run, place = Due(now, policy), ArchiveRun(), Place()
    expected = count_due(conn, due, policy.run_limit)
    while run.moved < policy.run_limit:
        begin = place
        with closing(claimed_batches(claims, due, place)) as batches:
            for batch in batches:
                place = batch.end
                run = replace(run, busy_days=run.busy_days + batch.busy_days)
                if batch.messages:
                    run = _archive_batch(conn, due, batch, run, sleep)
                progress("messages archived", min((run.moved + run.left) / max(expected, 1), 1.0))
                if run.moved >= policy.run_limit:
                    break
        if place == begin:
            break
    return replace(run, remaining=count_due(conn, due, policy.run_limit))


def _archive_batch(
    conn: Connection, due: Due, batch: Batch, run: ArchiveRun, sleep: Callable[[float], None]
) -> ArchiveRun:
    (moved, text_bytes, gzip_bytes), _ = politely(
        conn,
        lambda: _move(conn, due, batch.packed),
        what="archive of chat messages",
        relation="public.chat_messages",
        also=("public.chat_messages_archive", "public.chat_sessions"),
        sleep=sleep,
    )
    return replace(
        run,
        moved=run.moved + moved,
        left=run.left + batch.messages - moved,
        batches=run.batches + 1,
        text_bytes=run.text_bytes + text_bytes,
        gzip_bytes=run.gzip_bytes + gzip_bytes,
    )


def _move(conn: Connection, due: Due, packed: bytes) -> tuple[int, int, int]:
    """Messages, bytes of text and bytes of gzip that moved, in the caller's transaction."""
    run_all(conn, PREPARE)
    with conn.cursor().copy(FILL.encode()) as copy:
        copy.write(packed)
    conn.execute(ANALYZE.encode())
    moved, text_bytes, gzip_bytes = rows(conn, MOVE, due.values(Place()))[0]
    return int(moved), int(text_bytes), int(gzip_bytes)
