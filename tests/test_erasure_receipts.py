"""Receipts: a chain that shows when it was changed, without a word of the people; and many requests at once."""

from collections.abc import Iterator

import pytest

from lifecycle.database import Connection, connect, rows, value
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import MakeApplicationDb, Templates
from tests.erasing import ask, process, states
from tests.people import Person, add_catalogue, add_person

PEOPLE = [Person(name) for name in ("aki", "ben", "cho")]
BROKEN = "select fault from lifecycle.broken_receipts() order by id"
# Everything that is told: receipts, ledger, messages, problems, the queue without the account it works on.
TOLD = """
select lower(string_agg(t, ' ')) from (
    select r::text from lifecycle.erasure_receipts r
     union all select a::text from audit_events a
     union all select n::text from lifecycle.notifications n
     union all select p::text from lifecycle.open_problems p
     union all select f::text from lifecycle.erasure_findings f
     union all select s::text from lifecycle.erasure_scans s
     union all select s::text from lifecycle.suppressions s
     union all select (to_jsonb(j) - 'account_key')::text from lifecycle.deletion_jobs j) told(t)
"""
MANY = """
with account as (
    insert into accounts (id) select md5('person ' || n)::uuid from generate_series(1, %(people)s) n returning id
), numbered as (
    select id, row_number() over (order by id) as n from account
), request as (
    insert into data_deletion_requests (account_id) select id from account
), linked as (
    insert into account_linkages (account_id, supabase_user_id) select id, md5(id::text)::uuid from account
), visit as (
    insert into user_behavior_events (account_id, session_id, page_url)
    select id, 'sess_1700000000000_' || lpad((n / 3)::text, 9, '0'), '/' from numbered
), booked as (
    insert into form_submissions (account_id, email) select id, 'p' || n || '@mail.example' from numbered
), profile as (
    insert into account_profiles (account_id) select id from account
), chat as (
    insert into chat_sessions (account_id) select id from account returning id
)
insert into chat_messages (session_id, role, content, sequence) select id, 'user', 'hello', 1 from chat
"""


@pytest.fixture(scope="module")
def erased(server: Server, templates: Templates) -> Iterator[Connection]:
    """Three people with rows everywhere, erased in three batches."""
    with connect(clone_database(server, templates(False, True, True), "receipts")) as conn:
        add_catalogue(conn)
        for person in PEOPLE:
            add_person(conn, person.name)
            ask(conn, person)
        conn.execute("call process_deletion_jobs(1)")
        assert set(states(conn).values()) == {"verified"}
        yield conn
    drop_database(server, "receipts")


@pytest.mark.parametrize(
    ("forgery", "faults"),
    [
        ("select 1", 0),
        ("update lifecycle.erasure_receipts set body = jsonb_set(body, '{rows,0,rows}', '77') where id = %s", 1),
        ("update lifecycle.erasure_receipts set body = body - 'due_at' where id = %s", 1),
        ("delete from lifecycle.erasure_receipts where id = %s", 2),  # the one after it, and a job that has none
        (
            "with changed as (select id, lifecycle.receipt_hash(previous_hash, body - 'in_time') as hash"
            " from lifecycle.erasure_receipts where id = %s)"
            " update lifecycle.erasure_receipts r set body = r.body - 'in_time', hash = c.hash"
            "   from changed c where c.id = r.id",
            1,
        ),
    ],
)
def test_the_chain_breaks_where_it_was_touched(erased: Connection, forgery: str, faults: int) -> None:
    with erased.transaction(force_rollback=True):
        middle = value(erased, "select id from lifecycle.erasure_receipts order by id offset 1 limit 1")
        erased.execute(forgery.encode(), (middle,) if "%s" in forgery else None)
        assert len(rows(erased, BROKEN)) == faults


def test_the_end_of_the_chain_cannot_be_cut_off_unseen(erased: Connection) -> None:
    """A verified job without its receipt is as telling as a link that is missing."""
    with erased.transaction(force_rollback=True):
        erased.execute(
            "delete from lifecycle.erasure_receipts where id = (select max(id) from lifecycle.erasure_receipts)"
        )
        assert rows(erased, BROKEN)


def test_nothing_that_is_told_names_a_person(erased: Connection) -> None:
    told = value(erased, TOLD)
    assert not [word for person in PEOPLE for word in (*person.words, person.name) if word in told]
    assert value(erased, "select count(distinct body ->> 'subject') from lifecycle.erasure_receipts") == len(PEOPLE)


def test_a_receipt_says_what_was_done_and_what_was_left(erased: Connection) -> None:
    for (body,) in rows(erased, "select body from lifecycle.erasure_receipts"):
        assert body["in_time"]
        assert body["search"]["left"] == 0
        assert body["search"]["relations"] == value(
            erased, "select count(distinct relation)::int from lifecycle.searched_columns()"
        )
        assert {"public.chat_messages", "public.session_replay_events"} <= {row["table"] for row in body["rows"]}
        assert all(exemption["reason"] for exemption in body["exemptions"])


@pytest.mark.every_version
def test_a_thousand_requests_at_once(make_application_db: MakeApplicationDb) -> None:
    """One batch, whose statements do not multiply with the people in it."""
    people = 1000
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        conn.execute(MANY, {"people": people})
        process(conn)
        assert rows(conn, "select state, count(*) from lifecycle.deletion_jobs group by 1") == [("verified", people)]
        assert value(conn, "select count(distinct batch_id) from lifecycle.deletion_jobs") == 1
        assert value(conn, "select count(*) from lifecycle.erasure_receipts") == people
        assert not rows(conn, BROKEN)
        assert (
            value(conn, "select count(*) from user_behavior_events where session_id = 'erased' and account_id is null")
            == people
        )
        for table in ("chat_messages", "account_profiles", "account_linkages"):
            assert value(conn, f"select count(*) from {table}") == 0
