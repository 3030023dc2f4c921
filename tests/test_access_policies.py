"""Whatever is tampered with is found by a check and cured by `lifecycle migrate`, and the catalog is what it was."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from assets.access import CHECKS
from lifecycle.access.accepted import accept
from lifecycle.access.capability import ACCESS
from lifecycle.access.check import missing_objects, undeclared_objects
from lifecycle.access.declared import declared_access
from lifecycle.access.report import AccessReport, access_differences, access_report
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.access import AccessDeclarations
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from lifecycle.migrating.capabilities import declared_capabilities
from lifecycle.migrating.functions import apply_functions, function_files
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.undo import undo
from sandbox.application import clone_database, drop_database
from sandbox.server import SUPERUSER, Server
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import MakeApplicationDb, Templates
from tests.declared import APPLICATION, APPLICATION_FOLDER
from tests.partitioned import MakePartitionedDb

pytest_plugins = ("tests.partitioned_fixtures",)

DECLARED, OURS, ACCEPTED = "access_is_as_declared", "nothing_of_ours_is_exposed", "application_access_is_accepted"

# What is done, and what the check says of it.
NOT_AS_DECLARED = {
    "grant select on voucher_redemptions to public": "voucher_redemptions: public may SELECT",
    "grant insert, delete on vendors to authenticated": "vendors: authenticated may DELETE, INSERT",
    "grant update (name, metadata) on vendors to authenticated": "authenticated may UPDATE (name, metadata)",
    "grant truncate on chat_messages to anon": "chat_messages: anon may TRUNCATE",
    "grant trigger, references on accounts to authenticated": "accounts: authenticated may REFERENCES, TRIGGER",
    "grant select on vendors to authenticated with grant option": "authenticated may pass SELECT on",
    "grant all on account_linkages to anon with grant option": "anon may pass SELECT on, anon may DELETE",
    "grant select (account_id) on chat_usage_by_account to anon": "anon may SELECT (account_id)",
    "grant select on top_search_keywords to anon": "top_search_keywords: anon may SELECT",
    "grant select on chat_messages to ops": "chat_messages: ops may SELECT",
    "revoke select on audit_events from ops": "audit_events: ops may not SELECT",
    "revoke select on vendors from authenticated": "vendors: authenticated may not SELECT",
    "alter table user_behavior_events disable row level security": "user_behavior_events: row-level security is off",
    "alter table vendors disable row level security": "vendors: row-level security is off",
    'alter policy "lifecycle: select own rows" on search_queries using (true)': "is not as declared",
    'alter policy "lifecycle: select own vendors" on vendors to public': "is not as declared",
    'alter policy "lifecycle: insert as pending, in nobody else\'s name" on data_deletion_requests'
    " with check (status = 'pending')": "is not as declared",
    'drop policy "lifecycle: select the ledger" on audit_events': 'policy "lifecycle: select the ledger" is missing',
    'create policy "lifecycle: everything" on vendors using (true)': 'policy "lifecycle: everything" is not declared',
    'alter policy "Service role can manage vendors" on vendors to public': "is asked for every row of everybody",
    "alter view chat_messages_recent reset (security_invoker)": "reads as its owner, not as the caller",
    "grant execute on function run_daily_maintenance() to anon": "run_daily_maintenance(): anon may EXECUTE",
    "grant execute on function is_ops_role() to public": "public may EXECUTE",
    "revoke execute on function is_ops_role() from ops": "ops may not EXECUTE",
    "grant execute on function search_chat_titles(text, int) to authenticated with grant option": "pass EXECUTE on",
    "grant execute on function private.my_vendor_ids() to anon": "private.my_vendor_ids(): anon may EXECUTE",
    "revoke execute on function private.my_account_id() from authenticated": "authenticated may not EXECUTE",
}
OURS_EXPOSED = {
    "grant usage on schema lifecycle to anon": "schema lifecycle: anon has USAGE",
    "grant usage on schema private to public": "schema private: public has USAGE",
    "grant select on lifecycle.deletion_jobs to service_role": "lifecycle.deletion_jobs: service_role may SELECT",
    "grant select (id) on lifecycle.deletion_jobs to authenticated": "may SELECT (id)",
    "grant usage on sequence lifecycle.access_changes_id_seq to ops": "access_changes_id_seq: ops may USAGE",
    "grant execute on function lifecycle.record_storage() to public": "public may EXECUTE",
    "grant execute on function refresh_analytics_hourly(text) to anon": "anon may EXECUTE",
    "grant select on lifecycle.notifications to anon with grant option": "anon may SELECT",
    "alter function is_ops_role() reset search_path": "is_ops_role(): its search_path is not empty",
    "alter function refresh_derived_statistics(text) set search_path = public": "its search_path is not empty",
}


def snapshot(conn: Connection) -> set[str]:
    """What the owner may do by nature is written out by PostgreSQL once anybody else was granted anything."""
    return {re.sub(r" acl \{postgres=\w+/postgres\}", " acl ", line) for line in catalog_snapshot(conn)}


def told(report: AccessReport) -> dict[str, str]:
    """What fails, and what it says."""
    findings = {check.__name__: check(report) for check, _ in CHECKS[:3]}
    return {name: found.description for name, found in findings.items() if not found.passed}


@pytest.fixture(scope="module")
def shared(server: Server, templates: Templates) -> Iterator[str]:
    """A migrated database whose tests leave it as it was."""
    yield clone_database(server, templates(False, True, True), "tampered")
    drop_database(server, "tampered")


@pytest.fixture
def shared_conn(shared: str) -> Iterator[Connection]:
    """A transaction in that database, which is undone."""
    with connect(shared) as conn, conn.transaction(force_rollback=True):
        yield conn


def is_found_and_cured(url: str, statement: str, check: str, message: str) -> None:
    with connect(url) as conn:
        assert told(access_report(conn, APPLICATION)) == {}
        before = snapshot(conn)
        conn.execute(statement.encode())
        assert snapshot(conn) != before
        found = told(access_report(conn, APPLICATION))
        assert message in found[check]
        # What of a migration looks at access: functions, then grants and policies.
        capabilities = declared_capabilities(APPLICATION)
        list(apply_functions(conn, function_files(APPLICATION, capabilities), capabilities))
        list(ACCESS.objects(conn, APPLICATION))
        assert told(access_report(conn, APPLICATION)) == {}
        assert snapshot(conn) == before


@pytest.mark.parametrize("statement", list(NOT_AS_DECLARED))
def test_what_is_not_as_declared(shared: str, statement: str) -> None:
    is_found_and_cured(shared, statement, DECLARED, NOT_AS_DECLARED[statement])


@pytest.mark.parametrize("statement", list(OURS_EXPOSED))
def test_what_of_ours_is_exposed(shared: str, statement: str) -> None:
    is_found_and_cured(shared, statement, OURS, OURS_EXPOSED[statement])


def test_a_view_that_was_replaced_without_its_option(shared: str) -> None:
    with connect(shared) as conn:
        query = value(conn, "select pg_get_viewdef('chat_messages_recent'::regclass)")
    replaced = f"create or replace view chat_messages_recent as {query}"
    is_found_and_cured(shared, replaced, DECLARED, "reads as its owner, not as the caller")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("grant select on {} to anon", "anon may SELECT"),
        ("grant insert (session_id) on {} to authenticated", "authenticated may INSERT (session_id)"),
        ("alter table {} disable row level security", "row-level security is off"),
    ],
)
def test_partitions(make_partitioned_db: MakePartitionedDb, statement: str, message: str) -> None:
    url = make_partitioned_db()
    with connect(url) as conn:
        month = value(conn, "select to_char(now() at time zone 'UTC' + interval '1 month', 'YYYY_MM')")
    partition = f"event_partitions.user_behavior_events_{month}"
    is_found_and_cured(url, statement.format(partition), OURS, f"{partition}: {message}")


def test_what_was_passed_on_goes_too(make_application_db: MakeApplicationDb) -> None:
    """A grant option that was used: the owner's plain REVOKE would be refused for it, or leave the rest."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        before = catalog_snapshot(conn)
        conn.execute("grant delete on vendors to anon with grant option")
        conn.execute("grant select on vendors to authenticated with grant option")
        with conn.transaction():
            conn.execute("set local role anon")
            conn.execute("grant delete on vendors to authenticated")
        with conn.transaction():
            conn.execute("set local role authenticated")
            conn.execute("grant select on vendors to anon, public")
        upgrade(url, APPLICATION)
        # What anon had of its own goes with what it was given: the grantor is not the owner, both are one privilege.
        assert catalog_snapshot(conn) ^ before == set()
        assert told(access_report(conn, APPLICATION)) == {}


def test_what_another_role_granted_is_named(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("grant update on vendors to service_role with grant option")
        with conn.transaction():
            conn.execute("set local role service_role")
            conn.execute("grant update on vendors to authenticated")
        (line,) = [line for line in ACCESS.objects(conn, APPLICATION) if "relacl" in line]
        assert "public.vendors: authenticated may UPDATE" in line
        conn.execute("revoke grant option for update on vendors from service_role cascade")
        assert list(ACCESS.objects(conn, APPLICATION)) == []


def test_roles_that_may_more_than_a_policy_can_hold_back(
    make_application_db: MakeApplicationDb, server: Server
) -> None:
    url = make_application_db(rows=False, migrated=True)
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin, connect(url) as conn:
        try:
            admin.execute("alter role anon bypassrls")
            admin.execute("grant ops to authenticated")
            found = told(access_report(conn, APPLICATION))[OURS]
        finally:
            admin.execute("alter role anon nobypassrls")
            admin.execute("revoke ops from authenticated")
        assert "role anon: passes row-level security by" in found
        assert "role authenticated: is a member of ops" in found
        assert told(access_report(conn, APPLICATION)) == {}


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


UNDECLARED = {
    "create table diary (body text)": "diary: anon and authenticated may DELETE, INSERT, SELECT, TRUNCATE, UPDATE",
    "create table diary (body text); revoke all on diary from anon, authenticated;"
    "grant select (body) on diary to anon":
        "diary: anon may SELECT, without row-level security",
    "create view diary as select * from accounts": "and it reads with its owner's rights",
    "create materialized view diary as select * from accounts": "knows no row-level security",
    "create table diary (body text); alter table diary enable row level security": "by its own policies",
    "create function diary() returns bigint language sql security definer as 'select count(*) from accounts'":
        "diary(): runs with its owner's rights, and anon and authenticated may EXECUTE",
    "create schema api; grant usage on schema api to anon;"
    "create function api.diary() returns int language sql security definer as 'select 1'":
        "api.diary(): runs with its owner's rights, and anon may EXECUTE",
}  # fmt: skip


@pytest.mark.one_server
@pytest.mark.parametrize("statement", list(UNDECLARED))
def test_what_nobody_declared(shared_conn: Connection, statement: str) -> None:
    """In a project that opens every new table by itself."""
    conn = shared_conn
    conn.execute(statement.encode())
    list(ACCESS.objects(conn, APPLICATION))
    assert UNDECLARED[statement] in told(access_report(conn, APPLICATION))[ACCEPTED]


def test_an_undeclared_object_has_a_line_that_declares_it(shared_conn: Connection, tmp_path: Path) -> None:
    """With the proposed lines in access.yaml the check is green again, and what was open is closed."""
    conn = shared_conn
    conn.execute(
        "create table diary (account_id uuid, body text); create view diaries as select * from diary;"
        "create table guarded (account_id uuid); alter table guarded enable row level security;"
        "create policy own on guarded using (account_id = auth_account_id());"
        "create function peek() returns bigint language sql security definer as 'select count(*) from diary'"
    )
    found = undeclared_objects(conn, APPLICATION)
    assert {one.object: (one.section, one.line) for one in found} == {
        "public.diary": ("relations", "public.diary: {kind: closed}"),
        "public.diaries": ("relations", "public.diaries: {kind: statistic}"),
        "public.guarded": ("relations", "public.guarded: {kind: guarded}"),
        "public.peek()": ("routines", "public.peek: {roles: []}"),
    }
    shutil.copytree(APPLICATION_FOLDER, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "access.yaml").read_text("utf-8")
    for one in found:
        text = text.replace(f"\n{one.section}:\n", f"\n{one.section}:\n  {one.line}\n")
    (tmp_path / "access.yaml").write_text(text, "utf-8")
    extended = load_application(tmp_path)
    assert undeclared_objects(conn, extended) == ()
    list(ACCESS.objects(conn, extended))
    assert access_differences(conn, extended) == ()
    may = "select array(select n from unnest(array['diary', 'diaries', 'guarded']) n where {} order by 1)"
    assert value(conn, may.format("has_table_privilege('anon', n, 'select')")) == ["guarded"]
    assert value(conn, may.format("has_table_privilege('service_role', n, 'select')")) == [
        "diaries",
        "diary",
        "guarded",
    ]
    assert value(conn, "select has_function_privilege('anon', 'peek()', 'execute')") is False


def test_kinds_that_the_file_lacks_are_written_out(make_application_db: MakeApplicationDb) -> None:
    bare = Application(access=AccessDeclarations.model_validate({"relations": {"public.accounts": {"access": []}}}))
    with connect(make_application_db(rows=False)) as conn:
        lines = {found.object: found.line for found in undeclared_objects(conn, bare)}
    assert lines["public.reviews"] == "public.reviews: {row_security: true, access: []}"
    assert lines["public.daily_active_users"] == (
        "public.daily_active_users: {access: [{roles: [ops], verbs: [SELECT], rows: every row, granted: true}]}"
    )
    assert lines["public.chat_sessions"].endswith("rows: by the application's policies}]}")
    assert "public.accounts" not in lines


def test_what_is_declared_and_gone_is_told(shared_conn: Connection) -> None:
    conn = shared_conn
    assert missing_objects(conn, APPLICATION) == ()
    conn.execute("drop table reviews; drop view user_content_journey; drop function get_retention_rates()")
    list(ACCESS.objects(conn, APPLICATION))
    # The view is one that the application may lack.
    assert [found.object for found in missing_objects(conn, APPLICATION)] == [
        "public.reviews",
        "public.get_retention_rates",
    ]


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


def test_policies_of_ours_that_were_exchanged_are_missed(shared_conn: Connection) -> None:
    """Otherwise whoever drops ours and adds one that opens everything would pass for the application."""
    conn = shared_conn
    for (name,) in rows(conn, "select polname from pg_policy where polrelid = 'search_queries'::regclass"):
        conn.execute(sql.SQL("drop policy {} on search_queries").format(sql.Identifier(name)))
    conn.execute("create policy open on search_queries using (true)")
    found = told(access_report(conn, APPLICATION))
    assert 'policy "lifecycle: select own rows" is missing' in found[DECLARED]
    assert 'policy "open" is new' in found[ACCEPTED]


def test_the_way_back_keeps_what_was_repaired(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, auto_grant=False)
    with connect(url) as conn:
        before = {line for line in catalog_snapshot(conn) if "public.vendors " in line or "quiz_forms" in line}
        upgrade(url, APPLICATION)
        conn.execute("alter table vendors disable row level security")
        conn.execute("grant truncate on vendors, quiz_forms to anon")
        upgrade(url, APPLICATION)
        undo(url, APPLICATION, "access")
        assert {line for line in catalog_snapshot(conn) if "public.vendors " in line or "quiz_forms" in line} == before


def test_the_way_back_gives_columns_and_options_back_as_they_were(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, auto_grant=False)
    with connect(url) as conn:
        conn.execute("revoke all on vendors, vendor_members from anon, authenticated")
        conn.execute("grant update (name), insert (name, contact_email) on vendors to authenticated with grant option")
        conn.execute("grant select on vendor_members to authenticated with grant option")
        conn.execute("grant select (id), references (id) on vendor_members to public")
        wanted = ("relation public.vendor", "column public.vendor")
        before = {line for line in catalog_snapshot(conn) if line.startswith(wanted)}
        upgrade(url, APPLICATION)
        assert told(access_report(conn, APPLICATION)) == {}
        undo(url, APPLICATION, "access")
        assert {line for line in catalog_snapshot(conn) if line.startswith(wanted)} == before


def test_repeating_changes_nothing(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        upgrade(url, APPLICATION)
        kept = [f"select * from lifecycle.{name} order by 1, 2, 3" for name in ("access_changes", "accepted_access")]
        before = catalog_snapshot(conn), [rows(conn, query) for query in kept]
        upgrade(url, APPLICATION)
        assert (catalog_snapshot(conn), [rows(conn, query) for query in kept]) == before
