"""Access in December: tables without row-level security that hold personal data, and one that took an older name."""

import json
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest

from lifecycle.access.capability import ACCESS
from lifecycle.access.check import missing_objects, undeclared_objects
from lifecycle.access.report import access_differences
from lifecycle.database import Connection, connect, value
from lifecycle.indexes.check import index_differences
from sandbox.application import apply_december
from tests.access_vendors import as_claimed
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.people import Person, add_account, insert

ANN: Final = Person("ann")
BEN: Final = Person("ben")
CLAIMS: Final = json.dumps({"role": "authenticated", "sub": str(ANN.user)})
DWELL: Final = (
    "insert into page_dwell_events (account_id, session_id, page_url, page_path, enter_at, leave_at,"
    " total_duration_ms, active_duration_ms) values (%s, 's', '/', '/', now(), now(), 1, 1)"
)


def add_rows(conn: Connection) -> None:
    for person in (ANN, BEN):
        add_account(conn, person)
        insert(conn, "quiz_sessions", id=person.id("quiz"), account_id=person.account)
        insert(conn, "account_utm_attributions", account_id=person.account)
        insert(conn, "booking_leads", place_id="x", place_name="x", full_name=person.name, email=person.email)
        conn.execute(DWELL.encode(), (person.account,))


def seen(conn: Connection, table: str) -> int:
    return int(value(conn, f"select count(*) from {table}"))


def refused(conn: Connection, statement: str, account: UUID | None = None) -> str:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught, conn.transaction():
        conn.execute(statement.encode(), (account,) if account else None)
    return str(caught.value)


@pytest.mark.every_version
@pytest.mark.parametrize("adopted", ["in November", "in December"])
def test_december(make_application_db: MakeApplicationDb, adopted: str) -> None:
    if adopted == "in November":
        url = make_application_db(rows=False, migrated=True)
        apply_december(url)
    else:
        url = make_application_db(rows=False, december=True, migrated=True)
    with connect(url) as conn:
        assert undeclared_objects(conn, APPLICATION) == missing_objects(conn, APPLICATION) == ()
        assert index_differences(conn, APPLICATION) == ()
        lines = list(ACCESS.objects(conn, APPLICATION))
        assert any("public.quiz_sessions" in line for line in lines) is (adopted == "in November")
        assert (list(ACCESS.objects(conn, APPLICATION)), access_differences(conn, APPLICATION)) == ([], ())
        add_rows(conn)
    with as_claimed(url, "authenticated", CLAIMS) as conn:
        for table in ("quiz_sessions", "account_utm_attributions", "page_dwell_events"):
            assert (table, seen(conn, table)) == (table, 1)
        assert conn.execute(DWELL.encode(), (ANN.account,)).rowcount == 1
        assert "row-level security" in refused(conn, DWELL, BEN.account)
        for statement in (
            "select from booking_leads",
            "select from daily_kpi_summary",
            "select from page_dwell_summary",
            "update quiz_sessions set status = status",
            "delete from page_dwell_events",
            "select refresh_daily_kpi_summary()",
        ):
            assert "denied" in refused(conn, statement)
    with as_claimed(url, "anon", '{"role": "anon"}') as conn:
        assert "denied" in refused(conn, "select from quiz_sessions")
        assert conn.execute(DWELL.encode(), (None,)).rowcount == 1
    with as_claimed(url, "ops", '{"role": "ops"}') as conn:
        assert seen(conn, "page_dwell_summary") >= 0
        assert "denied" in refused(conn, "select from quiz_sessions")
    with as_claimed(url, "service_role", '{"role": "service_role"}') as conn:
        assert (seen(conn, "booking_leads"), seen(conn, "quiz_sessions")) == (2, 2)
        conn.execute("insert into quiz_sessions (id, account_id) values (%s, %s)", (uuid4(), ANN.account))
