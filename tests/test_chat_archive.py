"""The chat archive in the database: what moves, that it moves whole, and who may read it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from lifecycle.archive.access import access_differences
from lifecycle.archive.pace import PACE
from lifecycle.archive.restore import archived_groups
from lifecycle.archive.text import unpack
from lifecycle.database import connect, rows, value
from lifecycle.migrating.migrate import upgrade
from tests.archived import CHAT, LONG, archive, archived, due, layout_of, live, make_session, restore, say
from tests.conftest import AsRole, MakeApplicationDb
from tests.declared import APPLICATION

READ = "select session_id, content, content_gzip, content_sha256 from chat_messages_archive"
OPEN_FUNCTION = "select has_function_privilege(%s, 'delete_expired_vouchers(int)', 'execute')"
EVERYTHING = "select array_agg(m::text order by m.id) from chat_messages m"


@pytest.mark.every_version
def test_what_is_past_retention_moves_as_it_is(make_application_db: MakeApplicationDb, now: datetime) -> None:
    url = make_application_db(migrated=True)
    cutoff = now - CHAT.keep_for
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        session, _ = make_session(conn)
        month = datetime(2025, 1, 1, tzinfo=UTC)
        odd: dict[str, datetime | str] = {
            "": "-infinity",
            "before Christ 🦖\u2028\t": "4713-01-01 00:00+00 BC",
            "last of a month": month - timedelta(microseconds=1),
            "first of a month": month,
            "just past": cutoff - timedelta(microseconds=1),
            "福" * 3_500_000: month,
            "\\x00 '' $$ %s": month,
        }
        moved = {say(conn, session, text, at) for text, at in odd.items()}
        stays = {say(conn, session, "just kept", cutoff), say(conn, session, "in no time", "infinity")}
        before, expected = live(conn), due(conn, now)
        whole = value(conn, EVERYTHING)
        assert moved <= set(expected)
        assert not stays & set(expected)
        run = archive(url, now)
        assert archived(conn) == expected
        assert live(conn) == {i: message for i, message in before.items() if i not in expected}
        assert (run.moved, run.left, run.remaining) == (len(expected), 0, 0)
        assert run.text_bytes == sum(len(message[-1].encode()) for message in expected.values())
        assert archive(url, now).moved == 0
        groups = archived_groups(conn, layout_of(conn))
        assert sum(restore(conn, group, now).restored for group in groups) == len(expected)
        assert value(conn, EVERYTHING) == whole
        assert archived(conn) == {}


def test_a_text_that_gzip_would_make_larger_is_stored_as_it_is(
    make_application_db: MakeApplicationDb, now: datetime
) -> None:
    """Which of both a row holds is said by its columns, not by its bytes."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        session, _ = make_session(conn)
        for text in ("short", LONG, ""):
            say(conn, session, text, now - timedelta(days=100))
        run = archive(url, now)
        kept = rows(
            conn,
            "select content, content_gzip is null, content_sha256 = sha256(convert_to(coalesce(content, %s), 'UTF8'))"
            " from chat_messages_archive order by content",
            (LONG,),
        )
        assert kept == [("", True, True), ("short", True, True), (None, False, True)]
        assert run.plain == 2
        assert run.stored_bytes < run.text_bytes == len(f"short{LONG}".encode())


def test_a_batch_ends_with_its_bytes_and_a_run_with_its_limit(
    make_application_db: MakeApplicationDb, now: datetime
) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        session, _ = make_session(conn)
        for number in range(9):
            say(conn, session, "a" * 1000, now - timedelta(days=200 - number))
        pace = replace(PACE, batch_bytes=1500, run_limit=5)
        run = archive(url, now, pace)
        assert (run.moved, run.batches, run.remaining) == (6, 3, 3)
        assert archive(url, now, pace).moved == 3


def test_archived_messages_go_with_their_session(make_application_db: MakeApplicationDb, now: datetime) -> None:
    """By deletion, by the deletion of the account above it, by TRUNCATE, and by the next run if triggers were off."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        sessions = [make_session(conn)[0] for _ in range(4)]
        for session in sessions:
            say(conn, session, "old", now - timedelta(days=100))
        archive(url, now)
        restore(conn, sessions[1], now)
        archive(url, now + timedelta(days=31))
        assert len(archived(conn)) == 4
        conn.execute("delete from chat_sessions where id = %s", (sessions[0],))
        conn.execute(
            "delete from accounts where id = (select account_id from chat_sessions where id = %s)", (sessions[1],)
        )
        assert {message[0] for message in archived(conn).values()} == set(sessions[2:])
        assert value(conn, "select count(*) from lifecycle.restored_groups") == 0
        conn.execute("alter table chat_sessions disable trigger lifecycle_chat_messages_archive_deleted")
        conn.execute("delete from chat_sessions where id = %s", (sessions[2],))
        conn.execute("alter table chat_sessions enable trigger lifecycle_chat_messages_archive_deleted")
        assert len(archived(conn)) == 2
        assert archive(url, now).orphans == 1
        assert {message[0] for message in archived(conn).values()} == {sessions[3]}
        conn.execute("truncate chat_sessions cascade")
        assert archived(conn) == {}


def test_the_application_may_rename_its_sessions(make_application_db: MakeApplicationDb, now: datetime) -> None:
    """What our trigger cannot do then is told; the application's own statement goes on, and nothing is swept."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        session, _ = make_session(conn)
        say(conn, session, "old", now - timedelta(days=100))
        archive(url, now)
        conn.execute("alter table chat_sessions rename column id to session_key")
        conn.execute("delete from chat_sessions")
        assert value(conn, "select count(*) from chat_sessions") == 0
        assert len(archived(conn)) == 1
        assert [job for (job,) in rows(conn, "select job from lifecycle.open_problems")] == [CHAT.job]
        with pytest.raises(Exception, match=r"chat_sessions\.id: archive.yaml declares this column"):
            archive(url, now)
        conn.execute("alter table chat_sessions rename column session_key to id")
        assert archive(url, now).orphans == 1


@pytest.mark.parametrize("auto_grant", [True, False])
def test_who_may_read(make_application_db: MakeApplicationDb, as_role: AsRole, now: datetime, auto_grant: bool) -> None:
    url = make_application_db(rows=False, auto_grant=auto_grant, migrated=True)
    with connect(url) as conn:
        mine, me = make_session(conn)
        theirs, them = make_session(conn)
        for session in (mine, theirs):
            say(conn, session, "old", now - timedelta(days=100))
            say(conn, session, "young", now - timedelta(days=89))
        archive(url, now)
        assert access_differences(conn, CHAT) == ()
        for role in ("anon", "authenticated", "service_role"):
            assert not value(conn, OPEN_FUNCTION, (role,))

    def seen(role: str, claims: dict[str, Any] | None) -> tuple[set[Any], set[Any], set[Any]]:
        with as_role(url, role, claims) as api:
            found = api.execute(READ).fetchall()
            assert {unpack(*row[1:]) for row in found} <= {"old"}
            recent = api.execute("select session_id, content from chat_messages_recent").fetchall()
            assert {content for _, content in recent} <= {"young"}
            asked = {
                session
                for session in (mine, theirs)
                if role != "anon" and api.execute("select * from archived_chat_messages(%s)", (session,)).fetchall()
            }
            return {row[0] for row in found}, {session for session, _ in recent}, asked

    assert seen("authenticated", {"sub": str(me)}) == ({mine}, {mine}, {mine})
    assert seen("authenticated", {"sub": str(them)}) == ({theirs}, {theirs}, {theirs})
    assert seen("authenticated", None) == (set(), set(), set())
    assert seen("service_role", None) == ({mine, theirs}, {mine, theirs}, {mine, theirs})
    assert seen("anon", None) == (set(), set(), set())
    refused = ["delete from chat_messages_archive", "update chat_messages_archive set role = 'user'",
               "insert into chat_messages_archive select * from chat_messages_archive",
               "truncate chat_messages_archive", "delete from chat_messages_recent"]  # fmt: skip
    for role in ("anon", "authenticated", "service_role"):
        for statement in [*refused, *(["select * from archived_chat_messages(null)"] if role == "anon" else [])]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(url, role, {"sub": str(me)}) as api:
                api.execute(statement.encode())


def said_to(url: str, as_role: AsRole, role: str, user: object) -> set[str]:
    with as_role(url, role, {"sub": str(user)}) as api:
        return {row[0] for row in api.execute("select content from chat_messages_archive").fetchall()}


def test_the_policies_of_the_application_are_asked_at_each_query(
    make_application_db: MakeApplicationDb, as_role: AsRole, now: datetime
) -> None:
    """Those of the table and of the groups, as they are then: the archive opens nothing that either keeps closed."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        session, me = make_session(conn)
        say(conn, session, "old", now - timedelta(days=100))
        archive(url, now)

        def change(*statements: str) -> set[str]:
            for statement in statements:
                conn.execute(statement.encode())
            return said_to(url, as_role, "authenticated", me)

        view, sessions = '"Accounts can view own chat messages"', '"Accounts can view own chat sessions"'
        assert change() == {"old"}
        # Of the table, by the group alone: as it says.
        assert change("create policy closed on chat_messages as restrictive to authenticated using (false)") == set()
        assert change("alter policy closed on chat_messages using (session_id is not null)") == {"old"}
        # By more than the group: closed where it restricts, nothing where it opens.
        assert change("alter policy closed on chat_messages using (role <> 'user')") == set()
        assert change("drop policy closed on chat_messages", f"alter policy {view} on chat_messages using (true)") == {
            "old"
        }
        assert change(f"alter policy {view} on chat_messages using (role is not null)") == set()
        assert change(f"alter policy {view} on chat_messages using (true)") == {"old"}
        # Of the groups.
        assert change(f"alter policy {sessions} on chat_sessions using (false)") == set()
        assert change(f"alter policy {sessions} on chat_sessions using (true)") == {"old"}
        assert change("revoke select on chat_sessions from authenticated") == set()
        assert change("grant select on chat_sessions to authenticated") == {"old"}
        # Nothing of ours keeps the application's function or table from going.
        assert change("drop function if exists auth_account_id() cascade") == {"old"}
        assert change("alter table chat_sessions rename to conversations") == set()


@pytest.mark.every_version
def test_grants_of_the_table_are_taken_over_and_later_differences_are_told(
    make_application_db: MakeApplicationDb, as_role: AsRole
) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        for statement in (
            "revoke select on chat_messages from anon, authenticated",
            "grant select (id, session_id, content) on chat_messages to authenticated",
        ):
            conn.execute(statement.encode())
    upgrade(url, APPLICATION)
    with connect(url) as conn:
        assert access_differences(conn, CHAT) == ()
        with as_role(url, "authenticated") as api:
            assert api.execute("select id, content, content_gzip from chat_messages_archive").fetchall() == []
        for role in ("anon", "authenticated"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(url, role) as api:
                api.execute("select content_sha256 from chat_messages_archive")
        conn.execute("alter table chat_messages add language text")
        conn.execute("grant select (language) on chat_messages to authenticated")
        upgrade(url, APPLICATION)
        with as_role(url, "authenticated") as api:
            assert api.execute("select language from chat_messages_archive").fetchall() == []
        conn.execute("grant select, delete on chat_messages_archive to anon")
        conn.execute("create policy opens on chat_messages_archive using (true)")
        conn.execute("alter table chat_messages_archive disable row level security")
        found = {(difference.what, difference.name) for difference in access_differences(conn, CHAT)}
        assert found == {
            ("grant", "anon"),
            ("reader", "anon"),
            ("policy", "opens"),
            ("row-level security", "public.chat_messages_archive"),
        }


def test_the_recent_view_ends_where_the_archive_begins(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        definition = value(conn, "select pg_get_viewdef('chat_messages_recent'::regclass)")
        hours = round(CHAT.keep_for.total_seconds() / 3600)
        assert f"'{hours}:00:00'::interval" in definition
