"""What the tests of consent share: people, their decisions and what they leave behind."""

from datetime import UTC, datetime, timedelta
from typing import Any

from lifecycle.database import Connection, connect, rows
from tests.conftest import MakeApplicationDb
from tests.people import Person, add_account, add_catalogue, insert

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


def three_people(make_application_db: MakeApplicationDb) -> str:
    """A migrated database with three people, and nobody who ever decided anything; its URL."""
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
