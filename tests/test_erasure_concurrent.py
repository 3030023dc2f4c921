"""Erasing while others work: two workers, writers, somebody's lock, a worker that is too slow."""

import threading
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from lifecycle.archive.layout import archives_of
from lifecycle.archive.move import archive_rows
from lifecycle.archive.pace import PACE
from lifecycle.database import Connection, connect, rows, value
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.erasing import EXEMPT, LEASE_OVER, ask, claim, finish, job, picture, process, states, step, traces
from tests.people import Person, add_account, add_catalogue, add_person, add_visit, browser_session, insert

pytestmark = pytest.mark.one_server

AKI, BEN = Person("aki"), Person("ben")
SHARED = browser_session("shared")
STILL_ANONYMOUS = """
select 'behaviour' from user_behavior_events where session_id = %(session)s
 union all select 'business' from business_metrics_events where session_id = %(session)s
 union all select 'search' from search_queries where session_id = %(session)s
 union all select 'replay' from session_replay_events where session_id = %(session)s
"""
# Rows of sessions that began lately stay where they are.
OLD_SESSION = "update chat_sessions set started_at = now() - interval '200 days' where id = %(session)s"
OLD_MESSAGES = """
insert into chat_messages (session_id, role, content, sequence, created_at)
select %(session)s, 'user', 'x' || n, 1000 + n, now() - interval '100 days' - n * interval '1 minute'
  from generate_series(1, 300) n
"""
MESSAGES = """
select (select count(*) from chat_messages where session_id = %(session)s)
       + (select count(*) from chat_messages_archive where session_id = %(session)s)
"""
AGAIN = "update lifecycle.deletion_jobs set next_attempt_at = now()"


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    """An empty migrated database with the catalogue."""
    made = make_application_db(rows=False, migrated=True)
    with connect(made) as conn:
        add_catalogue(conn)
    return made


def test_a_locked_table_is_named(url: str, conn: Connection) -> None:
    """The error says what to look at, and the request goes through once the lock is gone."""
    add_person(conn, AKI.name)
    asked = ask(conn, AKI)
    conn.execute("update lifecycle.erasure_policy set lock_timeout_ms = 200")
    with psycopg.connect(url) as other:
        other.execute("lock table quiz_answers in access exclusive mode")
        process(conn)
        held_by = other.info.backend_pid
    assert (job(conn, asked)["state"], job(conn, asked)["attempts"]) == ("failed", 1)
    assert f"a lock on quiz_answers (pid {held_by}) stayed taken" in job(conn, asked)["last_error"].replace(
        "public.", ""
    )
    conn.execute(AGAIN)
    process(conn)
    assert job(conn, asked)["state"] == "verified"


def test_messages_that_move_to_the_archive_meanwhile_are_erased(url: str) -> None:
    """The archiver moves a person's messages, a few at a time, from before the keys are collected until the proof."""
    errors: list[Exception] = []

    def archive() -> None:
        few = replace(PACE, batch_size=5)
        (messages,) = archives_of(APPLICATION.archive.root)
        try:
            with connect(url) as moving, connect(url) as claims:
                archive_rows(moving, claims, messages, now=datetime.now(UTC), pace=few)
        except Exception as error:
            errors.append(error)

    with connect(url) as conn:
        for person in (AKI, BEN):
            add_person(conn, person.name)
            for statement in (OLD_SESSION, OLD_MESSAGES):
                conn.execute(statement.encode(), {"session": person.id("chat")})
        kept = value(conn, MESSAGES, {"session": BEN.id("chat")})
        asked = ask(conn, AKI)
        archiver = threading.Thread(target=archive)
        archiver.start()
        process(conn)
        archiver.join()
        assert not errors
        assert job(conn, asked)["state"] == "verified"
        assert value(conn, MESSAGES, {"session": AKI.id("chat")}) == 0
        assert value(conn, MESSAGES, {"session": BEN.id("chat")}) == kept
        assert value(conn, "select count(*) from chat_messages_archive") >= 300


def test_who_shares_a_visit_and_leaves_later_holds_nobody_up(url: str) -> None:
    """Both are due, in batches of one: the first is proved while the second still stands in their visit."""
    with connect(url) as conn:
        for person in (AKI, BEN):
            add_person(conn, person.name, shared=SHARED)
        first, second = ask(conn, AKI), ask(conn, BEN)
        conn.execute("update lifecycle.erasure_policy set batch_size = 1")
        process(conn)
        assert (job(conn, first)["state"], job(conn, second)["state"]) == ("verified", "verified")
        assert (job(conn, first)["attempts"], job(conn, second)["attempts"]) == (1, 1)
        assert not rows(conn, STILL_ANONYMOUS, {"session": SHARED})


def test_two_who_shared_a_visit_erased_at_once_leave_nothing_of_it(url: str, conn: Connection) -> None:
    """Each worker collects before the other has erased anything: neither may take the other's person for alive."""
    add_person(conn, AKI.name, shared=SHARED)
    add_person(conn, BEN.name, shared=SHARED)
    add_visit(conn, AKI, SHARED, signed_in=False, number=2)
    requests = [ask(conn, AKI), ask(conn, BEN)]
    conn.execute("select enqueue_deletion_jobs()")
    with connect(url) as other:
        first, second = claim(conn, requests[0]), claim(other, requests[1])
        assert None not in (first, second)
        for name in ("collect", "erase"):
            assert (step(conn, first, name), step(other, second, name)) == ("done", "done")
        assert (finish(conn, first), finish(other, second)) == ("done", "done")
    assert states(conn) == dict.fromkeys(requests, "verified")
    assert not rows(conn, STILL_ANONYMOUS, {"session": SHARED})
    assert set(traces(conn, AKI, BEN)) == EXEMPT


def test_two_workers_share_a_queue(url: str, conn: Connection) -> None:
    """Both run the whole procedure; nobody is done twice and nobody is forgotten."""
    people = [Person(f"p{number}") for number in range(12)]
    for number, person in enumerate(people):
        add_account(conn, person)
        add_visit(conn, person, browser_session(f"pair {number // 2}"))
        ask(conn, person)
    errors: list[Exception] = []

    def work() -> None:
        try:
            with connect(url) as worker:
                worker.execute("call process_deletion_jobs(3)")
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    conn.execute(AGAIN)
    process(conn)  # what met the other's refresh, and was told to come again
    assert not errors
    assert set(states(conn).values()) == {"verified"}
    assert value(conn, "select count(*) from lifecycle.erasure_receipts") == len(people)
    assert not rows(conn, "select * from lifecycle.broken_receipts()")
    assert set(traces(conn, *people)) <= EXEMPT


def test_rows_written_meanwhile_are_found_and_erased(conn: Connection) -> None:
    """A browser with a token goes on: after the rows were erased, and after they were searched."""
    add_account(conn, AKI)
    add_visit(conn, AKI, AKI.visit)
    asked = ask(conn, AKI)
    conn.execute("select enqueue_deletion_jobs()")
    for number, moment in enumerate(("search", "conclude"), 2):
        batch = claim(conn)
        assert [step(conn, batch, name) for name in ("collect", "erase", "sign_in_users", "refresh")] == ["done"] * 4
        if moment == "conclude":
            assert finish(conn, batch, ("search",)) == "done"
        add_visit(conn, AKI, AKI.visit, number=number)
        finish(conn, batch, ("search", "conclude") if moment == "search" else ("conclude",))
        assert job(conn, asked)["state"] == "failed"
        assert "public.user_behavior_events" in job(conn, asked)["last_error"]
        assert not rows(conn, "select * from lifecycle.erasure_receipts")
        conn.execute(AGAIN)
    process(conn)
    assert states(conn) == {asked: "verified"}
    assert set(traces(conn, AKI)) <= EXEMPT


def test_somebodys_lock_holds_up_one_person_only(url: str, conn: Connection) -> None:
    for person in (AKI, BEN):
        add_account(conn, person)
        insert(conn, "account_profiles", account_id=person.account, display_name=person.name)
    first, second = ask(conn, AKI), ask(conn, BEN)
    conn.execute("update lifecycle.erasure_policy set lock_timeout_ms = 50")
    with psycopg.connect(url) as editor:
        editor.execute("update account_profiles set locale = 'ja' where account_id = %s", (AKI.account,))
        process(conn)
        assert states(conn) == {first: "failed", second: "verified"}
        assert not rows(conn, "select * from lifecycle.open_problems")  # it passes; nobody need be told
    conn.execute(AGAIN)
    process(conn)
    assert states(conn) == {first: "verified", second: "verified"}


def test_a_step_that_outlasts_its_lease_keeps_its_batch(url: str, conn: Connection) -> None:
    add_person(conn, AKI.name)
    ask(conn, AKI)
    conn.execute("select enqueue_deletion_jobs()")
    slow = claim(conn)
    with connect(url) as other:
        with conn.transaction():
            # The lease is young, so no row is written, and none is locked.
            conn.execute("select lifecycle.renew_erasure_lease(%s)", (slow,))
            other.execute(LEASE_OVER)
            assert claim(other) is None
        assert claim(other) not in (None, slow)


def test_a_worker_whose_lease_ran_out_changes_nothing_more(url: str, conn: Connection) -> None:
    add_person(conn, AKI.name)
    asked = ask(conn, AKI)
    conn.execute("select enqueue_deletion_jobs()")
    slow = claim(conn)
    assert step(conn, slow, "collect") == "done"
    conn.execute(LEASE_OVER)
    with connect(url) as other:
        quick = claim(other)
        assert quick not in (None, slow)
        before, held = picture(conn), rows(conn, "select * from lifecycle.deletion_jobs")
        for name in ("collect", "erase", "sign_in_users", "refresh", "conclude"):
            step(conn, slow, name)
            assert (picture(conn), rows(conn, "select * from lifecycle.deletion_jobs")) == (before, held), name
        assert step(conn, slow, "erase") == "failed"
        assert [step(other, quick, name) for name in ("collect", "erase")] == ["done", "done"]
        assert finish(other, quick) == "done"
    assert states(conn) == {asked: "verified"}
    assert set(traces(conn, AKI)) == EXEMPT
