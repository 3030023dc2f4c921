"""What the application's own triggers and types refuse keeps nobody waiting but whom it concerns, and is named."""

import re
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import make_url

from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.run import erase_batch
from sandbox.server import SUPERUSER
from tests.conftest import MakeApplicationDb
from tests.erasing import ask, claim, job, process, step
from tests.people import Person, add_account, add_catalogue, add_visit, insert

pytestmark = pytest.mark.one_server

MALLORY, BEN, VICTIM = Person("mallory"), Person("ben"), Person("victim")
REFUSE = """
create function refuse() returns trigger language plpgsql as $$ begin
    if new.account_id = '{account}' and new.status = any ('{words}') then
        raise exception 'not %', new.account_id;
    end if;
    return new;
end $$;
create trigger refuse before insert or update on data_deletion_requests for each row execute function refuse();
"""
STATUS = "select status::text from data_deletion_requests where id = %s"
PROBLEMS = "select cause, error from lifecycle.open_problems where cause ~ '^status' order by 1"
RETRY = "update lifecycle.deletion_jobs set next_attempt_at = now() where state = 'failed'"
# Reading its column raises what somebody wrote; the other table's long text is about to be damaged.
UNREADABLE = """
create type pair as (a text, b text);
create function text_of(pair) returns text language plpgsql as $$ begin raise exception 'broken: %', $1.a; end $$;
create cast (pair as text) with function text_of(pair);
create table pairs (id int, what pair, note text);
insert into pairs values (1, row('secret', 'b'), 'x');
create table damaged (title text, note text);
alter table damaged alter note set storage external;
insert into damaged values ('x', repeat('x', 100000));
"""
# As after a page was lost: the text is gone, the row still refers to it.
DAMAGE = """
set allow_system_table_mods = on;
update pg_class set relkind = 'r' where oid = (select reltoastrelid from pg_class where oid = 'damaged'::regclass);
do $$ begin
    execute 'truncate ' || (select reltoastrelid::regclass from pg_class where oid = 'damaged'::regclass);
end $$;
update pg_class set relkind = 't' where oid = (select reltoastrelid from pg_class where oid = 'damaged'::regclass);
"""
DAMAGED = (
    r"public\.damaged \(column note\) could not be searched "
    r"\(missing chunk number 0 for toast value \d+ in pg_toast_\d+\); "
    "it is damaged: restore its rows from a backup, or delete those that cannot be read; nobody is told that they are "
    "erased before it can be read"
)
RAISING = (
    r"public\.pairs \(column what\) could not be searched \(PL/pgSQL function (public\.)?text_of raised an error "
    r"\(SQLSTATE P0001\)\); mend what raises this when a row is read; nobody is told that they are erased before "
    "it can be read"
)
CURE = "delete from damaged; drop cast (pair as text)"


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    """A migrated database with mallory, ben and the victim, each with a visit."""
    made = make_application_db(rows=False, migrated=True)
    with connect(made) as session:
        add_catalogue(session)
        for person in (MALLORY, BEN, VICTIM):
            add_account(session, person)
            add_visit(session, person, person.visit)
    return made


def refuse(conn: Connection, *words: str) -> None:
    """The application lets mallory's requests have none of these words."""
    conn.execute(REFUSE.format(account=MALLORY.account, words="{" + ",".join(words) + "}").encode())


def make_unreadable(url: str, conn: Connection) -> None:
    """Two tables, each for a reason of its own."""
    conn.execute(UNREADABLE.encode())
    superuser = make_url(url).set(drivername="postgresql", username=SUPERUSER).render_as_string(hide_password=False)
    with psycopg.connect(superuser, autocommit=True) as session:
        session.execute(DAMAGE.encode())


def ask_together(conn: Connection) -> tuple[UUID, UUID]:
    """Mallory and the victim, who are in one batch."""
    return ask(conn, MALLORY), ask(conn, VICTIM)


def test_a_request_that_cannot_say_that_it_is_claimed_is_carried_out_all_the_same(conn: Connection) -> None:
    guilty, victim = ask_together(conn)
    refuse(conn, "processing")
    conn.execute("select enqueue_deletion_jobs()")
    batch = claim(conn)
    assert [value(conn, STATUS, (asked,)) for asked in (guilty, victim)] == ["pending", "processing"]
    ((cause, error),) = rows(conn, PROBLEMS)
    assert cause == f"status of request {guilty}"
    assert error == (
        "it does not take the status 'processing': PL/pgSQL function public.refuse raised an error (SQLSTATE P0001); "
        "its erasure goes on"
    )
    conn.execute("update lifecycle.deletion_jobs set lease_until = now() where batch_id = %s", (batch,))
    process(conn)
    assert [job(conn, asked)["state"] for asked in (guilty, victim)] == ["verified", "verified"]
    assert [value(conn, STATUS, (asked,)) for asked in (guilty, victim)] == ["completed", "completed"]
    assert rows(conn, PROBLEMS) == []


@pytest.mark.every_version
def test_a_request_that_takes_no_word_at_all_fails_alone(conn: Connection) -> None:
    """Not at its claim, not when it is concluded, not when it is told that it failed."""
    guilty, victim = ask_together(conn)
    refuse(conn, "processing", "completed", "failed")
    conn.execute("update lifecycle.erasure_policy set tries_until_failed = 2")
    for attempt in (1, 2, 3):
        process(conn)
        assert (job(conn, victim)["state"], job(conn, victim)["attempts"]) == ("verified", 1)
        found = job(conn, guilty)
        assert (found["state"], found["attempts"]) == ("failed", attempt)
        assert found["last_error"] == "PL/pgSQL function public.refuse raised an error (SQLSTATE P0001)"
        conn.execute(RETRY)
    assert value(conn, "select count(*) from lifecycle.erasure_receipts") == 1
    conn.execute("drop trigger refuse on data_deletion_requests")
    process(conn)
    assert (job(conn, guilty)["state"], value(conn, STATUS, (guilty,))) == ("verified", "completed")
    assert rows(conn, "select * from lifecycle.open_problems") == []


def test_a_request_that_somebody_has_locked_keeps_nobody_waiting(url: str, conn: Connection) -> None:
    guilty, victim = ask_together(conn)
    conn.execute("select enqueue_deletion_jobs()")
    conn.execute("update lifecycle.erasure_policy set lock_timeout_ms = 100")
    with psycopg.connect(url) as editor:
        editor.execute("select from data_deletion_requests where id = %s for update", (guilty,))
        process(conn)
        assert (job(conn, guilty)["state"], job(conn, victim)["state"]) == ("failed", "verified")
    conn.execute(RETRY)
    process(conn)
    assert (job(conn, guilty)["state"], value(conn, STATUS, (guilty,))) == ("verified", "completed")


def test_who_came_back_and_may_not_ask_keeps_nobody_else_from_asking(conn: Connection) -> None:
    """A backup brought both back, with the hashes of those who were erased since."""
    for person in (MALLORY, VICTIM):
        hashed = "insert into lifecycle.suppressions (kind, hash, request_id, erased_at) values"
        conn.execute(
            f"{hashed} ('person', lifecycle.keyed_hash(%s::text), 'before', now())".encode(), (person.account,)
        )
    refuse(conn, "pending")
    conn.execute("select find_returned_personal_data()")
    assert rows(conn, "select account_id from data_deletion_requests") == [(VICTIM.account,)]
    (error,) = [error for (error,) in rows(conn, "select error from lifecycle.open_problems where cause ~ 'backup'")]
    assert error == "1 could not be made: PL/pgSQL function public.refuse raised an error (SQLSTATE P0001)"


@pytest.mark.parametrize("by", ["the database", "python"])
def test_a_table_that_cannot_be_read_is_named_and_all_else_is_done(url: str, conn: Connection, by: str) -> None:
    """Nobody is told that they are erased; once it can be read, they are."""

    def run() -> None:
        if by == "the database":
            process(conn)
        else:
            conn.execute("select enqueue_deletion_jobs()")
            erase_batch(conn)

    make_unreadable(url, conn)
    insert(conn, "search_queries", account_id=BEN.account, search_query=f"who is {VICTIM.email}?")
    requests = ask_together(conn)
    run()
    for asked in requests:
        found = job(conn, asked)
        assert (found["state"], found["attempts"]) == ("failed", 1)
        assert re.fullmatch(rf"{DAMAGED}\. {RAISING}", found["last_error"])
    assert value(conn, "select count(*) from lifecycle.open_problems where error ~ 'public.damaged'") == 2
    assert not rows(conn, "select * from lifecycle.erasure_receipts")
    # All else is done.
    assert rows(conn, "select search_query from search_queries where account_id = %s", (BEN.account,)) == [
        (f"tea near {BEN.name}",),
        ("who is erased?",),
    ]
    assert not rows(conn, "select 1 from user_behavior_events where account_id = %s", (VICTIM.account,))
    # Tried again it costs no second search; whoever comes new is erased, and waits with them.
    searched = value(conn, "select max(scanned_at) from lifecycle.erasure_scans")
    conn.execute(RETRY)
    run()
    assert [job(conn, asked)["attempts"] for asked in requests] == [2, 2]
    assert value(conn, "select count(*) from lifecycle.erasure_scans where scanned_at > %s", (searched,)) == 0
    new = ask(conn, BEN)
    conn.execute(RETRY)
    run()
    assert job(conn, new)["state"] == "failed"
    assert not rows(conn, "select 1 from user_behavior_events where account_id = %s", (BEN.account,))
    assert value(conn, "select count(*) from lifecycle.erasure_scans where scanned_at > %s", (searched,)) > 0
    conn.execute(CURE.encode())
    conn.execute(RETRY)
    run()
    assert [job(conn, asked)["state"] for asked in (*requests, new)] == ["verified"] * 3
    assert not rows(conn, "select * from lifecycle.erasure_unread")
    assert not rows(conn, "select * from lifecycle.open_problems")


def test_a_table_that_cannot_be_read_hides_no_residue(url: str, conn: Connection) -> None:
    """Both are told, and a map that was corrected meanwhile is followed at the next try."""
    make_unreadable(url, conn)
    insert(conn, "vendors", name=f"House of {VICTIM.email}")
    asked = ask(conn, VICTIM)
    process(conn)
    error = job(conn, asked)["last_error"]
    assert error.startswith("something of the person is left in public.vendors.name; correct the map")
    assert "public.damaged (column note) could not be searched" in error
    searched = value(conn, "select max(scanned_at) from lifecycle.erasure_scans")
    conn.execute("update vendors set name = 'House'")
    conn.execute(RETRY)
    process(conn)
    assert value(conn, "select count(*) from lifecycle.erasure_scans where scanned_at > %s", (searched,)) > 0
    assert job(conn, asked)["last_error"].startswith("public.damaged (column note) could not be searched")


def test_what_cannot_be_read_for_a_moment_is_tried_again(url: str, conn: Connection) -> None:
    """A lock that stayed taken is no damage, and nobody need be told of it at once."""
    asked = ask(conn, VICTIM)
    conn.execute("update lifecycle.erasure_policy set lock_timeout_ms = 100")
    conn.execute("select enqueue_deletion_jobs()")
    batch = claim(conn)
    assert [step(conn, batch, name) for name in ("collect", "erase", "sign_in_users", "refresh")] == ["done"] * 4
    with psycopg.connect(url) as other:
        other.execute("lock table vendors in access exclusive mode")
        assert step(conn, batch, "search", "public.vendors") == "failed"
    assert not rows(conn, "select * from lifecycle.erasure_unread")
    assert not rows(conn, "select * from lifecycle.open_problems")
    assert job(conn, asked)["state"] == "failed"
