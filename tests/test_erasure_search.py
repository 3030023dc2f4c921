"""The search for what is left: whatever form it has, it is found, named by table and column, and never shown."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql
from psycopg.types.json import Json, Jsonb

from lifecycle.database import Connection, connect, rows, value
from tests.conftest import MakeApplicationDb
from tests.erasing import ask, job, picture, process, states
from tests.people import Person, add_account, add_catalogue, add_person, add_visit, browser_session, insert

TARO, BEN = Person("taro"), Person("ben")  # \t and \b are escapes of JSON
FINDINGS = """
select table_name || '.' || column_name, treatment, rows::int from lifecycle.erasure_findings
 where treatment = any (%s) order by 1
"""
SAID = """
select coalesce(string_agg(lower(t), ' '), '') from (
    select j::text from lifecycle.deletion_jobs j
     union all select f::text from lifecycle.erasure_findings f
     union all select p::text from lifecycle.open_problems p
     union all select n::text from lifecycle.notifications n
     union all select r::text from lifecycle.erasure_receipts r
     union all select a::text from public.audit_events a where a.entity_type = 'job') said(t)
"""
ODD_ADDRESSES = ("o'neil@mail.example", "MÜLLER@mail.example", "a+b&c@mail.example", "佐藤@mail.example")
STRANGER = "somebody@mail.example"
LONG = "x" * 400  # a short text is compared as a whole, too


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    """An empty migrated database with the catalogue, taro and ben."""
    with connect(make_application_db(rows=False, migrated=True)) as session:
        add_catalogue(session)
        add_account(session, TARO)
        add_visit(session, TARO, TARO.visit)
        add_account(session, BEN)
        yield session


def assert_fails_by(conn: Connection, *places: str) -> None:
    """The erasure of taro ends with these columns named, without a word of taro in anything that is told."""
    asked = ask(conn, TARO)
    process(conn)
    found = job(conn, asked)
    assert found["state"] == "failed"
    for place in places:
        assert place in found["last_error"]
    said = value(conn, SAID)
    # The queue names the account, which is its one exemption.
    assert not [word for word in TARO.words if word in said.replace(str(TARO.account), "")]
    named = value(conn, "select string_agg(j.last_error, '') from lifecycle.deletion_jobs j")
    assert str(TARO.account) not in named


# Each plants a word of taro where nobody expects it: type of the column and its content.
HIDDEN: dict[str, tuple[str, Any]] = {
    "after an escape of JSON": ("jsonb", {"note": f"{LONG}\n{TARO.account}"}),
    "a session's name after an escape of JSON": ("jsonb", {"note": f"{LONG}\n{TARO.visit}"}),
    "a session's name in a URL in a URL": ("text", f"/login?next=%2Fchat%3Fsid%3D{TARO.visit}&{LONG}"),
    "after a control character in JSON": ("jsonb", {"note": f"{LONG}\x1f{TARO.email}"}),
    "an address after a backslash": ("text", f"{LONG} MAIL\\{TARO.email}"),
    "an address after a backslash in JSON": ("jsonb", {"path": f"{LONG}\\{TARO.email}"}),
    "before a full stop": ("text", f"{LONG} write to {TARO.email}. Thanks"),
    "before a dash": ("text", f"{LONG} {TARO.email}- call first"),
    "between Japanese words": ("text", f"{LONG}連絡先{TARO.email}まで"),
    "URL-encoded": ("text", f"/x?q=1&to={TARO.email.replace('@', '%40')}&{LONG}"),
    "URL-encoded after an escape": ("text", f"/x?next=%2Fa%3Fto%3D{TARO.email.replace('@', '%40')}&{LONG}"),
    "in capitals": ("text", f"{LONG} {TARO.email.upper()} {str(TARO.account).upper()}"),
    "an id in an address": ("text", f"{LONG} reply+{TARO.account}@bounce.example"),
    "in a list of texts": ("text[]", ["a", f"{LONG},{TARO.email}"]),
    "in a list of ids": ("uuid[]", [BEN.account, TARO.account]),
    "in bytes": ("bytea", f"{LONG} {TARO.email}".encode()),
    "in bytes after Japanese": ("bytea", f"{LONG}連絡先{TARO.email}".encode()),
    "as JSON text": ("json", {"deep": [{"er": f"mailto:{TARO.email}"}]}),
    "as a key of JSON": ("jsonb", {TARO.email: 1, "x": LONG}),
    "in a variable text": ("varchar(900)", f"{LONG}<{TARO.email}>"),
}


def test_it_is_found_in_whatever_form_it_stands(conn: Connection) -> None:
    """All at once, each in a column of its own of a table that the map does not know."""
    names = {f"c{number}": what for number, what in enumerate(HIDDEN)}
    conn.execute("create schema crm")
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(HIDDEN[what][0])) for name, what in names.items()
    )
    conn.execute(sql.SQL("create table crm.notes (id int, {})").format(columns))
    for number, (name, what) in enumerate(names.items()):
        kind, content = HIDDEN[what]
        conn.execute(
            sql.SQL("insert into crm.notes (id, {}) values (%s, %s::{})").format(sql.Identifier(name), sql.SQL(kind)),
            (number, dumped(kind, content)),
        )
    assert_fails_by(conn)
    found = {place.rsplit(".", 1)[-1] for place, _, _ in rows(conn, FINDINGS, (["residual"],))}
    assert not [what for name, what in names.items() if name not in found]


def dumped(kind: str, content: Any) -> Any:
    """The content as the driver sends it to a column of this kind."""
    return {"json": Json, "jsonb": Jsonb}.get(kind, lambda same: same)(content)


def test_it_is_named_by_table_and_column(conn: Connection) -> None:
    """In a table that nobody declared, in a schema of its own, in a materialized view and in an address column."""
    conn.execute("create schema crm")
    conn.execute("create table crm.contacts (id int, owner uuid, seen_from inet)")
    conn.execute("insert into crm.contacts values (1, %s, null), (2, null, '192.0.2.44')", (TARO.account,))
    conn.execute("create materialized view public.mirror as select owner as who from crm.contacts")
    insert(
        conn,
        "consent_history",
        account_id=TARO.account,
        consent_version="1",
        preferences={},
        ip_address="192.0.2.44",
    )
    insert(conn, "vendors", name=f"House of {TARO.email}")
    assert_fails_by(
        conn,
        "crm.contacts.owner",
        "crm.contacts.seen_from",
        "public.mirror.who",
        "public.vendors.name",
    )
    assert ("crm.contacts.owner", "residual", 1) in rows(conn, FINDINGS, (["residual"],))
    # Once the cause is gone it goes through.
    conn.execute("drop materialized view public.mirror; drop table crm.contacts; update vendors set name = 'House'")
    conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now()")
    process(conn)
    assert set(states(conn).values()) == {"verified"}
    assert not rows(conn, FINDINGS, (["residual"],)) or value(conn, "select count(*) from lifecycle.open_problems") == 0


def test_others_free_form_loses_the_words_and_nothing_else(conn: Connection) -> None:
    note = {
        "to": f"{TARO.email}, k{TARO.email} and {BEN.email}",
        "list": [1.50, None, {"deep": f"a\n{TARO.account}\t{BEN.account}"}],
        "visit": f"{TARO.visit} {TARO.visit}5",
        "%": f"?to={TARO.email.replace('@', '%40')}",
    }
    erased = {
        "to": f"erased, k{TARO.email} and {BEN.email}",
        "list": [1.50, None, {"deep": f"a\nerased\t{BEN.account}"}],
        "visit": f"erased {TARO.visit}5",
        "%": "?to=erased",
    }
    insert(
        conn,
        "activity_interactions",
        account_id=BEN.account,
        activity_slug="tea",
        interaction_type="view",
        metadata=note,
    )
    insert(conn, "search_queries", account_id=BEN.account, search_query=f"who is {TARO.email}?", search_context=note)
    asked = ask(conn, TARO)
    process(conn)
    assert job(conn, asked)["state"] == "verified"
    assert value(conn, "select metadata from activity_interactions") == erased
    assert rows(conn, "select search_query, search_context from search_queries") == [("who is erased?", erased)]
    redactions = value(conn, "select count(*) from lifecycle.erasure_findings where treatment = 'redacted'")
    assert redactions == 3


def test_addresses_may_have_any_form(conn: Connection) -> None:
    """Such a one is looked for letter by letter, and taken out of others' free form; what only ends like it stays."""
    requests = []
    for number, odd in enumerate(ODD_ADDRESSES):
        cho = Person(f"cho{number}")
        add_account(conn, cho)
        conn.execute("update auth.users set email = %s where id = %s", (odd, cho.user))
        said = {"from": f"see {odd}, x{odd} {odd}m {BEN.email}."}
        insert(conn, "search_queries", account_id=BEN.account, search_query=f"x{odd}", search_context=said)
        insert(conn, "search_queries", account_id=BEN.account, search_query=odd)
        requests.append(ask(conn, cho))
    process(conn)
    assert not [found for found in (job(conn, asked) for asked in requests) if found["state"] != "verified"]
    by_ben = f"from search_queries where account_id = '{BEN.account}' and"
    for odd in ODD_ADDRESSES:
        left = {"from": f"see erased, x{odd} {odd}m {BEN.email}."}
        assert rows(conn, f"select search_context {by_ben} search_query = %s", (f"x{odd}",)) == [(left,)]
    assert value(conn, f"select count(*) {by_ben} search_query = 'erased'") == len(ODD_ADDRESSES)


def test_own_rows_with_control_characters_are_scrubbed(conn: Connection) -> None:
    """PostgreSQL writes them as \\u001f, before which an address must not swallow the u001f."""
    conn.execute(
        "update business_metrics_events set conversion_funnel = jsonb_build_object('a', E'\\x1f' || %s)", (TARO.email,)
    )
    asked = ask(conn, TARO)
    process(conn)
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    assert value(conn, "select conversion_funnel ->> 'a' from business_metrics_events") == "\x1ferased"


def test_a_ledger_row_about_the_person_or_a_visit_of_theirs_is_found(conn: Connection) -> None:
    """An address is written in any case. What a client may have called a chat could be anything's id: the row stays,
    and is told."""
    add_visit(conn, TARO, browser_session("third"), number=3)
    insert(conn, "chat_sessions", id=TARO.id("chat"), account_id=TARO.account)
    subjects = (browser_session("third"), str(TARO.account), TARO.email.upper(), str(TARO.user), str(TARO.id("chat")))
    for subject in subjects:
        about = {"entity_id": subject, "payload": {"said": f"by {TARO.email}", "title": "a trip"}}
        insert(conn, "audit_events", entity_type="thing", event_type="seen", **about)
    asked = ask(conn, TARO)
    process(conn)
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    assert rows(
        conn,
        "select entity_id, payload, count(*) from audit_events where entity_type = 'thing' group by 1, 2 order by 3",
    ) == [(str(TARO.id("chat")), {"said": "by erased", "title": "a trip"}, 1), ("erased", {}, 4)]
    left = value(conn, "select body -> 'left_with_others' from lifecycle.erasure_receipts")
    assert left == [{"column": "public.audit_events.entity_id", "rows": 1}]


def test_an_error_of_the_application_does_not_tell_the_value(conn: Connection) -> None:
    """Its trigger names the row that it refuses; the queue, the ledger and Slack must not."""
    conn.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'the profile of % (%) is locked', old.account_id, old.display_name; end $$"
    )
    conn.execute("create trigger refuse before delete on account_profiles for each row execute function refuse()")
    insert(conn, "account_profiles", account_id=TARO.account, display_name=TARO.email)
    assert_fails_by(conn, "PL/pgSQL function public.refuse raised an error (SQLSTATE P0001)")


def test_other_peoples_own_words_are_exempt_and_told(conn: Connection) -> None:
    cho = add_person(conn, "cho")
    said = {"role": "user", "content": f"{LONG} I met {TARO.email}", "sequence": 99}
    insert(conn, "chat_messages", session_id=cho.id("chat"), **said)
    asked = ask(conn, TARO)
    before = picture(conn)
    process(conn)
    assert job(conn, asked)["state"] == "verified"
    assert ("public.chat_messages.content", "exempt", 1) in rows(conn, FINDINGS, (["exempt"],))
    after = picture(conn)
    assert {key: text for key, text in before.items() if key[0] == "chat_messages"} == {
        key: text for key, text in after.items() if key[0] == "chat_messages"
    }
    receipt = value(conn, "select body -> 'exemptions' from lifecycle.erasure_receipts")
    assert "public.chat_messages.content" in {exemption["column"] for exemption in receipt}


def test_nobody_can_hold_up_anothers_erasure_by_naming_them(conn: Connection) -> None:
    """Whoever types somebody's address into their own form or profile must not keep that person from leaving."""
    insert(conn, "form_submissions", account_id=BEN.account, email=BEN.email, first_name=f"not {TARO.email}")
    insert(conn, "account_profiles", account_id=BEN.account, display_name=TARO.email, preferences={"by": TARO.email})
    insert(conn, "account_metadata", account_id=BEN.account, flags={"invited_by": str(TARO.account)})
    conn.execute("update accounts set onboarding_state = jsonb_build_object('by', %s::text)", (TARO.account,))
    asked = ask(conn, TARO)
    process(conn)
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    assert value(conn, "select preferences from account_profiles") == {"by": "erased"}


def test_what_somebody_typed_into_a_form_is_no_evidence(conn: Connection) -> None:
    """Neither whose address it is, nor that somebody else uses a confirmed one."""
    guest = {"email": "guest@mail.example", "first_name": "guest", "phone_number": "+81"}
    insert(conn, "form_submissions", id=BEN.id("guest"), **guest)
    insert(conn, "form_submissions", id=TARO.id("own"), account_id=TARO.account, email="guest@mail.example")
    insert(conn, "form_submissions", id=TARO.id("as guest"), email=TARO.email, first_name="taro")
    insert(conn, "form_submissions", id=BEN.id("strange"), account_id=BEN.account, email=TARO.email)
    asked = ask(conn, TARO)
    process(conn)
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    held = dict(rows(conn, "select id, array[email, first_name] from form_submissions"))
    assert held[BEN.id("guest")] == ["guest@mail.example", "guest"]
    assert held[TARO.id("own")] == held[TARO.id("as guest")] == ["erased", None]
    assert held[BEN.id("strange")] == [TARO.email, None]  # exempt, and told in the receipt


def test_an_address_that_was_never_confirmed_reaches_nothing(conn: Connection) -> None:
    """Anybody can sign up with somebody else's."""
    conn.execute("update auth.users set email = %s, email_confirmed_at = null where id = %s", (STRANGER, TARO.user))
    insert(conn, "form_submissions", email=STRANGER, first_name="ben")
    insert(conn, "search_queries", search_query=f"where is {STRANGER}?")
    asked = ask(conn, TARO)
    process(conn)
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    assert rows(conn, "select email, first_name from form_submissions") == [(STRANGER, "ben")]
    assert rows(conn, "select search_query from search_queries") == [(f"where is {STRANGER}?",)]


def test_materialized_views_forget_what_was_erased(conn: Connection) -> None:
    """One that shows what the person typed, one upon it, and one that names the person and that nobody declared."""
    insert(conn, "search_queries", account_id=TARO.account, search_query="my grandmother's house")
    conn.execute("refresh materialized view top_search_keywords")
    conn.execute("create materialized view upon as select search_query as q from top_search_keywords")
    conn.execute("create materialized view mirror as select account_id from search_queries")
    asked = ask(conn, TARO)
    process(conn)
    assert (job(conn, asked)["state"], job(conn, asked)["last_error"]) == ("verified", None)
    assert rows(conn, "select search_query from top_search_keywords where search_query ~ 'grandmother'") == []
    assert rows(conn, "select q from upon where q ~ 'grandmother'") == []
    assert rows(conn, "select account_id from mirror where account_id is not null") == []
