"""The chat archive in the database: what moves, what does not change by it, and who may read it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.archive.access import access_differences
from lifecycle.archive.text import Packed, unpack
from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.policy import CHAT_ARCHIVE
from tests.archived import archive, archived, due, live, make_session, noted, say
from tests.conftest import AsRole, MakeApplicationDb
from tests.statistics_agreement import refresh

VIEWS = """
select c.relname from pg_class c
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('v', 'm') and c.relname <> 'chat_messages_recent'
 order by 1
"""
READ = "select session_id, content_gzip, content_sha256 from chat_messages_archive"
OPEN_FUNCTION = "select has_function_privilege(%s, 'delete_expired_vouchers(int)', 'execute')"


def contents(conn: Connection) -> dict[str, list[str]]:
    """Everything that the dashboards read, and every roll-up of the chat."""
    relations = [("public", name) for (name,) in rows(conn, VIEWS)]
    relations += [
        ("lifecycle", name)
        for name in ("chat_session_hours", "function_usage_hourly", "chat_performance_history", "data_quality_hourly")
    ]
    return {
        relation[1]: [
            row
            for (row,) in conn.execute(
                sql.SQL("select r::text from {} r order by 1").format(sql.Identifier(*relation))
            ).fetchall()
        ]
        for relation in relations
    }


def test_no_statistic_changes(make_application_db: MakeApplicationDb, now: datetime) -> None:
    """Statistics with the archive, and of the same messages in one table, at one moment."""
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        refresh(conn)
        conn.execute("create table lifecycle.as_it_was as select * from chat_messages")
        run = archive(url, now)
        assert run.moved > 1000
        assert noted(conn) == []
        assert rows(conn, "select * from lifecycle.reconcile_statistics(1000, 1000) where repaired > 0") == []
        with conn.transaction(force_rollback=True):
            conn.execute("set local lifecycle.moves_messages = 'yes'")
            days = (now - timedelta(days=1000), now + timedelta(days=1))
            conn.execute("select refresh_derived_statistics(%s, %s)", days)
            split = contents(conn)
            conn.execute("delete from chat_messages_archive")
            conn.execute("delete from chat_messages")
            conn.execute("insert into chat_messages select * from lifecycle.as_it_was")
            conn.execute("select refresh_derived_statistics(%s, %s)", days)
            assert contents(conn) == split
            assert all(
                split[name] for name in ("account_function_usage", "chat_usage_by_account", "chat_session_hours")
            )


def test_what_is_past_retention_moves_as_it_is(make_application_db: MakeApplicationDb, now: datetime) -> None:
    url = make_application_db(migrated=True)
    cutoff = now - CHAT_ARCHIVE.keep_for
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
        assert moved <= set(expected)
        assert not stays & set(expected)
        run = archive(url, now)
        assert archived(conn) == expected
        assert live(conn) == {i: message for i, message in before.items() if i not in expected}
        assert (run.moved, run.left, run.remaining) == (len(expected), 0, 0)
        assert run.text_bytes == sum(len(message[-1].encode()) for message in expected.values())
        assert archive(url, now).moved == 0


def test_a_batch_ends_with_its_bytes_and_a_run_with_its_limit(
    make_application_db: MakeApplicationDb, now: datetime
) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        session, _ = make_session(conn)
        for number in range(9):
            say(conn, session, "a" * 1000, now - timedelta(days=200 - number))
        policy = replace(CHAT_ARCHIVE, batch_bytes=1500, run_limit=5)
        run = archive(url, now, policy)
        assert (run.moved, run.batches, run.remaining) == (6, 3, 3)
        assert archive(url, now, policy).moved == 3


def test_real_changes_of_archived_messages_are_noted(make_application_db: MakeApplicationDb, now: datetime) -> None:
    """A message that is erased, changed or written where it lies now counts as one that is not archived would."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        session, _ = make_session(conn)
        other, _ = make_session(conn)
        say(conn, session, "gone with its session", now - timedelta(days=200))
        kept = say(conn, other, "kept", now - timedelta(days=100))
        refresh(conn)
        usage = "select sum(total_messages)::int, (select sum(usage_count)::int from account_function_usage)"
        assert rows(conn, f"{usage} from chat_usage_by_account") == [(2, 2)]
        archive(url, now)
        assert noted(conn) == []
        conn.execute("delete from chat_sessions where id = %s", (session,))
        assert len(noted(conn)) == 1
        refresh(conn)
        assert rows(conn, f"{usage} from chat_usage_by_account") == [(1, 1)]
        conn.execute("update chat_messages_archive set tool_calls = null where id = %s", (kept,))
        refresh(conn)
        assert rows(conn, f"{usage} from chat_usage_by_account") == [(1, None)]
        conn.execute("delete from chat_messages_archive")
        refresh(conn)
        assert rows(conn, f"{usage} from chat_usage_by_account") == [(0, None)]


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
        assert access_differences(conn) == ()
        for role in ("anon", "authenticated"):
            assert not value(conn, OPEN_FUNCTION, (role,))

    def seen(role: str, claims: dict[str, Any] | None) -> tuple[set[Any], set[Any], set[Any]]:
        with as_role(url, role, claims) as api:
            found = api.execute(READ).fetchall()
            assert {unpack(Packed(*row[1:])).decode() for row in found} <= {"old"}
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
    assert seen("service_role", None) == ({mine, theirs}, {mine, theirs}, {mine, theirs})
    assert seen("anon", None) == (set(), set(), set())
    refused = ["delete from chat_messages_archive", "update chat_messages_archive set role = 'user'",
               "insert into chat_messages_archive select * from chat_messages_archive",
               "truncate chat_messages_archive", "delete from chat_messages_recent"]  # fmt: skip
    for role in ("anon", "authenticated", "service_role"):
        for statement in [*refused, *(["select * from archived_chat_messages(null)"] if role == "anon" else [])]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(url, role, {"sub": str(me)}) as api:
                api.execute(statement.encode())


def test_policies_and_grants_of_the_live_database_are_taken_over(
    make_application_db: MakeApplicationDb, as_role: AsRole, now: datetime
) -> None:
    """Other policies than the replica's: restrictive ones, one that reads its own columns, one that reads the text."""
    url = make_application_db(rows=False)
    with connect(url) as conn:
        for statement in (
            """create policy blocked on chat_messages as restrictive for select to authenticated
                 using (role <> 'tool' or session_id in (select s.id from chat_sessions s where s.title = 'tools'))""",
            "create policy writers on chat_messages for insert to anon with check (true)",
            "create policy quiet on chat_messages for select to anon using (content = '')",
            "revoke select on chat_messages from anon, authenticated",
            "grant select (id, session_id, content) on chat_messages to authenticated",
        ):
            conn.execute(statement.encode())
    upgrade(url)
    with connect(url) as conn:
        assert access_differences(conn) == ()
        session, user = make_session(conn)
        said = say(conn, session, "blocked", now - timedelta(days=100))
        conn.execute("insert into chat_messages (session_id, role, content, created_at) values (%s, 'user', 'x', %s)",
                     (session, now - timedelta(days=100)))  # fmt: skip
        archive(url, now)
        with as_role(url, "authenticated", {"sub": str(user)}) as api:
            seen = api.execute("select id from chat_messages_archive").fetchall()
            assert len(seen) == 1
            assert (said,) not in seen
        for role in ("anon", "authenticated"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(url, role) as api:
                api.execute("select content_sha256 from chat_messages_archive")
        # Later changes of the application's own rules are noticed.
        conn.execute("alter policy blocked on chat_messages using (false)")
        conn.execute("grant select on chat_messages_archive to anon")
        assert {(found.what, found.name) for found in access_differences(conn)} == {
            ("policy", "blocked"),
            ("reader", "anon"),
        }


def test_the_recent_view_ends_where_the_archive_begins(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        definition = value(conn, "select pg_get_viewdef('chat_messages_recent'::regclass)")
        hours = round(CHAT_ARCHIVE.keep_for.total_seconds() / 3600)
        assert f"'{hours}:00:00'::interval" in definition
        assert value(conn, "select keep_for from lifecycle.retention_policies where name = 'chat_messages'") == (
            CHAT_ARCHIVE.keep_for
        )
