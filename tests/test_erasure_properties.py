"""Whatever people did, in whatever order they leave, and whatever is written around a word."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from lifecycle.database import Connection, connect, rows, value
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import Templates
from tests.erasing import Picture, ask, claim, job, picture, step
from tests.people import Person, add_account, add_booking, add_catalogue, add_visit, browser_session, insert

pytestmark = pytest.mark.one_server

TARO, BEN = Person("taro"), Person("ben")
CAST = [Person(name) for name in ("p0", "p1", "p2", "p3")]
OURS = "select distinct relation::text from lifecycle.searched_columns() where table_name ~ '^public' order by 1"

# No character of a word of its own: what stands before or after it ends there.
BETWEEN = st.sampled_from(
    [" ", "\n", "\t", "\x1f", '"', "'", "\\", "/", "(", ")", ",", ";", ":", "&", "=", "の", "。", "<", "é"]
)
AROUND = st.text(st.sampled_from("ab9@.%-_+\\\"'{}の。\n\t \x01,:/tnu0"), max_size=12)
WORD = st.sampled_from([TARO.email, TARO.visit, str(TARO.account)])
NAMED = {"user_behavior_events": "behaviour", "business_metrics_events": "business", "search_queries": "search"}
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(scope="module")
def batch(server: Server, templates: Templates) -> Iterator[tuple[Connection, UUID]]:
    """A batch that has erased taro's rows and goes on to search; ben is somebody else."""
    with connect(clone_database(server, templates(False, True, True), "properties")) as conn:
        add_catalogue(conn)
        for person in (TARO, BEN):
            add_account(conn, person)
        add_visit(conn, TARO, TARO.visit)
        ask(conn, TARO)
        conn.execute("select enqueue_deletion_jobs()")
        found = claim(conn)
        assert found is not None
        assert [step(conn, found, name) for name in ("collect", "erase")] == ["done", "done"]
        yield conn, found
    drop_database(server, "properties")


@pytest.mark.every_version
@given(
    st.lists(st.tuples(AROUND, BETWEEN, WORD, st.booleans(), BETWEEN, AROUND), min_size=1, max_size=4),
)
@example([("C:", "\\", TARO.email, False, "\\", "x")])
@example([("", "\x1f", TARO.email, True, " ", "-")])
@example([("%2", "=", TARO.visit, False, "&", "%3D")])
@settings(max_examples=120, deadline=None, suppress_health_check=QUIET)
def test_a_word_is_found_and_taken_out_and_nothing_else_is(
    batch: tuple[Connection, UUID], pieces: list[tuple[str, str, str, bool, str, str]]
) -> None:
    """In text and in JSON, as a value and as a key; what stands around it stays as it was."""
    conn, number = batch
    held, expected = "", ""
    for before, open_, word, capitals, close, after in pieces:
        held += before + open_ + (word.upper() if capitals else word) + close + after
        expected += before + open_ + "erased" + close + after
    with conn.transaction(force_rollback=True):
        insert(conn, "search_queries", account_id=BEN.account, search_query=held, search_context=in_json(held))
        assert step(conn, number, "search", "search_queries") == "done"
        found = "select column_name from lifecycle.erasure_findings where treatment = %s order by 1"
        assert rows(conn, found, ("redacted",)) == [("search_context",), ("search_query",)]
        assert rows(conn, found, ("residual",)) == []
        assert rows(conn, "select search_query, search_context from search_queries") == [(expected, in_json(expected))]


def in_json(text: str) -> dict[str, Any]:
    return {"value": [1.5, None, {"deep": text}], text: True}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | AROUND,
        lambda inner: st.lists(inner) | st.dictionaries(AROUND, inner),
    )
)
@settings(max_examples=80, deadline=None, suppress_health_check=QUIET)
def test_what_an_own_row_keeps_is_json_without_a_word(batch: tuple[Connection, UUID], document: Any) -> None:
    """Scrubbing takes every id and address out of whatever document stands there."""
    conn, _ = batch
    marked = {"left": document, "with": [f"\x1f{TARO.email}", f"\\{BEN.account}", {"x": f"{document!s} {TARO.email}."}]}
    with conn.transaction(force_rollback=True):
        insert(
            conn,
            "business_metrics_events",
            account_id=TARO.account,
            session_id="s",
            page_url="/",
            revenue_metrics=marked,
        )
        conn.execute("select lifecycle.erase_jobs(array(select id from lifecycle.deletion_jobs))")
        kept = value(conn, "select revenue_metrics from business_metrics_events where revenue_metrics ? 'with'")
    assert kept["with"][:2] == ["\x1ferased", "\\erased"]
    assert TARO.email not in str(kept)
    assert set(kept) == {"left", "with"}


@dataclass(frozen=True)
class Story:
    """What people did, by their numbers, and in which batches some of them leave."""

    visits: list[tuple[int, int, bool]]
    bookings: list[tuple[int, int, bool]]
    saves: set[tuple[int, int]]
    batches: list[set[int]]


PEOPLE = st.integers(0, len(CAST) - 1)
STORIES = st.builds(
    Story,
    visits=st.lists(st.tuples(PEOPLE, st.integers(0, 3), st.booleans()), max_size=10, unique=True),
    bookings=st.lists(st.tuples(PEOPLE, PEOPLE, st.booleans()), max_size=4, unique=True),
    saves=st.sets(st.tuples(PEOPLE, PEOPLE), max_size=4),
    batches=st.lists(st.sets(PEOPLE, min_size=1, max_size=3), min_size=1, max_size=3),
)


def session(number: int) -> str:
    return browser_session(f"story {number}")


@pytest.fixture(scope="module")
def stage(server: Server, templates: Templates) -> Iterator[Connection]:
    """Four people who have a chat and a draft each, and have done nothing else yet."""
    with connect(clone_database(server, templates(False, True, True), "stories")) as conn:
        add_catalogue(conn)
        for person in CAST:
            add_account(conn, person)
            insert(conn, "chat_sessions", id=person.id("chat"), account_id=person.account)
            insert(
                conn,
                "generated_activities",
                id=person.id("draft"),
                chat_session_id=person.id("chat"),
                title="x",
                body_mdx="x",
            )
        yield conn
    drop_database(server, "stories")


def play(conn: Connection, story: Story) -> None:
    for person, place, signed_in in story.visits:
        add_visit(conn, CAST[person], session(place), signed_in=signed_in)
    for number, (person, address, signed_in) in enumerate(story.bookings):
        add_booking(conn, CAST[person], f"booking{number}", CAST[address].email, signed_in=signed_in)
    for person, draft in story.saves:
        what = {"generated_activity_id": CAST[draft].id("draft"), "account_id": CAST[person].account, "source": "chat"}
        insert(conn, "generated_activity_saves", id=CAST[person].id(f"save/{draft}"), **what)


def leave(conn: Connection, people: set[int]) -> None:
    """These leave in one batch."""
    requests = [ask(conn, CAST[person]) for person in sorted(people)]
    conn.execute("select enqueue_deletion_jobs()")
    number = claim(conn)
    for name in ("collect", "erase", "sign_in_users"):
        assert step(conn, number, name) == "done"
    for (relation,) in rows(conn, OURS):
        assert step(conn, number, "search", relation) == "done"
    assert step(conn, number, "conclude") == "done"
    assert [job(conn, asked)["last_error"] for asked in requests] == [None] * len(requests)
    assert {job(conn, asked)["state"] for asked in requests} == {"verified"}


def must_stay(story: Story, gone: set[int], before: Picture) -> Picture:
    """Rows that are nobody's who left, by the rules that people were promised."""
    alive = set(range(len(CAST))) - gone
    seen = {
        place: {who for who, where, signed_in in story.visits if where == place and signed_in} for place in range(4)
    }
    left: set[tuple[str, str]] = set()
    for person, place, signed_in in story.visits:
        what = f"{session(place)}/{'own' if signed_in else 'anonymous'}/1"
        theirs = person in gone if signed_in else bool(seen[place] & gone) and not seen[place] & alive
        for table, name in NAMED.items():
            left |= {(table, str(CAST[person].id(f"{name}/{what}")))} if theirs else set()
        if seen[place] & gone:
            left |= {("session_replay_events", str(CAST[person].id(f"replay/{what}")))}
    tables = (*NAMED, "session_replay_events")
    return {key: text for key, text in before.items() if key[0] in tables and key not in left}


@pytest.mark.every_version
@given(STORIES)
@example(Story([(0, 0, True), (1, 0, True), (0, 0, False)], [(0, 1, True), (0, 0, False)], {(1, 0)}, [{0}, {1}]))
@example(Story([(0, 0, True), (1, 0, True), (1, 0, False)], [(1, 0, False)], {(0, 0), (1, 0)}, [{0, 1}]))
@settings(max_examples=12, deadline=None, suppress_health_check=QUIET, phases=[Phase.explicit, Phase.generate])
def test_whoever_leaves_takes_their_own_and_nobody_elses(stage: Connection, story: Story) -> None:
    with stage.transaction(force_rollback=True):
        play(stage, story)
        before, gone = picture(stage), set[int]()
        for people in story.batches:
            if people - gone:
                leave(stage, people - gone)
                gone |= people
        after = picture(stage)
    tracked = {key[0] for key in must_stay(story, set(), before)}
    stays = must_stay(story, gone, before)
    assert without(gone, {key: after.get(key, "") for key in stays}) == without(gone, stays)
    assert not [
        key for key, text in before.items() if key[0] in tracked and key not in stays and after.get(key) == text
    ]
    everything = " ".join(
        text for (table, _), text in after.items() if table not in ("accounts", "data_deletion_requests")
    )
    for person in gone:
        assert str(CAST[person].account) not in everything
        assert str(CAST[person].user) not in everything
    for person in set(range(len(CAST))) - gone:
        mine = {key: text for key, text in before.items() if str(CAST[person].account) in text}
        found = {key: after.get(key, "") for key in mine if key[0] not in tracked}
        assert without(gone, found) == without(gone, {key: mine[key] for key in found})


def without(gone: set[int], found: Picture) -> Picture:
    """The same rows as they read once the words of these people have been taken out of free form."""
    words = [word for person in gone for word in (CAST[person].email, str(CAST[person].account))]
    pattern = "|".join(re.escape(word).replace("@", "(?:@|%40)") for word in words)
    return {key: re.sub(pattern, "erased", text) for key, text in found.items()} if words else found
