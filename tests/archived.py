"""What the tests of the chat archive share: messages to move, a run, and what lies where."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from lifecycle.archive.layout import Archive, Layout, archives_of, read_layout
from lifecycle.archive.move import ArchiveRun, archive_rows
from lifecycle.archive.pace import PACE, Pace
from lifecycle.archive.restore import Restoration, restore_group
from lifecycle.archive.text import unpack
from lifecycle.database import Connection, connect, rows, value
from tests.declared import APPLICATION

(CHAT,) = archives_of(APPLICATION.archived_tables)
# Days are claimed and batches cut even in the small sample.
SMALL_BATCHES = replace(PACE, batch_size=100)
NEW_SESSION = """
with account as (insert into accounts default values returning id),
     sign_in as (insert into account_linkages (account_id, supabase_user_id)
                 select id, gen_random_uuid() from account returning account_id, supabase_user_id),
     session as (insert into chat_sessions (account_id, started_at)
                select id, now() - interval '400 days' from account returning id)
select s.id, l.supabase_user_id from session s, sign_in l
"""
SAY = """
insert into chat_messages (session_id, role, content, tool_calls, latency_ms, created_at, metadata, sequence)
values (%(session)s, %(role)s, %(text)s, '[{"tool": "get_weather"}]', 7, %(at)s, '{"seen": [1, null]}',
        (select coalesce(max(sequence), 0) + 1 from chat_messages where session_id = %(session)s)
        + (select count(*) from chat_messages_archive where session_id = %(session)s))
returning id
"""
DUE = """
select m.id from chat_messages m join chat_sessions s on s.id = m.session_id
 where m.created_at < %s and s.started_at < %s
"""
# Long enough for gzip to be worth it.
LONG = "雨の日は恐竜博物館へ。" * 40


def archive(url: str, now: datetime, pace: Pace = SMALL_BATCHES, which: Archive = CHAT) -> ArchiveRun:
    with connect(url) as conn, connect(url) as claims:
        return archive_rows(conn, claims, which, now=now, pace=pace)


def layout_of(conn: Connection, which: Archive = CHAT) -> Layout:
    return read_layout(conn, which)


def restore(conn: Connection, session: object, now: datetime, which: Archive = CHAT) -> Restoration:
    return restore_group(conn, which, str(session), now=now)


def make_session(conn: Connection) -> tuple[UUID, UUID]:
    """A chat session without messages, and the sign-in of its owner."""
    session, user = rows(conn, NEW_SESSION)[0]
    return session, user


def say(conn: Connection, session: UUID, text: str, at: datetime | str, role: str = "tool") -> UUID:
    """A message; `at` as text where Python knows no such moment."""
    said: UUID = value(conn, SAY, {"session": session, "role": role, "text": text, "at": at})
    return said


def live(conn: Connection) -> dict[UUID, tuple[Any, ...]]:
    """Messages that were not moved, by id: everything about them as text, the message's text last."""
    found = rows(conn, "select m.id, m.session_id, to_jsonb(m) - 'content' - 'id', m.content from chat_messages m")
    return {row[0]: row[1:] for row in found}


def archived(conn: Connection) -> dict[UUID, tuple[Any, ...]]:
    """The same of the archive, unpacked."""
    found = rows(
        conn,
        "select a.id, a.session_id,"
        " to_jsonb(a) - array['id', 'content', 'content_gzip', 'content_sha256', 'archived_at'],"
        " a.content, a.content_gzip, a.content_sha256 from chat_messages_archive a",
    )
    return {row[0]: (row[1], row[2], unpack(*row[3:])) for row in found}


def due(conn: Connection, now: datetime) -> dict[UUID, tuple[Any, ...]]:
    """The messages that a run at `now` has to move."""
    cutoffs = (now - CHAT.keep_for, now - CHAT.keep_groups_for)
    ids = {i for (i,) in rows(conn, DUE, cutoffs)}
    return {i: message for i, message in live(conn).items() if i in ids}
