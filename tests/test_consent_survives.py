"""Consent beside writers, failures, erasures, other editions of the application, and declarations that cannot be."""

import threading
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from lifecycle.checking.check import check_declarations
from lifecycle.consent.apply import AgainstConsent, apply_consents, rows_against_consent
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.consent import Consent
from lifecycle.errors import BusyError, RefreshError
from lifecycle.migrating.migrate import upgrade
from tests.conftest import MakeApplicationDb
from tests.consenting import AKI, BEN, DECISIONS, NOTHING, book, decide, referrers, seen, three_people, visit
from tests.declared import APPLICATION, WITHOUT_KEPT_VIEWS
from tests.docs_pages import ROOT, blocks
from tests.erasing import ask, job, process
from tests.partitioned import MakePartitionedDb
from tests.people import add_account

pytest_plugins = ("tests.partitioned_fixtures",)


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return three_people(make_application_db)


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
def test_what_cannot_be_declared(purpose: dict[str, Any], told: str) -> None:
    record = {"table": "a.b", "id": "i", "person": "p", "at": "t"}
    with pytest.raises(ValidationError, match=told):
        Consent.model_validate({"record": record, "purposes": {"x": purpose}})
