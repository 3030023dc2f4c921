"""The queue of deletion requests: holds, cancellations, failures, and what the request's own status says."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.proof import receipts
from lifecycle.erasures.queue import queue_status
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.erasing import ask, claim, finish, job, picture, process, states, step, traces
from tests.people import VENDOR, Person, add_account, add_catalogue, add_conversation, add_visit, insert

pytestmark = pytest.mark.one_server

AKI, BEN = Person("aki"), Person("ben")
ENQUEUE = "select request_id::uuid, state, reason from enqueue_deletion_jobs()"
STATUS = "select status::text from data_deletion_requests where id = %s"
REFUSED = psycopg.errors.ObjectNotInPrerequisiteState


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """An empty migrated database with the catalogue, aki and ben."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        add_catalogue(session)
        for person in (AKI, BEN):
            add_account(session, person)
            add_visit(session, person, person.visit)
        yield session


def status(conn: Connection, request: UUID) -> str:
    """The request's own status."""
    found: str = value(conn, STATUS, (request,))
    return found


def now_please(conn: Connection) -> None:
    """The pause after a failure is over."""
    conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now()")


def set_policy(conn: Connection, **changes: Any) -> None:
    """Change columns of lifecycle.erasure_policy."""
    for name, changed in changes.items():
        query = sql.SQL("update lifecycle.erasure_policy set {} = %s").format(sql.Identifier(name))
        conn.execute(query, (changed,))


def test_a_request_becomes_one_job_and_its_status_follows(conn: Connection) -> None:
    asked = ask(conn, AKI)
    assert rows(conn, ENQUEUE) == [(asked, "queued", None)]
    assert rows(conn, ENQUEUE) == []
    assert status(conn, asked) == "pending"
    batch = claim(conn)
    assert status(conn, asked) == "processing"
    assert claim(conn) is None
    assert [step(conn, batch, name) for name in ("collect", "erase")] == ["done", "done"]
    assert (job(conn, asked)["state"], status(conn, asked)) == ("erased", "processing")
    assert finish(conn, batch) == "done"
    assert (job(conn, asked)["state"], status(conn, asked)) == ("verified", "completed")
    assert value(conn, "select completed_at >= processed_at from data_deletion_requests")
    assert rows(conn, ENQUEUE) == []
    assert not rows(conn, "select * from lifecycle.erasure_keys")


def test_a_hold_keeps_everything_until_it_is_released(conn: Connection) -> None:
    asked, before = ask(conn, AKI), picture(conn)
    conn.execute("select hold_deletion_request(%s::text, 'court order 7')", (asked,))
    process(conn)
    assert {k: v for k, v in picture(conn).items() if k[0] != "data_deletion_requests" and k in before} == {
        k: v for k, v in before.items() if k[0] != "data_deletion_requests"
    }
    assert (job(conn, asked)["state"], job(conn, asked)["hold_reason"]) == ("held", "court order 7")
    conn.execute("select release_deletion_request(%s::text)", (asked,))
    process(conn)
    assert states(conn) == {asked: "verified"}


def test_a_hold_expires(conn: Connection) -> None:
    asked = ask(conn, AKI)
    conn.execute("select hold_deletion_request(%s::text, 'audit', now() + interval '1 hour')", (asked,))
    assert rows(conn, ENQUEUE) == []
    conn.execute("update lifecycle.deletion_jobs set hold_until = now()")
    assert rows(conn, ENQUEUE) == [(asked, "queued", None)]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("select hold_deletion_request(%(id)s::text, '')", psycopg.errors.InvalidParameterValue),
        ("select hold_deletion_request(%(id)s::text, 'x', now())", psycopg.errors.InvalidParameterValue),
        ("select cancel_deletion_request(%(id)s::text, ' ')", psycopg.errors.InvalidParameterValue),
        ("select release_deletion_request(%(id)s::text)", REFUSED),
        ("select hold_deletion_request(gen_random_uuid()::text, 'x')", psycopg.errors.NoDataFound),
    ],
)
def test_what_makes_no_sense_is_refused(conn: Connection, call: str, error: type[Exception]) -> None:
    asked = ask(conn, AKI)
    with pytest.raises(error):
        conn.execute(call.encode(), {"id": asked})


def test_cancelled_before_it_starts_and_not_after(conn: Connection) -> None:
    first, second = ask(conn, AKI), ask(conn, BEN)
    conn.execute("select cancel_deletion_request(%s::text, 'changed their mind')", (first,))
    process(conn)
    assert states(conn) == {first: "cancelled", second: "verified"}
    assert status(conn, first) == "failed"
    assert "changed their mind" in value(conn, "select notes from data_deletion_requests where id = %s", (first,))
    assert value(conn, "select count(*) from user_behavior_events where account_id = %s", (AKI.account,)) == 1
    for call in ("cancel_deletion_request(%s::text, 'late')", "hold_deletion_request(%s::text, 'late')"):
        with pytest.raises(REFUSED):
            conn.execute(f"select {call}".encode(), (second,))
    # Asked again, in the same row, it is done after all.
    conn.execute("update data_deletion_requests set status = 'pending' where id = %s", (first,))
    process(conn)
    assert (states(conn)[first], status(conn, first)) == ("verified", "completed")


def test_the_grace_period_is_waited_for(conn: Connection) -> None:
    set_policy(conn, grace="2 days")
    asked = ask(conn, AKI)
    process(conn)
    assert states(conn) == {asked: "queued"}
    conn.execute("update lifecycle.deletion_jobs set not_before = now()")
    process(conn)
    assert states(conn) == {asked: "verified"}


def test_the_only_admin_of_a_vendor_waits_for_another(conn: Connection) -> None:
    conn.execute("update vendor_members set account_id = %s where vendor_id = %s", (AKI.account, VENDOR))
    asked = ask(conn, AKI)
    process(conn)
    found = job(conn, asked)
    assert (found["state"], found["held_by_rule"], status(conn, asked)) == ("held", True, "pending")
    assert "only admin" in found["hold_reason"]
    with pytest.raises(REFUSED):
        conn.execute("select release_deletion_request(%s::text)", (asked,))
    insert(conn, "vendor_members", vendor_id=VENDOR, account_id=BEN.account, role="admin")
    process(conn)
    assert states(conn) == {asked: "verified"}
    # The one who is left is the only one now.
    last = ask(conn, BEN)
    process(conn)
    assert states(conn)[last] == "held"


def test_two_admins_who_leave_together_do_not_leave_a_vendor_alone(conn: Connection) -> None:
    conn.execute("update vendor_members set account_id = %s where vendor_id = %s", (AKI.account, VENDOR))
    insert(conn, "vendor_members", vendor_id=VENDOR, account_id=BEN.account, role="admin")
    requests = [ask(conn, person) for person in (AKI, BEN)]
    process(conn)
    assert {states(conn)[asked] for asked in requests} != {"verified"}
    assert value(conn, "select count(*) from vendor_members where account_id is not null and role = 'admin'") > 0


def test_one_that_cannot_be_erased_keeps_nobody_waiting(conn: Connection) -> None:
    """A table that nobody told us of refers to the conversation; whoever is in the same chunk goes."""
    add_conversation(conn, AKI)
    conn.execute("create table ratings (id int, chat uuid references chat_sessions on delete restrict)")
    conn.execute("insert into ratings values (5, %s)", (AKI.id("chat"),))
    first, second = ask(conn, AKI), ask(conn, BEN)
    before = {k: v for k, v in picture(conn).items() if str(AKI.account) in v and k[0] != "data_deletion_requests"}
    for attempt in (1, 2, 3):
        process(conn)
        assert states(conn) == {first: "failed", second: "verified"}
        found = job(conn, first)
        assert found["attempts"] == attempt
        assert "ratings" in found["last_error"]
        pause = value(conn, "select next_attempt_at - now() from lifecycle.deletion_jobs where state = 'failed'")
        assert 30 * 2 ** (attempt - 1) < pause.total_seconds() <= 60 * 2 ** (attempt - 1)
        now_please(conn)
    # Nothing of the one that failed is half erased.
    assert {key: text for key, text in picture(conn).items() if key in before} == before
    assert status(conn, first) == "processing"
    assert value(conn, "select count(*) from lifecycle.open_problems where cause = %s", (f"request {first}",)) == 1
    set_policy(conn, tries_until_failed=4)
    process(conn)
    assert status(conn, first) == "failed"
    conn.execute("drop table ratings")
    conn.execute("update data_deletion_requests set status = 'pending' where id = %s", (first,))
    process(conn)
    assert (states(conn)[first], status(conn, first)) == ("verified", "completed")
    assert value(conn, "select count(*) from lifecycle.open_problems") == 0


def test_a_person_without_rows_two_requests_and_an_account_that_is_gone(conn: Connection) -> None:
    nobody, gone = Person("nobody"), Person("gone")
    for person in (nobody, gone):
        insert(conn, "accounts", id=person.account)
    requests = [ask(conn, nobody), ask(conn, AKI)]
    again = ask(conn, AKI, 2)
    vanished = ask(conn, gone)
    conn.execute("select enqueue_deletion_jobs()")
    conn.execute("delete from accounts where id = %s", (gone.account,))
    process(conn)
    assert states(conn) == dict.fromkeys([*requests, vanished], "verified")
    assert {status(conn, asked) for asked in (*requests, again)} == {"completed"}
    assert value(conn, "select count(*) from lifecycle.erasure_receipts") == 3
    assert [found.request_id for found in receipts(conn, str(again))] == [str(requests[1])]
    assert set(traces(conn, AKI)) <= {"accounts", "data_deletion_requests", "lifecycle.deletion_jobs"}


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
def test_a_request_without_end_does_not_hide_the_others(conn: Connection, moment: str) -> None:
    conn.execute("update data_deletion_requests set requested_at = %s where id = %s", (moment, ask(conn, AKI)))
    ask(conn, BEN)
    conn.execute(ENQUEUE.encode())
    found = queue_status(conn, APPLICATION)
    assert [request.state for request in found.listed] == ["queued", "queued"]
    assert found.next_deadline in {request.due_at for request in found.listed}
    month = "now() at time zone 'Asia/Tokyo' + interval '1 month'"
    late = f"select count(*) from lifecycle.deletion_jobs where due_at at time zone 'Asia/Tokyo' > {month}"
    assert value(conn, late) == 0


def test_the_plan_tells_what_would_be_done_and_does_nothing(conn: Connection) -> None:
    add_conversation(conn, AKI)
    asked, before = ask(conn, AKI), picture(conn)
    planned = {
        (table, action): found
        for _, table, action, _, found, *_ in rows(conn, "select * from lifecycle.plan_erasure(%s::text)", (asked,))
        if found
    }
    assert picture(conn) == before
    assert not states(conn)
    process(conn)
    did = dict[tuple[str, str], int]()
    for table, action, count in rows(conn, "select table_name, action, rows::int from lifecycle.erasure_counts"):
        did[table, action] = count
    # How often triggers noted the account depends on the deletes.
    for counts in (did, planned):
        counts.pop(("lifecycle.changed_segment_accounts", "delete"), None)
    assert did == planned
    with pytest.raises(psycopg.errors.NoDataFound):
        conn.execute("select lifecycle.plan_erasure(%s::text)", (uuid4(),))


def test_who_asks_fifty_thousand_times_is_one_who_asks(conn: Connection) -> None:
    """And says that it was yesterday; nobody waits behind it, and everything else is told with the one erasure."""
    flood = (
        "insert into data_deletion_requests (account_id, requested_at)"
        " select %s, now() - interval '23 hours' from generate_series(1, 50000)"
    )
    first = ask(conn, BEN)
    conn.execute(ENQUEUE)
    conn.execute(flood, (AKI.account,))
    started = time.monotonic()
    assert [(state, reason) for _, state, reason in rows(conn, ENQUEUE)] == [("queued", None)]
    assert time.monotonic() - started < 5
    # The order is that in which they were seen, and so is the deadline.
    assert rows(conn, "select account_key from lifecycle.deletion_jobs order by due_at, id") == [
        (str(BEN.account),),
        (str(AKI.account),),
    ]
    assert value(conn, "select bool_and(due_at > now() + interval '27 days') from lifecycle.deletion_jobs")
    assert queue_status(conn, APPLICATION).without_job == 0
    assert rows(conn, ENQUEUE) == []
    process(conn)
    assert set(states(conn).values()) == {"verified"}
    assert status(conn, first) == "completed"
    assert rows(conn, "select status::text, count(*) from data_deletion_requests group by 1") == [("completed", 50001)]
    assert value(conn, "select count(*) from lifecycle.erasure_receipts") == 2
    assert rows(conn, ENQUEUE) == []


def test_who_is_kept_and_asks_again_is_kept(conn: Connection) -> None:
    """A hold and a cancellation are of the account, under whichever of its requests they are asked."""
    first, second = ask(conn, AKI), ask(conn, AKI, 2)
    conn.execute("select hold_deletion_request(%s::text, 'a lawsuit')", (second,))
    third = ask(conn, AKI, 3)
    assert rows(conn, ENQUEUE) == []
    conn.execute("select cancel_deletion_request(%s::text, 'settled')", (third,))
    assert [status(conn, asked) for asked in (first, second, third)] == ["failed"] * 3
    process(conn)
    assert value(conn, "select count(*) from user_behavior_events where account_id = %s", (AKI.account,)) == 1
    # Asked anew, in two of them at once, it is one erasure.
    conn.execute("update data_deletion_requests set status = 'pending' where id = any (%s)", ([first, third],))
    process(conn)
    assert list(states(conn).values()) == ["verified"]
    assert [status(conn, asked) for asked in (first, third)] == ["completed"] * 2


def test_data_that_came_back_and_a_new_request_are_one_erasure(conn: Connection) -> None:
    ask(conn, AKI)
    process(conn)
    add_visit(conn, AKI, AKI.visit, number=2)
    ask(conn, AKI, 2)
    conn.execute("select enqueue_deletion_jobs()")
    assert rows(conn, "select distinct table_name from find_returned_personal_data() where table_name ~ 'behavior'")
    assert sorted(states(conn).values()) == ["queued", "verified"]
    # Nobody would come for them.
    assert not rows(conn, "select * from lifecycle.erasure_keys")
    process(conn)
    assert set(states(conn).values()) == {"verified"}
