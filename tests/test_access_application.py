"""Access while the application changes: told until accepted, what of ours pins it, tables that it guards itself."""

import psycopg
import pytest

from lifecycle.access.accepted import accept
from lifecycle.access.capability import ACCESS
from lifecycle.access.declared import declared_access
from lifecycle.access.report import access_differences, access_report
from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from tests.access_told import ACCEPTED, told
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

pytest_plugins = ("tests.access_fixtures",)


APPLICATION_CHANGES = {
    'alter policy "Accounts can view own account" on accounts using (true)': 'view own account" was:',
    'drop policy "Accounts can view own chat messages" on chat_messages': "is gone; it was:",
    "create policy everybody on accounts for select using (true)": 'policy "everybody" is new:',
    "revoke update on accounts from authenticated": "what authenticated may do was: DELETE, INSERT, SELECT, UPDATE",
    'comment on policy "lifecycle: select own rows" on search_queries is null': "",
}


@pytest.mark.one_server
@pytest.mark.parametrize("statement", list(APPLICATION_CHANGES))
def test_what_the_application_changed_is_told_until_it_is_accepted(shared_conn: Connection, statement: str) -> None:
    conn = shared_conn
    conn.execute(statement.encode())
    list(ACCESS.objects(conn, APPLICATION))  # no business of ours to change
    message = APPLICATION_CHANGES[statement]
    found = told(access_report(conn, APPLICATION))
    assert found.keys() == ({ACCEPTED} if message else set())
    assert message in found.get(ACCEPTED, "")
    accept(conn, declared_access(APPLICATION), everything=True)
    assert told(access_report(conn, APPLICATION)) == {}


def test_a_condition_that_no_longer_fits_leaves_the_table_closed_and_the_rest_goes_on(
    shared_conn: Connection,
) -> None:
    conn = shared_conn
    conn.execute("alter table search_queries drop column account_id cascade; grant delete on vendors to anon")
    lines = list(ACCESS.objects(conn, APPLICATION))
    assert 'column "account_id" does not exist' in next(line for line in lines if "search_queries" in line)
    assert value(conn, "select has_table_privilege('anon', 'vendors', 'delete')") is False
    assert value(conn, "select relrowsecurity from pg_class where oid = 'search_queries'::regclass") is True
    assert rows(conn, "select polname from pg_policy where polrelid = 'search_queries'::regclass") == []
    (finding,) = access_differences(conn, APPLICATION)
    assert finding.object == "public.search_queries"


PINNED = {
    # Key columns that a policy of ours names: PostgreSQL refuses, and access.md has the recipe.
    "alter table search_queries alter account_id type text": psycopg.errors.FeatureNotSupported,
    "alter table search_queries drop account_id": psycopg.errors.DependentObjectsStillExist,
    "alter table vendor_members alter vendor_id type text": psycopg.errors.FeatureNotSupported,
    # An index of ours on an expression, or with an operator class, that the new type has not; drop it before.
    "alter table chat_sessions alter title drop default, alter title type bytea using title::bytea":
        psycopg.errors.UndefinedFunction,
    "alter table data_deletion_requests alter requested_at drop default, alter requested_at type text": None,
    "alter table data_deletion_requests drop processed_by": None,
    "alter table data_deletion_requests alter status drop default, alter status type text;"
    "drop type deletion_request_status": None,
    "alter table vendor_members alter status type varchar(20)": None,
    "alter table accounts alter status drop default, alter status type text": None,
    "alter table search_queries rename account_id to person": None,
    "alter table search_queries rename to searches": None,
    "drop table search_queries cascade": None,
    "alter table search_queries drop search_query cascade": None,
    "drop function auth_account_id() cascade": None,
}  # fmt: skip


@pytest.mark.parametrize("statement", list(PINNED))
def test_what_policies_and_indexes_of_ours_pin(shared_conn: Connection, statement: str) -> None:
    refused = PINNED[statement]
    conn = shared_conn
    if refused:
        with pytest.raises(refused):
            conn.execute(statement.encode())
    else:
        conn.execute(statement.encode())


@pytest.mark.every_version
def test_a_table_that_the_application_guards_itself_is_left_to_it(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        conn.execute("alter table search_queries enable row level security")
        conn.execute("create policy mine on search_queries for select using (account_id = auth_account_id())")
        upgrade(url, APPLICATION)
        names = "select polname::text from pg_policy where polrelid = 'search_queries'::regclass"
        assert rows(conn, names) == [("mine",)]
        report = access_report(conn, APPLICATION)
        assert told(report) == {}
        (row,) = [row for row in report.matrix if row.object == "public.search_queries"]
        assert row.access["authenticated"] == "SELECT, INSERT, UPDATE, DELETE by the application's policies"
