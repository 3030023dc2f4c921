"""What one person brings along stops nobody else in the batch: whoever cannot be erased fails alone, in one run."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from lifecycle.database import Connection, connect, rows, value
from tests.conftest import MakeApplicationDb
from tests.erasing import ask, job, process
from tests.people import BASE_36, Person, add_account, add_catalogue, add_visit, insert

pytestmark = pytest.mark.one_server

MALLORY, BEN, VICTIM = Person("mallory"), Person("ben"), Person("victim")
LONG = "".join(random.Random(1).choices(BASE_36, k=2680))  # pglz would pack a repeated one
REFUSE = """
create function refuse() returns trigger language plpgsql as $$ begin
    if {condition} then raise exception 'not this one: %', old; end if;
    return new;
end $$;
create trigger refuse before update on {table} for each row execute function refuse();
"""
DEEP = 9000


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """A migrated database with mallory, ben and the victim, each with a visit."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        add_catalogue(session)
        for person in (MALLORY, BEN, VICTIM):
            add_account(session, person)
            add_visit(session, person, person.visit)
        yield session


def leave_together(conn: Connection) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mallory and the victim ask and are in one batch; their jobs after one run."""
    requests = [ask(conn, person) for person in (MALLORY, VICTIM)]
    process(conn)
    first, second = (job(conn, asked) for asked in requests)
    return first, second


def receipt(conn: Connection) -> dict[str, Any]:
    found: dict[str, Any] = value(conn, "select body from lifecycle.erasure_receipts order by id desc limit 1")
    return found


@pytest.mark.parametrize("followed", [False, True], ids=["of no form", "vouched for"])
def test_a_key_longer_than_an_index_takes(conn: Connection, followed: bool) -> None:
    if followed:
        conn.execute("update lifecycle.erasure_key_kinds set pattern = null")
    insert(conn, "user_behavior_events", account_id=MALLORY.account, session_id=LONG, page_url="/")
    insert(conn, "user_behavior_events", session_id=LONG, page_url="/anonymous")
    assert [found["state"] for found in leave_together(conn)] == ["verified", "verified"]
    left = rows(conn, "select session_id from user_behavior_events where page_url = '/anonymous'")
    assert left == [("erased" if followed else LONG,)]


def test_whose_keys_cannot_be_collected_fails_alone(conn: Connection) -> None:
    conn.execute(
        "create or replace function lifecycle.addresses_of_others(keys text[]) returns setof text language plpgsql as"
        f" $$ begin if '{MALLORY.email}' = any (keys) then raise exception 'no %', keys[1]; end if; end $$"
    )
    guilty, victim = leave_together(conn)
    assert (victim["state"], victim["attempts"]) == ("verified", 1)
    assert guilty["state"] == "failed"
    assert guilty["last_error"] == "no ..."
    assert value(conn, "select count(*) from user_behavior_events where account_id = %s", (MALLORY.account,)) == 1


def test_whose_request_cannot_be_concluded_fails_alone(conn: Connection) -> None:
    conn.execute(
        REFUSE.format(
            table="data_deletion_requests",
            condition=f"new.status = 'completed' and new.account_id = '{MALLORY.account}'",
        ).encode()
    )
    guilty, victim = leave_together(conn)
    assert (victim["state"], guilty["state"]) == ("verified", "failed")
    assert value(conn, "select count(*) from lifecycle.erasure_receipts") == 1
    assert not rows(conn, "select * from lifecycle.broken_receipts()")


def test_whose_sign_in_cannot_be_deleted_keeps_nobody_elses(conn: Connection) -> None:
    conn.execute("create table tickets (owner uuid references auth.users on delete restrict)")
    conn.execute("insert into tickets values (%s)", (MALLORY.user,))
    guilty, victim = leave_together(conn)
    assert (victim["sign_in_user"], guilty["sign_in_user"]) == (
        "deleted",
        "left: the database refused (SQLSTATE 23503)",
    )
    assert rows(conn, "select id from auth.users where id = any (%s)", ([MALLORY.user, VICTIM.user],)) == [
        (MALLORY.user,)
    ]


def test_a_row_that_does_not_give_up_a_word_is_told_and_fails_nobody(conn: Connection) -> None:
    """Ben's rows lose the word all the same."""
    for person in (BEN, MALLORY, BEN):
        insert(conn, "search_queries", account_id=person.account, search_query=f"who is {VICTIM.email}?")
    conn.execute(REFUSE.format(table="search_queries", condition=f"new.account_id = '{MALLORY.account}'").encode())
    asked = ask(conn, VICTIM)
    process(conn)
    found = job(conn, asked)
    assert (found["state"], found["last_error"]) == ("verified", None)
    texts = "select search_query from search_queries where search_query ~ 'who is' order by 1"
    assert [text for (text,) in rows(conn, texts)] == ["who is erased?"] * 2 + [f"who is {VICTIM.email}?"]
    found = receipt(conn)
    assert {"column": "public.search_queries.search_query", "rows": 1} in found["left_with_others"]
    # What is made anew from it shows it, too.
    others = {row["column"] for row in found["left_with_others"]} - {"public.search_queries.search_query"}
    assert others == {"lifecycle.kept_search_analytics.search_query", "public.top_search_keywords.search_query"}
    assert found["result"] == "verified, with exceptions"
    counted = {row["table"]: row["rows"] for row in found["rows"] if row["action"] == "redact"}
    assert counted == {"public.search_queries": 2}


@pytest.mark.parametrize("size", ["deep", "large"])
def test_a_document_however_deep_or_large_loses_the_word(conn: Connection, size: str) -> None:
    """In a row that is scrubbed and in somebody else's."""
    if size == "deep":
        document = "[" * DEEP + f'"to {VICTIM.email} \\" [\\u0001", {{"{VICTIM.email}": 1}}' + "]" * DEEP
        expected = "[" * DEEP + '"to erased \\" [\\u0001", {"erased": 1}' + "]" * DEEP
    else:
        texts = ", ".join(f'"text {number}"' for number in range(100_000)) + f', "{"x" * 3_000_000}"'
        document, expected = f'[{texts}, "{VICTIM.email}"]', f'[{texts}, "erased"]'
    context = "update search_queries set search_context = %s::text::jsonb where account_id = %s"
    conn.execute(context.encode(), (document, MALLORY.account))
    metrics = "update business_metrics_events set revenue_metrics = %s::text::jsonb where account_id = %s"
    conn.execute(metrics.encode(), (document, VICTIM.account))
    asked = ask(conn, VICTIM)
    process(conn)
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    same = "select search_context = %s::text::jsonb from search_queries where account_id = %s"
    assert value(conn, same, (expected, MALLORY.account)) is True
    scrubbed = "select revenue_metrics = %s::text::jsonb from business_metrics_events where account_id is null"
    assert value(conn, scrubbed, (expected,)) is True
