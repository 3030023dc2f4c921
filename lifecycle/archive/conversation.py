"""A past conversation as text, and a session brought back from the archive."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from lifecycle.archive.text import Packed, unpack
from lifecycle.database import Connection, politely, rows, run_all, value, without_statement_timeout
from lifecycle.errors import RefusedError
from lifecycle.policy import CHAT_ARCHIVE

KNOWN: Final = "select exists (select from public.chat_sessions where id = %s)"
# One statement, so that a message on its way from one table to the other is neither missed nor seen twice.
MESSAGES: Final = """
select c.created_at::text, c.role, c.content, c.content_gzip, c.content_sha256
  from (select m.id, m.created_at, m.role, m.content, null::bytea as content_gzip, null::bytea as content_sha256
          from public.chat_messages m where m.session_id = %(session)s
         union all
        select a.id, a.created_at, a.role, null, a.content_gzip, a.content_sha256
          from public.chat_messages_archive a where a.session_id = %(session)s) c
 order by c.created_at, c.id
"""
ARCHIVED: Final = """
select a.id, a.content_gzip, a.content_sha256 from public.chat_messages_archive a where a.session_id = %(session)s
"""
PREPARE: Final = (
    "set local statement_timeout = 0",
    "set local lifecycle.moves_messages = 'yes'",
    "create temp table lifecycle_chat_batch (id uuid not null, content text not null) on commit drop",
)
FILL: Final = "copy pg_temp.lifecycle_chat_batch from stdin (format binary)"
# The next run of the archive leaves the session alone until then.
KEEP_OUT: Final = """
insert into lifecycle.restored_chat_sessions as r (session_id, restored_at, until)
values (%(session)s, %(now)s, %(until)s)
on conflict (session_id) do update set restored_at = excluded.restored_at, until = greatest(r.until, excluded.until)
"""
# A text is put back only under its own checksum; an id that is in use again stays in the archive.
BRING_BACK: Final = """
with gone as (
    delete from public.chat_messages_archive a using pg_temp.lifecycle_chat_batch b
     where a.id = b.id and a.session_id = %(session)s and a.content_sha256 = sha256(convert_to(b.content, 'UTF8'))
       and not exists (select from public.chat_messages m where m.id = a.id)
    returning a.id, a.session_id, a.role, b.content, a.tool_calls, a.latency_ms, a.created_at
), back as (
    insert into public.chat_messages (id, session_id, role, content, tool_calls, latency_ms, created_at)
    select g.* from gone g order by g.created_at
    returning 1
)
select count(*) from back
"""


@dataclass(frozen=True)
class Message:
    """One message of a conversation; `at` is the moment as PostgreSQL prints it, in UTC."""

    at: str
    role: str
    text: str
    archived: bool


@dataclass(frozen=True)
class Restoration:
    """How many messages came back, how many stayed in the archive, and until when the session is left alone."""

    restored: int
    left: int
    until: datetime


def read_conversation(conn: Connection, session: UUID) -> tuple[Message, ...]:
    """The whole conversation, archived messages included, oldest first.

    RefusedError for a session that does not exist, VerificationError when an archived text is damaged.
    """
    with without_statement_timeout(conn):
        conn.execute("set local timezone = 'UTC'")
        _require_session(conn, session)
        found = rows(conn, MESSAGES, {"session": session})
    return tuple(
        Message(at, role, unpack(Packed(packed, checksum)).decode() if text is None else text, text is None)
        for at, role, text, packed, checksum in found
    )


def restore_session(
    conn: Connection, session: UUID, *, now: datetime, keep_for: timedelta = CHAT_ARCHIVE.restored_for
) -> Restoration:
    """Bring a session's archived messages back into chat_messages, and keep them there for `keep_for`.

    One transaction. RefusedError for a session that does not exist, VerificationError when a text is damaged (then
    nothing is changed), BusyError when the session stays locked.
    """
    until = now + keep_for
    restoration, _ = politely(
        conn,
        lambda: _restore(conn, session, now, until),
        what="restore of a chat session",
        relation="public.chat_sessions",
        also=("public.chat_messages", "public.chat_messages_archive"),
    )
    return restoration


def _restore(conn: Connection, session: UUID, now: datetime, until: datetime) -> Restoration:
    _require_session(conn, session)
    run_all(conn, PREPARE)
    conn.execute(KEEP_OUT.encode(), {"session": session, "now": now, "until": until})
    archived = rows(conn, ARCHIVED, {"session": session})
    with conn.cursor().copy(FILL.encode()) as copy:
        copy.set_types(["uuid", "text"])
        for message, packed, checksum in archived:
            copy.write_row((message, unpack(Packed(packed, checksum)).decode()))
    restored = int(value(conn, BRING_BACK, {"session": session}))
    return Restoration(restored, len(archived) - restored, until)


def _require_session(conn: Connection, session: UUID) -> None:
    if not value(conn, KNOWN, (session,)):
        raise RefusedError(f"there is no chat session {session}; its owner may have been erased")
