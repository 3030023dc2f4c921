"""Consent in the database: what a withdrawal does to rows, what a grant leaves alone, and who is named nowhere."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from lifecycle.checking.check import check_declarations
from lifecycle.consent.apply import AgainstConsent, apply_consents, rows_against_consent
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.consent import Consent
from lifecycle.declarations.segments import Watch
from lifecycle.errors import BusyError, RefreshError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.segments.refresh import refresh_segments
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, WITHOUT_KEPT_VIEWS
from tests.docs_pages import ROOT, blocks
from tests.erasing import ask, job, process
from tests.partitioned import MakePartitionedDb
from tests.people import Person, add_account, add_catalogue, insert

pytest_plugins = ("tests.partitioned_fixtures",)

AKI, BEN, CHO = Person("aki"), Person("ben"), Person("cho")
EVENTS = "select page_url, account_id, session_id, user_agent, actions from user_behavior_events order by page_url"
DECISIONS = "select purpose, given, count(*) from lifecycle.consent_decisions group by 1, 2 order by 1, 2"
LEDGER = "select payload - 'duration_ms' from audit_events where entity_id = 'apply_consents' order by created_at"
# A row that was written again, though nothing about it changed, is another version.
VERSIONS = """
select 'event', xmin::text, ctid::text from user_behavior_events
 union all select 'form', xmin::text, ctid::text from form_submissions
"""
NOTHING: dict[str, int] = {}


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    """Three people, and nobody who ever decided anything."""
    made = make_application_db(rows=False, migrated=True)
    with connect(made) as conn:
        add_catalogue(conn)
        for person in (AKI, BEN, CHO):
            add_account(conn, person)
    return made


def ago(hours: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours)


def decide(conn: Connection, person: Person, hours: float, **given: bool | str) -> None:
    """A decision of so many hours ago, about the purposes that are named."""
    insert(
        conn,
        "consent_history",
        account_id=person.account,
        consent_version="2.0",
        preferences={"necessary": True, **given},
        created_at=ago(hours),
    )


def visit(conn: Connection, person: Person, hours: float) -> None:
    """A page seen so many hours ago, named after both."""
    insert(
        conn,
        "user_behavior_events",
        account_id=person.account,
        session_id=person.visit,
        page_url=f"/{person.name}/{hours:03}",
        user_agent="Browser",
        actions=[{"typed": "x"}],
        created_at=ago(hours),
    )


def book(conn: Connection, person: Person, hours: float) -> None:
    insert(
        conn,
        "form_submissions",
        account_id=person.account,
        email=person.email,
        referrer="https://ad.example/",
        created_at=ago(hours),
    )


def seen(conn: Connection) -> dict[str, Any]:
    """By page: whose visit it is, None for nobody's."""
    found = {}
    for page, account, session, agent, actions in rows(conn, EVENTS):
        assert (account is None) == (session == "erased") == (agent is None) == (actions == [])
        found[page] = account
    return found


def referrers(conn: Connection) -> list[Any]:
    return [held for (held,) in rows(conn, "select referrer from form_submissions order by created_at")]


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


@pytest.mark.every_version
def test_in_the_database_alone_all_in_one_call(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False)
    visit(conn, AKI, 10)
    found = rows(conn, "select people, withdrawn, cleared, last, outcome, error from public.apply_consents()")
    assert found == [(1, {"analytics": 1}, {"public.user_behavior_events": 1}, None, "success", None)]
    assert rows_against_consent(conn) == ()


@pytest.mark.every_version
def test_the_sql_of_the_how_to_page_runs(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False)
    visit(conn, AKI, 10)
    for text in blocks(ROOT / "docs/how-to/consent.md", "sql"):
        if "cron.schedule" not in text:
            conn.execute(text.encode())
    assert list(seen(conn).values()) == [None]


@pytest.mark.every_version
def test_rows_against_consent_are_counted_and_the_youngest_wait(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False, marketing=False)
    for hours in (10, 1):
        visit(conn, AKI, hours)
    book(conn, AKI, 30)
    assert rows_against_consent(conn) == (
        AgainstConsent("analytics", "public.user_behavior_events", 2),
        AgainstConsent("marketing", "public.form_submissions", 1),
    )
    assert rows_against_consent(conn, "2 hours")[0].rows == 1
    decide(conn, AKI, 0.5, marketing=True)
    assert [each.purpose for each in rows_against_consent(conn)] == ["analytics"]
    decide(conn, AKI, 0.2, marketing=False)
    assert [each.purpose for each in rows_against_consent(conn)] == ["analytics", "marketing"]
    # The withdrawal of a moment ago is the next run's; what counts so long is the decision before.
    assert [each.purpose for each in rows_against_consent(conn, "18 minutes")] == ["analytics"]
    apply_consents(conn)
    assert rows_against_consent(conn) == ()


@pytest.mark.every_version
def test_a_writer_meanwhile_loses_nothing_and_is_met_by_the_next_run(conn: Connection, url: str) -> None:
    decide(conn, AKI, 20, analytics=False)
    visit(conn, AKI, 10)
    with connect(url, autocommit=False) as writer:
        visit(writer, AKI, 0.1)
        visit(writer, BEN, 0.1)
        assert apply_consents(conn).cleared == {"public.user_behavior_events": 1}
        writer.commit()
    assert apply_consents(conn).cleared == {"public.user_behavior_events": 1}
    assert seen(conn) == {"/aki/0.1": None, "/aki/010": None, "/ben/0.1": BEN.account}


def test_consent_given_anew_while_the_row_is_locked_is_seen(conn: Connection, url: str) -> None:
    """The row changes under a writer's lock; whoever cleared it by what was so before would lose the writer's words."""
    decide(conn, AKI, 20, analytics=False)
    visit(conn, AKI, 10)
    with connect(url, autocommit=False) as writer, connect(url) as other:
        writer.execute("update user_behavior_events set account_id = %s, page_url = '/moved'", (BEN.account,))
        runs: list[Any] = []
        thread = threading.Thread(target=lambda: runs.append(apply_consents(other)))
        thread.start()
        waits = "select exists (select from pg_locks where not granted and pid = %s)"
        while not value(conn, waits, (other.info.backend_pid,)):
            assert thread.is_alive()
        writer.commit()
        thread.join()
    assert runs[0].cleared == NOTHING
    assert seen(conn) == {"/moved": BEN.account}


@pytest.mark.every_version
def test_a_row_that_stays_locked_waits_and_two_runs_do_not_meet(conn: Connection, url: str) -> None:
    decide(conn, AKI, 20, analytics=False, marketing=False)
    visit(conn, AKI, 10)
    book(conn, AKI, 10)
    with connect(url, autocommit=False) as writer:
        writer.execute("select from user_behavior_events for update")
        with pytest.raises(BusyError, match="analytics"):
            apply_consents(conn)
        # The other purpose was carried out.
        assert referrers(conn) == [None]
        writer.rollback()
        writer.execute("select from public.apply_consents()")
        with pytest.raises(psycopg.errors.LockNotAvailable, match="another session"):
            apply_consents(conn)
        writer.commit()
    assert value(conn, "select count(*) from lifecycle.open_problems") == 0
    assert list(seen(conn).values()) == [None]


@pytest.mark.every_version
def test_a_purpose_that_fails_is_told_without_values_and_stops_no_other(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False, marketing=False)
    visit(conn, AKI, 10)
    book(conn, AKI, 10)
    conn.execute("alter table user_behavior_events add constraint odd check (session_id <> 'erased')")
    with pytest.raises(RefreshError, match=r"analytics: .*odd") as failed:
        apply_consents(conn)
    assert AKI.visit not in str(failed.value)
    assert referrers(conn) == [None]
    assert rows(conn, "select cause from lifecycle.open_problems") == [("analytics",)]
    assert rows(conn, DECISIONS) == [("marketing", False, 1)]
    conn.execute("alter table user_behavior_events drop constraint odd")
    assert apply_consents(conn).withdrawn == {"analytics": 1}
    assert rows(conn, "select cause from lifecycle.open_problems") == []


@pytest.mark.every_version
def test_one_who_was_erased_is_left_in_peace(conn: Connection) -> None:
    decide(conn, AKI, 20, analytics=False)
    visit(conn, AKI, 10)
    apply_consents(conn)
    request = ask(conn, AKI)
    process(conn)
    assert job(conn, request)["state"] == "verified"
    run = apply_consents(conn)
    assert (run.withdrawn, run.cleared) == (NOTHING, NOTHING)
    assert rows(conn, "select * from public.find_returned_personal_data()") == []


@pytest.mark.every_version
def test_the_december_application(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True, december=True)) as conn:
        held = rows_against_consent(conn)
        run = apply_consents(conn)
        assert run.people > 0
        assert sum(run.cleared.values()) == sum(each.rows for each in held) > 0
        assert rows_against_consent(conn) == ()


@pytest.mark.every_version
def test_converted_event_tables(make_partitioned_db: MakePartitionedDb) -> None:
    with connect(make_partitioned_db()) as conn:
        conn.execute("delete from user_behavior_events")
        add_account(conn, AKI)
        decide(conn, AKI, 20, analytics=False)
        for hours in (30, 10):
            visit(conn, AKI, hours)
        conn.execute("update user_behavior_events set event_timestamp = created_at - interval '1 month'")
        assert rows_against_consent(conn) == (AgainstConsent("analytics", "public.user_behavior_events", 1),)
        assert apply_consents(conn).cleared == {"public.user_behavior_events": 1}
        assert seen(conn) == {"/aki/010": None, "/aki/030": AKI.account}
        assert apply_consents(conn).cleared == NOTHING


@pytest.mark.every_version
def test_nothing_declared_gets_nothing(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    without = WITHOUT_KEPT_VIEWS.model_copy(update={"consent": None})
    upgrade(url, without)
    with connect(url) as conn:
        assert value(conn, "select to_regclass('lifecycle.consent_decisions') is null")
        assert value(conn, "select to_regproc('public.apply_consents') is null")
        nobody = Application().model_copy(update={"consent": APPLICATION.consent})
        told = [each.told for each in check_declarations(conn, nobody) if each.capability == "consent"]
    assert any("without personal_data.yaml" in each for each in told)


@pytest.mark.every_version
def test_what_is_declared_no_more_is_not_acted_on(conn: Connection, url: str) -> None:
    decide(conn, AKI, 20, analytics=False, marketing=False)
    visit(conn, AKI, 10)
    book(conn, AKI, 10)
    assert APPLICATION.consent is not None
    fewer = {name: held for name, held in APPLICATION.consent.purposes.items() if name != "analytics"}
    consent = APPLICATION.consent.model_copy(update={"purposes": fewer})
    upgrade(url, APPLICATION.model_copy(update={"consent": consent}))
    assert apply_consents(conn).withdrawn == {"marketing": 1}
    assert list(seen(conn).values()) == [AKI.account]
    gone = [each.object for each in check_declarations(conn, APPLICATION) if each.file == "consent.yaml"]
    assert gone == []


@pytest.mark.parametrize(
    ("purpose", "told"),
    [
        ({"given": "true", "withdrawal": "stop", "tables": {"a.b": {"by": "c", "set": {"d": None}}}}, "has no tables"),
        ({"given": "true", "withdrawal": "scrub all"}, "needs some"),
        (
            {"given": "true", "withdrawal": "scrub from then on", "tables": {"a.b": {"by": "c", "set": {"d": None}}}},
            "needs `time`",
        ),
    ],
)
@pytest.mark.every_version
def test_what_cannot_be_declared(purpose: dict[str, Any], told: str) -> None:
    record = {"table": "a.b", "id": "i", "person": "p", "at": "t"}
    with pytest.raises(ValidationError, match=told):
        Consent.model_validate({"record": record, "purposes": {"x": purpose}})
