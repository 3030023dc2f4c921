"""A request that reaches far beyond the person's own rows is held with the counts until somebody confirms it."""

from collections.abc import Iterator

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.proof import PlannedWords, plan_erasure, plan_words, reach_told
from tests.conftest import MakeApplicationDb
from tests.erasing import EXEMPT, ask, job, picture, process, traces
from tests.people import Person, add_account, add_catalogue, add_visit, browser_session, insert

pytestmark = pytest.mark.one_server

MALLORY, VICTIM = Person("mallory"), Person("victim")
STRANGER = browser_session("a stranger's")


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """A migrated database in which a request may touch five rows beyond the person's own."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        add_catalogue(session)
        for person in (MALLORY, VICTIM):
            add_account(session, person)
            add_visit(session, person, person.visit)
        session.execute("update lifecycle.erasure_policy set reach = 5")
        yield session


def of_others(conn: Connection) -> dict[tuple[str, str], str]:
    return {
        key: text for key, text in picture(conn).items() if key[0] not in ("data_deletion_requests", "audit_events")
    }


def test_by_names_of_sessions_nothing_changes_before_somebody_confirms(conn: Connection) -> None:
    """Mallory knows the name of a stranger's visit; the victim in the same batch goes."""
    insert(conn, "user_behavior_events", account_id=MALLORY.account, session_id=STRANGER, page_url="/")
    for _ in range(6):
        insert(conn, "user_behavior_events", session_id=STRANGER, page_url="/secret")
    asked, other = ask(conn, MALLORY), ask(conn, VICTIM)
    before = {key: text for key, text in of_others(conn).items() if VICTIM.name not in text}
    planned = plan_erasure(conn, str(asked))
    assert sum(step.rows for step in planned if step.beyond) == 7  # and the replay of the own visit
    process(conn)
    assert job(conn, other)["state"] == "verified"
    found = job(conn, asked)
    assert found["state"] == "held"
    assert "public.user_behavior_events: 6, public.session_replay_events: 1" in found["hold_reason"]
    after = of_others(conn)
    still = {key: text for key, text in before.items() if str(VICTIM.account) not in text and VICTIM.visit not in text}
    assert {key: after.get(key) for key in still} == still
    assert found["hold_reason"] in reach_told(conn, str(asked), planned)
    assert rows(conn, "select cause from lifecycle.open_problems") == [(f"request {asked}",)]
    # It stays so, until somebody says that they have looked.
    process(conn)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        conn.execute("select release_deletion_request(%s::text)", (asked,))
    assert job(conn, asked)["state"] == "held"
    conn.execute("select release_deletion_request(%s::text, true)", (asked,))
    process(conn)
    assert job(conn, asked)["state"] == "verified"
    assert (
        value(conn, "select count(*) from user_behavior_events where page_url = '/secret' and session_id = 'erased'")
        == 6
    )
    assert value(
        conn, "select (body -> 'reach_confirmed')::bool from lifecycle.erasure_receipts order by id desc limit 1"
    )
    assert rows(conn, "select cause from lifecycle.open_problems") == []


def test_in_texts_no_more_than_the_bound_lose_a_word_unasked(conn: Connection) -> None:
    """In two columns together; the victim in the same batch loses nothing by it."""
    for number in range(4):
        search = {"search_query": f"{number} {MALLORY.email}", "search_context": {"of": f"{VICTIM.email}"}}
        insert(conn, "search_queries", **search)
        insert(conn, "session_replay_events", session_id="x", timestamp="now", event_type=MALLORY.email, event_data={})
    asked, other = ask(conn, MALLORY), ask(conn, VICTIM)
    process(conn)
    assert (job(conn, other)["state"], job(conn, asked)["state"]) == ("verified", "held")
    assert set(traces(conn, VICTIM)) <= EXEMPT
    left = "select count(*) from search_queries where search_query ~ %(mail)s"
    left = f"select ({left}) + (select count(*) from session_replay_events where event_type = %(mail)s)"
    assert value(conn, left, {"mail": MALLORY.email}) == 4
    # What is the person's own has gone.
    assert not rows(conn, "select 1 from user_behavior_events where account_id = %s", (MALLORY.account,))
    conn.execute("select release_deletion_request(%s::text, true)", (asked,))
    process(conn)
    assert (job(conn, asked)["state"], value(conn, left, {"mail": MALLORY.email})) == ("verified", 0)
    assert set(traces(conn, MALLORY)) <= EXEMPT


def test_within_the_bound_nobody_is_asked(conn: Connection) -> None:
    for number in range(4):
        insert(conn, "search_queries", search_query=f"{number} {MALLORY.email}")
    asked = ask(conn, MALLORY)
    process(conn)
    assert job(conn, asked)["state"] == "verified"


def test_the_plan_tells_where_others_would_lose_words(conn: Connection) -> None:
    """As many rows as lose them then; the person's own are not others'."""
    for number in range(4):
        search = {"search_query": f"{number} {MALLORY.email}", "search_context": {"of": str(MALLORY.account)}}
        insert(conn, "search_queries", id=VICTIM.id(f"plan/{number}"), account_id=VICTIM.account, **search)
    insert(conn, "activities", slug="x", title=f"Ask {MALLORY.email}")
    asked, before = ask(conn, MALLORY), picture(conn)
    planned = plan_words(conn, str(asked))
    assert planned == (
        PlannedWords("public.search_queries", "search_context", 4),
        PlannedWords("public.search_queries", "search_query", 4),
    )
    assert picture(conn) == before
    assert not rows(conn, "select * from lifecycle.deletion_jobs")
    assert not rows(conn, "select * from lifecycle.erasure_findings")
    conn.execute("update lifecycle.erasure_policy set reach = 8")
    process(conn)
    told = "select table_name, column_name, rows::int from lifecycle.erasure_findings where treatment = 'redacted'"
    assert sorted(rows(conn, told)) == [(place.table, place.column, place.rows) for place in planned]
    with pytest.raises(psycopg.errors.NoDataFound):
        plan_words(conn, str(Person("nobody").account))
