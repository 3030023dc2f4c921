"""What comes back after an erasure is found, erased and receipted again; who goes on living is left alone."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from lifecycle.database import Connection, connect, rows, value
from tests.conftest import MakeApplicationDb
from tests.erasing import EXEMPT, ask, job, picture, process, states, traces
from tests.people import Person, add_account, add_booking, add_catalogue, add_person, add_visit, browser_session, insert

pytestmark = pytest.mark.one_server

AKI, BEN = Person("aki"), Person("ben")
# In this order each row finds those that it refers to; first who signs in, whose confirmed address finds bookings.
SIGN_IN = "auth.users"
RESTORED = """
select table_name from lifecycle.erasure_steps
 where table_name like 'public.%' and lifecycle.is_there(table_name)
 group by 1 order by max(step) desc
"""
RESTORE = """
select format('insert into %%1$s select * from %%4$I on conflict (%%2$s) do update set %%3$s', c.oid::regclass,
              string_agg(quote_ident(a.attname), ', ') filter (where a.attnum = any (i.indkey)),
              string_agg(format('%%1$I = excluded.%%1$I', a.attname), ', '), %(saved)s::text)
  from pg_class c
  join pg_index i on i.indrelid = c.oid and i.indisprimary
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.oid = to_regclass(%(table)s) group by c.oid
"""
RETURNED = "select distinct request_id::uuid, table_name from find_returned_personal_data()"


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """An empty migrated database with the catalogue and ben, who stays."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        add_catalogue(session)
        add_account(session, BEN)
        yield session


def erase(conn: Connection, person: Person) -> UUID:
    asked = ask(conn, person)
    process(conn)
    assert job(conn, asked)["state"] == "verified"
    return asked


def returned(conn: Connection) -> set[tuple[UUID, str]]:
    """What was found to have come back."""
    return {(request, table) for request, table in rows(conn, RETURNED)}


def receipts(conn: Connection, request: UUID) -> list[tuple[int, int]]:
    """Recurrence and rows of each receipt of a request, in order."""
    return [
        (recurrence, count)
        for recurrence, count in rows(
            conn,
            "select (body ->> 'recurrence')::int, (select sum((r ->> 'rows')::int)::int"
            " from jsonb_array_elements(body -> 'rows') r)"
            " from lifecycle.erasure_receipts where request_id = %s order by id",
            (str(request),),
        )
    ]


def test_late_beacons_are_erased_and_receipted_again(conn: Connection) -> None:
    """One with the account's id, in a new visit; one that only names the visit which was the person's alone."""
    add_person(conn, AKI.name)
    asked = erase(conn, AKI)
    assert returned(conn) == set()
    after = browser_session("after")
    add_visit(conn, AKI, after, number=5)
    add_visit(conn, AKI, AKI.visit, signed_in=False, number=6)
    events = value(conn, "select count(*) from user_behavior_events")
    assert returned(conn) == {
        (asked, f"public.{table}")
        for table in ("user_behavior_events", "business_metrics_events", "search_queries", "session_replay_events")
    }
    process(conn)
    assert set(traces(conn, AKI)) == EXEMPT
    assert value(conn, "select count(*) from user_behavior_events") == events
    assert value(conn, "select count(*) from session_replay_events where session_id = %s", (after,)) == 0
    assert (job(conn, asked)["state"], job(conn, asked)["recurrences"]) == ("verified", 1)
    first, second = receipts(conn, asked)
    assert (first[0], second) == (0, (1, 8))
    assert not rows(conn, "select * from lifecycle.broken_receipts()")
    assert returned(conn) == set()
    assert not rows(conn, "select * from lifecycle.erasure_keys")


def test_a_late_booking_and_a_late_line_in_the_ledger_are_found(conn: Connection) -> None:
    """Written with a token that had not expired; neither is a row of a step that goes by the account's id."""
    add_account(conn, AKI)
    asked = erase(conn, AKI)
    add_booking(conn, AKI, "late", AKI.email, signed_in=True)
    insert(conn, "audit_events", entity_type="x", entity_id="x", event_type="x", performed_by=AKI.account)
    assert {table for _, table in returned(conn)} >= {"public.form_submissions", "public.audit_events"}
    process(conn)
    assert states(conn) == {asked: "verified"}
    assert set(traces(conn, AKI)) <= EXEMPT


def test_a_restore_brings_nobody_back(conn: Connection) -> None:
    """Every row that was erased is put back as it was, from a backup that is older than the request."""
    add_person(conn, AKI.name)
    saved = {table: f"saved_{table}" for table in (SIGN_IN, *(table for (table,) in rows(conn, RESTORED)))}
    for table, copy in saved.items():
        conn.execute(f'create temp table "{copy}" as table {table}'.encode())
    before = picture(conn)
    asked = erase(conn, AKI)
    conn.execute("delete from data_deletion_requests")
    for table, copy in saved.items():
        conn.execute(value(conn, RESTORE, {"table": table, "saved": copy}).encode())
    found = picture(conn)
    # The application's trigger notes when a row was changed.
    touched = {"accounts", "articles", "article_translations"}
    assert {table for table, key in before if found.get((table, key)) != before[table, key]} == touched
    assert returned(conn)
    process(conn)
    assert set(traces(conn, AKI)) <= EXEMPT
    assert states(conn)[asked] == "verified"


def test_somebody_who_goes_on_in_the_same_browser_is_left_alone(conn: Connection) -> None:
    """ben signs in where aki was; what is anonymous there may be ben's, whichever table ben is known from."""
    add_account(conn, AKI)
    for table in ("user_behavior_events", "business_metrics_events", "search_queries"):
        add_visit(conn, AKI, browser_session(table))
    asked = erase(conn, AKI)
    for table in ("user_behavior_events", "business_metrics_events", "search_queries"):
        add_visit(conn, BEN, browser_session(table), signed_in=False, days_ago=0)
        rest = {"page_url": "/"} if table != "search_queries" else {"search_query": "tea"}
        insert(conn, table, account_id=BEN.account, session_id=browser_session(table), **rest)
    before = picture(conn)
    assert returned(conn) == set()
    process(conn)
    assert picture(conn) == before
    assert job(conn, asked)["recurrences"] == 0


def test_what_is_known_of_a_visit_is_forgotten_in_time(conn: Connection) -> None:
    add_account(conn, AKI)
    add_visit(conn, AKI, AKI.visit)
    erase(conn, AKI)
    kinds = "select kind, expires_at is null from lifecycle.suppressions order by 1"
    assert rows(conn, kinds) == [("own_web_session", False), ("person", True)]
    assert not [
        word
        for word in AKI.words
        if word in value(conn, "select string_agg(s::text, ' ') from lifecycle.suppressions s")
    ]
    conn.execute("update lifecycle.suppressions set expires_at = now() where expires_at is not null")
    add_visit(conn, AKI, AKI.visit, signed_in=False, number=2)
    assert returned(conn) == set()
    assert rows(conn, kinds) == [("person", True)]
