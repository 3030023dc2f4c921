"""Whatever mallory writes, wherever a client may, and whoever leaves first: nobody else loses anything or waits."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lifecycle.database import Connection, connect, rows, value
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import Templates
from tests.erasing import ask, claim, job, picture, step
from tests.people import ACTIVITY, Person, add_account, add_catalogue, add_person, browser_session, insert

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

MALLORY, VICTIM = Person("mallory"), Person("victim")
OURS = "select distinct relation::text from lifecycle.searched_columns() where table_name ~ '^public' order by 1"
IDS = st.sampled_from(
    [VICTIM.account, VICTIM.user, VICTIM.id("result"), MALLORY.account, ACTIVITY, UUID(int=0), UUID(int=7**40)]
)
TYPED = [
    *(VICTIM.email, VICTIM.email.upper(), f"x{VICTIM.email}", VICTIM.email.replace("@", "%40"), MALLORY.email),
    *(VICTIM.visit, f"{VICTIM.visit}0", browser_session("mallory"), "https://", "@", "%", "_", ".*", "job", "tea", ""),
]
WORDS = st.one_of(
    st.sampled_from(TYPED),
    IDS.map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.from_regex(r"[0-9]{13}-[0-9a-z]{9}", fullmatch=True),
)
# What a client may write, as (table, columns): names of sessions, ids of its own rows, texts, addresses in a form.
WRITES = st.one_of(
    st.tuples(
        st.sampled_from(["user_behavior_events", "business_metrics_events"]),
        st.fixed_dictionaries({"session_id": WORDS, "page_url": WORDS, "account_id": st.just(MALLORY.account)}),
    ),
    st.tuples(
        st.just("search_queries"),
        st.fixed_dictionaries({"search_query": WORDS, "session_id": WORDS, "account_id": st.just(MALLORY.account)}),
    ),
    st.tuples(
        st.sampled_from(["chat_sessions", "quiz_sessions"]),
        st.fixed_dictionaries({"id": IDS, "account_id": st.just(MALLORY.account)}),
    ),
    st.tuples(
        st.just("form_submissions"),
        st.fixed_dictionaries({"email": WORDS, "first_name": WORDS, "account_id": st.just(MALLORY.account)}),
    ),
)


@pytest.fixture(scope="module")
def stage(server: Server, templates: Templates) -> Iterator[Connection]:
    """The victim with rows everywhere, and mallory's account."""
    with connect(clone_database(server, templates(False, True, True), "adversary")) as conn:
        add_catalogue(conn)
        add_person(conn, VICTIM.name)
        add_account(conn, MALLORY)
        yield conn
    drop_database(server, "adversary")


def write(conn: Connection, writes: list[tuple[str, dict[str, Any]]]) -> None:
    """What the database refuses (an id that is taken) was never written."""
    for number, (table, columns) in enumerate(writes):
        known = {"id": MALLORY.id(f"written/{number}"), **columns}
        if not rows(conn, f"select from {table} where id = %s", (known["id"],)):
            insert(conn, table, **known)


def leave(conn: Connection, person: Person) -> dict[str, Any]:
    """One run; the receipt."""
    asked = ask(conn, person)
    conn.execute("select enqueue_deletion_jobs()")
    batch = claim(conn)
    for name in ("collect", "erase", "sign_in_users"):
        assert step(conn, batch, name) == "done"
    for (relation,) in rows(conn, OURS):
        assert step(conn, batch, "search", relation) == "done"
    assert step(conn, batch, "conclude") == "done"
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    found: dict[str, Any] = value(conn, "select body from lifecycle.erasure_receipts order by id desc limit 1")
    return found


def named(conn: Connection, *words: str) -> set[str]:
    """The tables in which one of these stands as a whole word, but for the evidence."""
    whole = [rf"(?<![a-z0-9_.+%-]){re.escape(word)}(?![a-z0-9_]|[.-]+[a-z0-9_])" for word in words]
    evidence = ("accounts", "consent_history", "data_deletion_requests")
    return {
        table
        for (table, _), text in picture(conn).items()
        if table not in evidence and re.search("|".join(whole), text.lower())
    }


@given(st.lists(WRITES, max_size=8), st.booleans())
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
def test_whatever_is_written_nobody_else_loses_or_waits(
    stage: Connection, writes: list[tuple[str, dict[str, Any]]], mallory_first: bool
) -> None:
    with stage.transaction(force_rollback=True):
        others = picture(stage)
        write(stage, writes)
        if mallory_first:
            leave(stage, MALLORY)
            after = picture(stage)
            theirs = {key: text for key, text in others.items() if str(MALLORY.account) not in text}
            # A replay of a visit that both were in shows both.
            shared = any(columns.get("session_id") == VICTIM.visit for _, columns in writes)
            lost = {key for key, text in theirs.items() if after.get(key) != text}
            assert {table for table, _ in lost} <= ({"session_replay_events"} if shared else set())
            assert not named(stage, str(MALLORY.user))
        receipt = leave(stage, VICTIM)
        left = {place["column"].split(".")[1] for place in receipt["left_with_others"]}
        exempt = {place["column"].split(".")[1] for place in receipt["exemptions"]}
        assert named(stage, VICTIM.email, str(VICTIM.account)) <= left | exempt | {"form_submissions"}
        if receipt["result"] == "verified":
            assert not left
            assert named(stage, str(VICTIM.account), str(VICTIM.user)) <= exempt
        if not mallory_first:
            leave(stage, MALLORY)
            assert not named(stage, str(MALLORY.account), str(MALLORY.user))
