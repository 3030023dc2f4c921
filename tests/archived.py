"""What the tests of the chat archive share: messages to move, a run, and what lies where."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from lifecycle.archive.archive import ArchiveRun, archive_messages
from lifecycle.archive.text import Packed, unpack
from lifecycle.database import Connection, connect, rows, value
from lifecycle.policy import CHAT_ARCHIVE, ChatArchivePolicy

# Days are claimed and batches cut even in the small sample.
SMALL_BATCHES = replace(CHAT_ARCHIVE, batch_size=100)
NEW_SESSION = """
with account as (insert into accounts default values returning id),
     sign_in as (insert into account_linkages (account_id, supabase_user_id)
                 select id, gen_random_uuid() from account returning account_id, supabase_user_id),
     session as (insert into chat_sessions (account_id) select id from account returning id)
select s.id, l.supabase_user_id from session s, sign_in l
"""


def archive(url: str, now: datetime, policy: ChatArchivePolicy = SMALL_BATCHES) -> ArchiveRun:
    with connect(url) as conn, connect(url) as claims:
        return archive_messages(conn, claims, now=now, policy=policy)


def make_session(conn: Connection) -> tuple[UUID, UUID]:
    """A chat session without messages, and the sign-in of its owner."""
    session, user = rows(conn, NEW_SESSION)[0]
    return session, user


def say(conn: Connection, session: UUID, text: str, at: datetime | str) -> UUID:
    """A message; `at` as text where Python knows no such moment."""
    said: UUID = value(
        conn,
        "insert into chat_messages (session_id, role, content, tool_calls, latency_ms, created_at)"
        """ values (%s, 'tool', %s, '[{"tool": "get_weather"}]', 7, %s) returning id""",
        (session, text, at),
    )
    return said


def live(conn: Connection) -> dict[UUID, tuple[Any, ...]]:
    """Messages that were not moved, by id: everything about them, the moment as text."""
    found = rows(
        conn, "select id, session_id, role, tool_calls, latency_ms, created_at::text, content from chat_messages"
    )
    return {row[0]: row[1:] for row in found}


def archived(conn: Connection) -> dict[UUID, tuple[Any, ...]]:
    """The same of the archive, unpacked."""
    found = rows(
        conn,
        "select id, session_id, role, tool_calls, latency_ms, created_at::text, content_gzip, content_sha256"
        " from chat_messages_archive",
    )
    return {row[0]: (*row[1:6], unpack(Packed(row[6], row[7])).decode()) for row in found}


def due(conn: Connection, now: datetime) -> dict[UUID, tuple[Any, ...]]:
    """The messages that a run at `now` has to move."""
    cutoff = now - timedelta(days=90)
    ids = {i for (i,) in rows(conn, "select id from chat_messages where created_at < %s", (cutoff,))}
    return {i: message for i, message in live(conn).items() if i in ids}


def noted(conn: Connection) -> list[str]:
    """The moments that statistics will count again."""
    return [at for (at,) in rows(conn, "select changed_at::text from lifecycle.changed_chat_hours order by changed_at")]
