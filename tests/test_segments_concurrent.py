"""Segments under traffic: edits of the same profile, a second refresh, a killed one."""

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.segments.refresh import refresh_segments, segments_status
from tests.conftest import MakeApplicationDb
from tests.segmented import (
    CONSENT,
    Person,
    answer,
    disagreements,
    everybody,
    make_keen_person,
    preferences,
    profiles,
    segments,
    waiting,
)

pytestmark = pytest.mark.one_server

EDIT = "update account_profiles set preferences = jsonb_set(preferences, '{display,theme}', %s) where account_id = %s"
BLOCKED = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.fixture
def db(make_application_db: MakeApplicationDb) -> str:
    """The generator's rows; all segments computed."""
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        refresh_segments(conn)
    return url


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


def edit(url: str, person: Person, theme: str) -> None:
    with connect(url) as conn:
        conn.execute(EDIT.encode(), (f'"{theme}"', person.account))


def refresh(url: str) -> None:
    with connect(url) as conn:
        refresh_segments(conn)


def test_a_profile_under_edit_is_skipped_and_done_next_time(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as editor:
        conn.execute("set lock_timeout = '5s'")
        person, other = make_keen_person(conn), make_keen_person(conn)
        editor.execute(EDIT.encode(), ('"light"', person.account))
        result = refresh_segments(conn)
        assert (result.accounts_seen, result.written, result.skipped_busy, result.remaining) == (2, 1, 1, 1)
        assert waiting(conn) == {person.account}
        assert segments(conn, other)
        editor.commit()
        assert refresh_segments(conn).written == 1
        assert segments(conn, person)
        assert preferences(conn, person)["display"] == {"theme": "light"}


def test_busy_profiles_do_not_keep_a_refresh_going(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as editor:
        conn.execute("set lock_timeout = '5s'")
        people = [make_keen_person(conn) for _ in range(4)]
        for person in people[:2]:
            editor.execute(EDIT.encode(), ('"light"', person.account))
        result = refresh_segments(conn, batch_size=2)
        assert (result.skipped_busy, result.remaining, result.batches) == (2, 4, 1)
        result = refresh_segments(conn, batch_size=3)
        assert (result.written, result.skipped_busy, result.remaining) == (2, 2, 2)


def test_an_edit_that_comes_while_the_refresh_holds_the_profile_is_kept(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as refreshing:
        person = make_keen_person(conn)
        refreshing.execute("select * from refresh_account_segments()")
        thread = in_thread(lambda: edit(db, person, "light"))
        wait_for(lambda: bool(value(conn, BLOCKED)))
        assert "segments" not in preferences(conn, person)
        refreshing.commit()
        thread.join(20)
        assert segments(conn, person)
        assert preferences(conn, person)["display"] == {"theme": "light"}
        assert disagreements(conn) == []


def test_edits_of_a_busy_application_are_all_kept(db: str) -> None:
    count = "update account_profiles set preferences = preferences || jsonb_build_object('edits', \
             coalesce((preferences ->> 'edits')::int, 0) + 1) where account_id = %s"
    edits, editors = 60, 3
    with connect(db) as conn:
        person = make_keen_person(conn)

        def work() -> None:
            with connect(db) as session:
                for number in range(edits):
                    session.execute(count.encode(), (person.account,))
                    if number % 5 == 0:
                        answer(session, person, "favorite_themes", ["craft"] if number % 2 else ["nature"])

        threads = [in_thread(work) for _ in range(editors)]
        written = 0
        while any(thread.is_alive() for thread in threads):
            written += refresh_segments(conn).written
        refresh_segments(conn)
        assert written > 0
        assert preferences(conn, person)["edits"] == edits * editors
        assert preferences(conn, person)["display"] == CONSENT["display"]
        assert disagreements(conn) == []
        assert not waiting(conn)


def test_a_change_that_is_committed_during_the_computation_waits_for_the_next_refresh(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as writer:
        person = make_keen_person(conn)
        writer.execute(
            "insert into quiz_answers (session_id, question_ref, answer_value)"
            " values (%s, 'favorite_themes', '\"history\"')",
            (person.session,),
        )
        refresh_segments(conn)
        assert "craft" in segments(conn, person)
        writer.commit()
        assert waiting(conn) == {person.account}
        refresh_segments(conn)
        assert segments(conn, person).keys() >= {"history"}
        assert disagreements(conn) == []


def test_consent_withdrawn_while_a_refresh_runs_wins(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as editor:
        person = make_keen_person(conn)
        editor.execute(
            "update account_profiles set preferences = jsonb_set(preferences,"
            " '{consent,preferences,personalization}', 'false') where account_id = %s",
            (person.account,),
        )
        refresh_segments(conn)
        editor.commit()
        refresh_segments(conn)
        assert "segments" not in preferences(conn, person)
        assert segments_status(conn).without_consent == 0


def test_two_refreshes_at_once_are_one_and_an_error(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as first:
        make_keen_person(conn)
        first.execute("select * from refresh_account_segments()")
        with pytest.raises(psycopg.errors.LockNotAvailable, match="already runs in another session"):
            refresh_segments(conn)
        first.commit()
        assert refresh_segments(conn).accounts_seen == 0


def killed_in_the_ledger(db: str, conn: Connection) -> None:
    """End a refresh that has written its rows, and waits for the ledger before it can commit."""
    with psycopg.connect(db) as holder:
        holder.execute("lock table audit_events in access exclusive mode")
        errors: list[BaseException] = []

        def run() -> None:
            try:
                refresh(db)
            except psycopg.OperationalError as error:
                errors.append(error)

        thread = in_thread(run)
        wait_for(lambda: bool(value(conn, BLOCKED)))
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database() and query like '%refresh_account_segments%'"
        )
        thread.join(20)
        assert len(errors) == 1


def test_a_killed_refresh_leaves_nothing_half_done(db: str) -> None:
    with connect(db) as conn:
        conn.execute("update account_profiles set preferences = preferences - 'segments'")
        everybody(conn)
        before, log = profiles(conn), rows(conn, "select * from lifecycle.changed_segment_accounts order by 1, 2")
        killed_in_the_ledger(db, conn)
        assert profiles(conn) == before
        assert rows(conn, "select * from lifecycle.changed_segment_accounts order by 1, 2") == log
        assert refresh_segments(conn).written > 100
        assert disagreements(conn) == []
        assert not waiting(conn)


def test_writers_of_one_account_do_not_wait_for_each_other(db: str) -> None:
    with connect(db) as conn, psycopg.connect(db) as one, psycopg.connect(db) as other:
        person = make_keen_person(conn)
        for session in (one, other):
            session.execute("set lock_timeout = '2s'")
            session.execute(
                "insert into activity_interactions (account_id, activity_slug, interaction_type)"
                " values (%s, 'tojinbo', 'view')",
                (person.account,),
            )
        refresh_segments(conn)
        one.commit()
        other.commit()
        assert waiting(conn) == {person.account}
