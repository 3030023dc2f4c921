"""Whatever is tampered with is found by a check and cured by `lifecycle migrate`, and the catalog is what it was."""

import re

import psycopg
import pytest
from psycopg import sql

from lifecycle.access.capability import ACCESS
from lifecycle.access.exposures import own_exposures
from lifecycle.access.report import access_report
from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.capabilities import declared_capabilities
from lifecycle.migrating.functions import apply_functions, function_files
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.undo import undo
from sandbox.server import SUPERUSER, Server
from tests.access_told import ACCEPTED, DECLARED, OURS, told
from tests.catalog_snapshot import catalog_snapshot
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.partitioned import MakePartitionedDb

pytest_plugins = ("tests.access_fixtures", "tests.partitioned_fixtures")


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
def test_what_is_not_as_declared(tampered_url: str, statement: str) -> None:
    is_found_and_cured(tampered_url, statement, DECLARED, NOT_AS_DECLARED[statement])


@pytest.mark.parametrize("statement", list(OURS_EXPOSED))
def test_what_of_ours_is_exposed(tampered_url: str, statement: str) -> None:
    is_found_and_cured(tampered_url, statement, OURS, OURS_EXPOSED[statement])


def test_a_view_that_was_replaced_without_its_option(tampered_url: str) -> None:
    with connect(tampered_url) as conn:
        query = value(conn, "select pg_get_viewdef('chat_messages_recent'::regclass)")
    replaced = f"create or replace view chat_messages_recent as {query}"
    is_found_and_cured(tampered_url, replaced, DECLARED, "reads as its owner, not as the caller")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("grant select on {} to anon", "anon may SELECT"),
        ("grant insert (session_id) on {} to authenticated", "authenticated may INSERT (session_id)"),
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


def test_policies_of_ours_that_were_exchanged_are_missed(shared_conn: Connection) -> None:
    """Otherwise whoever drops ours and adds one that opens everything would pass for the application."""
    conn = shared_conn
    for (name,) in rows(conn, "select polname from pg_policy where polrelid = 'search_queries'::regclass"):
        conn.execute(sql.SQL("drop policy {} on search_queries").format(sql.Identifier(name)))
    conn.execute("create policy open on search_queries using (true)")
    found = told(access_report(conn, APPLICATION))
    assert 'policy "lifecycle: select own rows" is missing' in found[DECLARED]
    assert 'policy "open" is new' in found[ACCEPTED]


@pytest.mark.every_version
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


@pytest.mark.every_version
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


def test_a_partition_beside_its_table_needs_row_level_security(make_application_db: MakeApplicationDb) -> None:
    """Where the API may look, the lock of the table has to be that of its partitions; ours lie where it may not."""
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        conn.execute(
            "create table visits (at date) partition by list (at); create table visit partition of visits default"
        )
        told = "row-level security is off, and the table it is a partition of has it"
        assert [each for each in own_exposures(conn, None) if each.told == told] == []
        conn.execute("alter table visits enable row level security")
        (found,) = (each for each in own_exposures(conn, None) if each.told == told)
        assert found.object == "public.visit"
        conn.execute(f"{found.cure}".encode())
        assert [each for each in own_exposures(conn, None) if each.told == told] == []
