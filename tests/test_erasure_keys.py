"""Which visits are a person's own, and what a row that stays keeps of its columns."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, connect, rows, value
from tests.conftest import MakeApplicationDb
from tests.erasing import ask, claim, step
from tests.people import Person, add_account, add_catalogue, add_visit, browser_session, insert

TARO, BEN = Person("taro"), Person("ben")
NAME = "1700000000000-nostorage"
VISIT = {number: browser_session(f"visit {number}") for number in (1, 2, 3, 4)}
VISITS = """
select kind from lifecycle.erasure_keys
 where kind ~ 'web_session' and key = %s and unfollowed is null group by 1 order by 1
"""


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """An empty migrated database with the catalogue."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        add_catalogue(session)
        yield session


def add_crowd(conn: Connection, count: int) -> list[Person]:
    """So many people who come under one name, and somebody anonymous."""
    people = [Person(f"person{number}") for number in range(count)]
    for person in people:
        add_account(conn, person)
        insert(conn, "user_behavior_events", account_id=person.account, session_id=NAME, page_url="/")
    insert(conn, "user_behavior_events", session_id=NAME, page_url="/anonymous")
    return people


def erase(conn: Connection, *people: Person) -> None:
    """Up to the search, which would take out of a row what the erasure had left in it."""
    for person in people:
        ask(conn, person)
    conn.execute("select enqueue_deletion_jobs()")
    batch = claim(conn)
    assert [step(conn, batch, name) for name in ("collect", "erase")] == ["done", "done"]


@pytest.mark.parametrize(
    ("count", "kinds", "left"), [(20, ["own_web_session", "web_session"], ["erased"]), (21, [], [NAME])]
)
def test_a_name_under_which_many_people_come_is_nobodys_visit(
    conn: Connection, count: int, kinds: list[str], left: list[str]
) -> None:
    """All of them leave together, so nobody stays whose visit it could be."""
    people = add_crowd(conn, count)
    erase(conn, *people)
    assert [kind for (kind,) in rows(conn, VISITS, (NAME,))] == kinds
    anonymous = "select session_id from user_behavior_events where page_url = '/anonymous'"
    assert [name for (name,) in rows(conn, anonymous)] == left
    counted = (
        "select count(*), max(rows) from lifecycle.erasure_counts where table_name = 'public.user_behavior_events'"
    )
    # The anonymous row is counted for each whose visit it was.
    assert rows(conn, counted) == [(len(people), 2 if kinds else 1)]


def test_a_visit_seen_in_any_table_with_somebody_who_stays_is_shared(conn: Connection) -> None:
    for person in (TARO, BEN):
        add_account(conn, person)
    for number, table in enumerate(("user_behavior_events", "business_metrics_events", "search_queries"), 1):
        page = {"search_query": "tea"} if table == "search_queries" else {"page_url": "/"}
        add_visit(conn, TARO, VISIT[number])
        insert(conn, table, account_id=BEN.account, session_id=VISIT[number], **page)
    add_visit(conn, TARO, VISIT[4])
    erase(conn, TARO)
    found = "select key from lifecycle.erasure_keys where kind = %s and unfollowed is null order by 1"
    assert rows(conn, found, ("web_session",)) == [(name,) for name in sorted(VISIT.values())]
    assert rows(conn, found, ("own_web_session",)) == [(VISIT[4],)]
    shared = "select kind, key from lifecycle.erasure_keys where unfollowed = 'shared' order by key"
    assert rows(conn, shared) == [("own_web_session", name) for name in sorted(VISIT.values()) if name != VISIT[4]]


@pytest.mark.parametrize(
    ("engagement", "kept"),
    [
        ({"timeOnPage": 12, "scrollDepth": 3}, {"timeOnPage": 12, "scrollDepth": 3}),
        ({"timeOnPage": 12}, {"timeOnPage": 12}),
        ({"timeOnPage": 12, "who": "taro"}, {"timeOnPage": 12}),
        ({"timeOnPage": [f"by {TARO.email}", 1]}, {"timeOnPage": ["by erased", 1]}),
        ({"timeOnPage": {str(TARO.account): 1}, "who": "taro"}, {"timeOnPage": {"erased": 1}}),
        ({"who": "taro"}, {}),
        ({}, {}),
        (["taro"], {}),
        ("taro", {}),
        (None, None),
    ],
    ids=str,
)
def test_of_an_object_only_allowed_keys_are_kept(conn: Connection, engagement: Any, kept: Any) -> None:
    add_account(conn, TARO)
    held = None if engagement is None else Jsonb(engagement)
    insert(conn, "user_behavior_events", account_id=TARO.account, session_id="visit1", page_url="/tea", engagement=held)
    erase(conn, TARO)
    assert value(conn, "select engagement from user_behavior_events") == kept


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("/tea", "/tea"),
        ("/tea?to=x#top", "/tea"),
        ("/tea#top?to=x", "/tea"),
        ("/tea?a?b", "/tea"),
        ("/お茶\n?q=福井", "/お茶\n"),
        (f"/by/{TARO.email}/x?y", "/by/erased/x"),
        ("?q", ""),
    ],
)
def test_of_a_location_what_was_handed_over_in_it_is_lost(conn: Connection, url: str, kept: str) -> None:
    assert value(conn, "select lifecycle.location_only(%s)", (url,)) == kept
