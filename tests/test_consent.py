"""Consent in the database: what a withdrawal does to rows, what a grant leaves alone, and who is named nowhere."""

import psycopg
import pytest

from lifecycle.consent.apply import apply_consents
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.segments import Watch
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.segments.refresh import refresh_segments
from tests.conftest import MakeApplicationDb
from tests.consenting import (
    AKI,
    BEN,
    CHO,
    DECISIONS,
    LEDGER,
    NOTHING,
    VERSIONS,
    book,
    decide,
    seen,
    three_people,
    visit,
)
from tests.declared import APPLICATION
from tests.people import insert


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return three_people(make_application_db)


def test_a_withdrawal_clears_what_was_written_while_it_stood(conn: Connection) -> None:
    decide(conn, AKI, 30, analytics=True)
    decide(conn, AKI, 20, analytics=False)
    decide(conn, AKI, 18, analytics=False)
    for hours in (25, 19, 10):
        visit(conn, AKI, hours)
        visit(conn, BEN, hours)
    run = apply_consents(conn)
    assert (run.people, run.withdrawn, run.granted) == (1, {"analytics": 1}, NOTHING)
    assert run.cleared == {"public.user_behavior_events": 2}
    assert seen(conn) == {
        "/aki/010": None,
        "/aki/019": None,
        "/aki/025": AKI.account,
        **{f"/ben/{hours:03}": BEN.account for hours in (10, 19, 25)},
    }


def test_a_new_grant_keeps_what_comes_after_it(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False)
    decide(conn, AKI, 10, analytics=True)
    for hours in (25, 15, 5):
        visit(conn, AKI, hours)
    run = apply_consents(conn)
    # What was written without consent is cleared though consent was given since.
    assert run.cleared == {"public.user_behavior_events": 1}
    assert run.granted == {"analytics": 1}
    assert seen(conn) == {"/aki/005": AKI.account, "/aki/015": None, "/aki/025": AKI.account}
    decide(conn, AKI, 1, analytics=False)
    visit(conn, AKI, 0.5)
    assert apply_consents(conn).withdrawn == {"analytics": 1}
    assert seen(conn)["/aki/0.5"] is None
    assert seen(conn)["/aki/005"] == AKI.account


def test_scrub_all_goes_back_to_the_first_row_and_ends_with_a_grant(conn: Connection) -> None:
    for person in (AKI, BEN):
        decide(conn, person, 30, marketing=True)
        book(conn, person, 29)
        decide(conn, person, 20, marketing=False)
        book(conn, person, 19)
    decide(conn, BEN, 10, marketing=True)
    run = apply_consents(conn)
    assert (run.withdrawn, run.granted) == ({"marketing": 1}, {"marketing": 1})
    assert run.cleared == {"public.form_submissions": 2}
    held = rows(conn, "select account_id, count(referrer), count(*) from form_submissions group by 1")
    assert {account: counts for account, *counts in held} == {AKI.account: [0, 2], BEN.account: [2, 2]}


def test_purposes_do_not_touch_each_other_and_stop_changes_no_row(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=True, marketing=False, personalization=False)
    decide(conn, BEN, 20, analytics=False, marketing=True, personalization=True)
    for person in (AKI, BEN):
        visit(conn, person, 10)
        book(conn, person, 10)
        insert(conn, "account_profiles", account_id=person.account, preferences={"segments": {"tags": []}})
    profiles = rows(conn, "select * from account_profiles order by account_id")
    run = apply_consents(conn)
    assert run.withdrawn == {"analytics": 1, "marketing": 1, "personalization": 1} == run.granted
    assert seen(conn) == {"/aki/010": AKI.account, "/ben/010": None}
    assert value(conn, "select referrer from form_submissions where account_id = %s", (AKI.account,)) is None
    assert value(conn, "select count(referrer) from form_submissions") == 1
    assert rows(conn, "select * from account_profiles order by account_id") == profiles
    asked = "select lifecycle.has_withdrawn(%s, %s)"
    answers = {
        (purpose, person.name): value(conn, asked, (purpose, str(person.account)))
        for purpose in ("analytics", "personalization")
        for person in (AKI, BEN, CHO)
    }
    assert {key for key, withdrawn in answers.items() if withdrawn} == {
        ("personalization", "aki"),
        ("analytics", "ben"),
    }
    with pytest.raises(psycopg.DataError, match="no purpose advertising"):
        conn.execute(asked, ("advertising", str(AKI.account)))


@pytest.mark.every_version
def test_stop_ends_processing_that_asks_the_record(conn: Connection, url: str) -> None:
    """As the how-to page says: the condition of the segments asks it, and a source of theirs watches it."""
    declared = APPLICATION.segments
    target = declared.targets[0].model_copy(
        update={"consent": "not lifecycle.has_withdrawn('personalization', target.account_id::text)"}
    )
    (name, taste), *others = declared.tastes.items()
    record = QualifiedName("public", "consent_history")
    watching = taste.model_copy(update={"watches": {**taste.watches, record: Watch(account="account_id")}})
    segments = declared.model_copy(update={"targets": (target,), "tastes": {name: watching, **dict(others)}})
    upgrade(url, APPLICATION.model_copy(update={"segments": segments}))
    insert(conn, "activity_tags", slug="vegan", name="Vegan")
    quiz = AKI.id("quiz")
    insert(conn, "quiz_sessions", id=quiz, account_id=AKI.account, status="completed")
    insert(
        conn,
        "quiz_results",
        session_id=quiz,
        account_id=AKI.account,
        result_type="travel_type",
        dietary_preferences=["vegan"],
    )
    insert(conn, "account_profiles", account_id=AKI.account)
    held = "select preferences #>> '{segments,tags,0,slug}' from account_profiles"
    decide(conn, AKI, 20, personalization=True)
    refresh_segments(conn)
    assert value(conn, held) == "vegan"
    decide(conn, AKI, 10, personalization=False)
    assert apply_consents(conn).withdrawn == {"personalization": 1}
    refresh_segments(conn)
    assert value(conn, held) is None
    decide(conn, AKI, 5, personalization=True)
    refresh_segments(conn)
    assert value(conn, held) == "vegan"


def test_who_never_decided_and_a_record_that_says_nothing_of_a_purpose(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False)
    decide(conn, AKI, 10)  # of an older form, without the purpose
    decide(conn, BEN, 20, analytics="yes")  # what is not true is no consent
    for person in (AKI, BEN, CHO):
        visit(conn, person, 5)
    run = apply_consents(conn)
    assert run.withdrawn == {"analytics": 2}
    assert seen(conn) == {"/aki/005": None, "/ben/005": None, "/cho/005": CHO.account}
    assert rows(conn, DECISIONS) == [("analytics", False, 2)]


def test_a_rerun_does_nothing(conn: Connection) -> None:
    for person in (AKI, BEN, CHO):
        decide(conn, person, 20, analytics=False, marketing=False)
        visit(conn, person, 10)
        book(conn, person, 10)
    first = apply_consents(conn, batch_size=2)
    assert first.people == 3
    assert first.cleared == {"public.user_behavior_events": 3, "public.form_submissions": 3}
    before = rows(conn, VERSIONS)
    ledger = rows(conn, LEDGER)
    again = apply_consents(conn, batch_size=1)
    assert (again.people, again.withdrawn, again.granted, again.cleared) == (3, NOTHING, NOTHING, NOTHING)
    assert rows(conn, VERSIONS) == before
    assert rows(conn, LEDGER) == ledger
    decide(conn, AKI, 1, analytics=False)  # said again: nothing new
    assert apply_consents(conn).withdrawn == NOTHING


def test_the_ledger_and_the_decisions_name_nobody(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False)
    decide(conn, BEN, 20, analytics=True)
    visit(conn, AKI, 10)
    apply_consents(conn)
    assert rows(conn, LEDGER) == [
        ({"withdrawn": {"analytics": 1}, "granted": {"analytics": 1}, "rows": {"public.user_behavior_events": 1}},)
    ]
    subject = value(conn, "select lifecycle.keyed_hash(%s)", (str(AKI.account),))
    assert (subject,) in rows(conn, "select subject from lifecycle.consent_decisions where not given")
    everything = str(rows(conn, "select d::text from lifecycle.consent_decisions d")) + str(rows(conn, LEDGER))
    assert [word for word in (*AKI.words, *BEN.words) if word in everything] == []
