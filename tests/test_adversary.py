"""Whatever an ordinary account types, and then asks to be erased: nobody else loses a word, or has to wait."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid5

import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.personal_data import Key
from tests.conftest import MakeApplicationDb
from tests.erasing import EXEMPT, Picture, ask, job, picture, process, traces
from tests.people import ACTIVITY, NAMES, Person, add_account, add_catalogue, add_person, browser_session, insert

pytestmark = pytest.mark.one_server

MALLORY, VICTIM, BEN = Person("mallory"), Person("victim"), Person("ben")
# What others' texts are full of, in every form that means something to a pattern, to SQL or to this project.
TYPED = (
    "https://",
    "@",
    "matcha and quiet temples",
    "refresh_derived_statistics",
    "erase_personal_data",
    "job",
    "job_success",
    "audit_events",
    "public.accounts",
    "a",
    "",
    " ",
    "%",
    "_",
    ".*",
    "[a-z]+",
    "(",
    "\\",
    "erased",
    "2026-11-27",
    "1700000000000",
    "sess_1700000000000_",
    "SESS_1700000000000_ABCDEFGHI",
    "sess_1700000000000_abcdefghi and more",
    "１７０００００００００００-abcdefghi",
    "茶",
    "STRASSE",
    "ﬁne",
    VICTIM.email,
    f"x{browser_session('victim')}",
    str(VICTIM.account),
    str(ACTIVITY),
    "00000000-0000-0000-0000-000000000000",
)


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """A migrated database in which the victim has rows everywhere, and mallory an account."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        add_catalogue(session)
        add_person(session, VICTIM.name)
        add_account(session, MALLORY)
        yield session


def type_session(conn: Connection, session: str, number: int = 1) -> None:
    """Mallory's browser says that it is this session."""
    insert(
        conn,
        "user_behavior_events",
        id=MALLORY.id(f"{session}/{number}"),
        account_id=MALLORY.account,
        session_id=session,
        page_url="/",
    )


def of_others(conn: Connection) -> Picture:
    """Every row that is not mallory's."""
    words = (*MALLORY.words, "'mallory'")
    return {key: text for key, text in picture(conn).items() if not [word for word in words if word in text]}


def leave(conn: Connection, person: Person) -> dict[str, Any]:
    """The person asks; one run later the job."""
    asked = ask(conn, person)
    process(conn)
    return job(conn, asked)


def receipt(conn: Connection) -> dict[str, Any]:
    """The newest one."""
    found: dict[str, Any] = value(conn, "select body from lifecycle.erasure_receipts order by id desc limit 1")
    return found


def assert_only_mallory_lost(conn: Connection, before: Picture) -> None:
    """Mallory leaves, verified; the others' rows are what they were."""
    found = leave(conn, MALLORY)
    assert (found["state"], found["last_error"]) == ("verified", None)
    after = picture(conn)
    assert {key: (text, after.get(key)) for key, text in before.items() if after.get(key) != text} == {}
    assert set(traces(conn, MALLORY)) <= EXEMPT


def test_what_a_client_typed_as_a_session_reaches_nobody_else(conn: Connection) -> None:
    for number, typed in enumerate(TYPED):
        type_session(conn, typed)
        insert(
            conn,
            "search_queries",
            account_id=VICTIM.account,
            search_query=typed,
            search_context={"typed": f"to {typed} and on", typed: [f"https://x.example/{typed}"]},
        )
        # Anonymous rows under such a name are anybody's.
        insert(conn, "user_behavior_events", id=VICTIM.id(f"typed/{number}"), session_id=typed, page_url=f"/{typed}")
    conn.execute("update account_profiles set display_name = 'matcha and quiet temples'")
    conn.execute("select lifecycle.record_outcome(t, t, null) from unnest(%s::text[]) t", (list(TYPED),))
    assert_only_mallory_lost(conn, of_others(conn))
    told = receipt(conn)
    assert told["result"] == "verified, with exceptions"
    assert told["not_followed"] == [{"kind": "web_session", "reason": "form", "keys": len(TYPED) - 1}]  # not 'erased'


def test_rows_that_jobs_wrote_are_nobodys(conn: Connection) -> None:
    """Even under a name that is well formed, and with somebody's id."""
    session = browser_session("of mallory")
    type_session(conn, session)
    written = {"entity_type": "job", "event_type": "job_success", "performed_by": MALLORY.account}
    for number, subject in enumerate((session, str(MALLORY.account), MALLORY.email)):
        payload = {"object": f"{session} {MALLORY.email}", "rows": 1}
        insert(conn, "audit_events", id=VICTIM.id(f"job/{number}"), entity_id=subject, payload=payload, **written)
    ledger = "select array_agg(a::text order by a.id) from audit_events a where id = any (%s)"
    ours = ([VICTIM.id(f"job/{number}") for number in range(3)],)
    before = value(conn, ledger, ours)
    assert leave(conn, MALLORY)["state"] == "verified"
    assert value(conn, ledger, ours) == before


# Rows whose id a client may choose and that are looked for in texts, with what else they need.
CHOSEN: dict[str, dict[str, Any]] = {
    "chat_sessions": {"account_id": MALLORY.account},
    "quiz_sessions": {"account_id": MALLORY.account},
    "recommendation_runs": {"account_id": MALLORY.account, "trigger": "manual"},
}
IDS = {
    "a person's": VICTIM.account,
    "a sign-in user's": VICTIM.user,
    "a chat's": VICTIM.id("chat"),
    "a quiz's": VICTIM.id("quiz"),
    "a booking's": VICTIM.id("booking"),
    "the catalogue's": ACTIVITY,
    "nobody's": UUID(int=0),
}


@pytest.mark.parametrize("table", CHOSEN)
def test_an_id_of_somebody_else_as_ones_own_reaches_only_ones_own(conn: Connection, table: str) -> None:
    """Others' texts and the ledger name the other."""
    taken = {what: chosen for what, chosen in IDS.items() if not exists(conn, table, chosen)}
    for what, chosen in taken.items():
        insert(conn, table, id=chosen, **CHOSEN[table])
        if table == "chat_sessions":
            insert(conn, "chat_messages", id=MALLORY.id(what), session_id=chosen, role="user", content="x", sequence=1)
        insert(
            conn,
            "audit_events",
            entity_type="thing",
            entity_id=str(chosen),
            event_type="seen",
            payload={"by": str(chosen)},
        )
        insert(conn, "search_queries", account_id=VICTIM.account, search_query=f"{what} {chosen}")
    before = {key: text for key, text in of_others(conn).items() if key[0] not in (table, "chat_messages")}
    assert_only_mallory_lost(conn, before)
    assert not [what for what, chosen in taken.items() if exists(conn, table, chosen)]
    assert not rows(conn, "select id from chat_messages where id = any (%s)", ([MALLORY.id(what) for what in IDS],))
    assert {"kind": table.removesuffix("s"), "reason": "ambiguous", "keys": len(taken)} in receipt(conn)["not_followed"]


def exists(conn: Connection, table: str, chosen: UUID) -> bool:
    """Whether a row of the table has this id."""
    return bool(rows(conn, f"select from {table} where id = %s", (chosen,)))


@pytest.mark.parametrize("table", CHOSEN)
def test_an_id_that_stands_in_others_texts_stays_there_whoever_chose_it(conn: Connection, table: str) -> None:
    """It is the key of nothing here: a booking's elsewhere, or one that has expired. Where it stands is told."""
    elsewhere = uuid5(NAMES, "a booking of another system")
    insert(conn, "search_queries", id=VICTIM.id("x"), account_id=VICTIM.account, search_query=f"where is {elsewhere}")
    written = {
        "entity_type": "booking",
        "entity_id": str(elsewhere),
        "event_type": "made",
        "payload": {"for": "victim"},
    }
    insert(conn, "audit_events", id=VICTIM.id("made"), **written)
    uses = {"activity_slug": "tea", "interaction_type": "view", "source_id": elsewhere}
    insert(conn, "activity_interactions", id=VICTIM.id("use"), account_id=VICTIM.account, **uses)
    insert(conn, table, id=elsewhere, **CHOSEN[table])
    assert_only_mallory_lost(conn, {key: text for key, text in of_others(conn).items() if key[0] != table})
    assert not exists(conn, table, elsewhere)
    told = receipt(conn)
    assert told["result"] == "verified, with exceptions"
    left = {place["column"]: place["rows"] for place in told["left_with_others"]}
    assert left == left | {
        "public.activity_interactions.source_id": 1,
        "public.audit_events.entity_id": 1,
        "public.search_queries.search_query": 1,
    }


def test_an_id_is_taken_out_of_texts_for_whom_it_is_vouched_though_somebody_else_chose_it(conn: Connection) -> None:
    """Both leave in one batch: the word is the victim's account, and mallory's chat was called by it."""
    insert(conn, "chat_sessions", id=VICTIM.account, account_id=MALLORY.account)
    add_account(conn, BEN)
    insert(conn, "search_queries", account_id=BEN.account, search_query=f"see {VICTIM.account}")
    requests = [ask(conn, person) for person in (MALLORY, VICTIM)]
    process(conn)
    assert [job(conn, asked)["state"] for asked in requests] == ["verified"] * 2
    assert rows(conn, "select search_query from search_queries where account_id = %s", (BEN.account,)) == [
        ("see erased",)
    ]


@pytest.mark.parametrize(
    ("form", "matches", "says"),
    [
        ("name", None, "needs `matches`"),
        ("name", ".+", "also fits 'a'"),
        ("name", r"\S*", "also fits ''"),
        ("name", "[0-9]{13}", "also fits '1700000000000'"),
        ("name", "(", "no regular expression"),
        ("address", None, "no evidence"),
    ],
)
def test_a_declaration_that_would_follow_what_anybody_types_is_refused(
    form: str, matches: str | None, says: str
) -> None:
    source = {"table": "app.visits", "by": "account", "key": "person", "take": "name", "bound": False}
    with pytest.raises(ValueError, match=re.escape(says)):
        Key.model_validate({"form": form, "matches": matches, "from": [source]})


# What mallory or the application's server on mallory's behalf may write, each with a word of the victim's where nobody
# else expects it.
PLANTED: dict[str, dict[str, Any]] = {
    "chat_sessions": {"id": VICTIM.account, "account_id": MALLORY.account},
    "chat_messages": {"session_id": VICTIM.account, "role": "user", "content": "x", "sequence": 1},
    "quiz_sessions": {"id": VICTIM.user, "account_id": MALLORY.account},
    "quiz_answers": {"session_id": VICTIM.user, "question_ref": "x", "answer_value": []},
    "recommendation_runs": {"id": VICTIM.account, "account_id": MALLORY.account, "trigger": "manual"},
    "recommendation_items": {"run_id": VICTIM.account, "activity_id": ACTIVITY, "rank": 1},
    "form_submissions": {"id": VICTIM.account, "account_id": MALLORY.account, "email": MALLORY.email},
    "user_behavior_events": {
        "account_id": MALLORY.account,
        "session_id": str(VICTIM.account),
        "page_url": "/",
        "user_agent": VICTIM.email,
        "language": str(VICTIM.user),
    },
    "business_metrics_events": {
        "account_id": MALLORY.account,
        "session_id": VICTIM.email,
        "page_url": "/",
        "experience_title": VICTIM.email,
    },
    "search_queries": {"account_id": MALLORY.account, "session_id": str(VICTIM.user), "search_query": "x"},
    "session_replay_events": {
        "session_id": VICTIM.email,
        "timestamp": "now",
        "event_type": VICTIM.email,
        "event_data": {},
    },
    "quiz_forms": {"definition": {"ask": VICTIM.email}},
    "activities": {"slug": "planted", "title": f"Ask {VICTIM.email}"},
    "audit_events": {"entity_type": "note", "entity_id": f"of {VICTIM.email}", "event_type": "seen"},
}


def test_nobody_keeps_anybody_from_leaving_by_writing_their_name_somewhere(conn: Connection) -> None:
    for table, columns in PLANTED.items():
        insert(conn, table, **columns)
    found = leave(conn, VICTIM)
    assert (found["state"], found["last_error"], found["attempts"]) == ("verified", None, 1)
    told = receipt(conn)
    assert told["result"] == "verified, with exceptions"
    left = {place["column"] for place in told["left_with_others"]}
    assert left >= {
        "public.activities.title",
        "public.chat_messages.session_id",
        "public.form_submissions.id",
        "public.quiz_forms.definition",
        "public.user_behavior_events.session_id",
    }
    # Free form is cleaned; keys and the catalogue are told and nothing else. Plain views show what their tables hold.
    views = {name for (name,) in rows(conn, "select relname::text from pg_class where relkind = 'v'")}
    for word in (VICTIM.email, str(VICTIM.account)):
        assert {relation for relation, words in traces(conn, VICTIM).items() if word in words} <= {
            *EXEMPT,
            *views,
            *(place.removeprefix("public.").rsplit(".", 1)[0] for place in left),
        }
    found = leave(conn, MALLORY)
    assert (found["state"], found["last_error"]) == ("verified", None)
    assert rows(conn, "select id from chat_sessions where id = %s", (VICTIM.account,)) == []


def test_a_map_that_forgot_a_column_is_still_found_out(conn: Connection) -> None:
    """What names a person by a key that is theirs fails the request: a table's own keys alone are others' choice."""
    insert(conn, "vendors", name=f"House of {VICTIM.email}")
    conn.execute("create table friends (id uuid primary key, friend uuid references accounts)")
    conn.execute("insert into friends values (%s, %s)", (MALLORY.id("friends"), VICTIM.account))
    found = leave(conn, VICTIM)
    assert found["state"] == "failed"
    assert "public.friends.friend, public.vendors.name" in found["last_error"]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_second_failure_of_one_request_alerts_a_person(conn: Connection, failures: int) -> None:
    """Even when it may pass by itself."""
    asked = ask(conn, VICTIM)
    conn.execute("select enqueue_deletion_jobs()")
    for _ in range(failures):
        conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now()")
        conn.execute(
            "select lifecycle.fail_erasure_batch(lifecycle.claim_deletion_jobs(), 'a lock stayed taken', '55P03')"
        )
    assert job(conn, asked)["attempts"] == failures
    told = "select cause from lifecycle.open_problems"
    assert rows(conn, told) == ([(f"request {asked}",)] if failures > 1 else [])
