"""Ways around: what a signed-in person tries to see or become more, as SQL behind the API's login role."""

import json
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from sandbox.server import SUPERUSER, Server
from tests.access_vendors import ANN, BEN, GUEST, MIA, NOTE_OF_TEA, OLGA, SILK, TEA, as_claimed, membership
from tests.people import Person

pytest_plugins = ("tests.access_fixtures",)
Denied = psycopg.errors.InsufficientPrivilege


def signed_in(url: str, person: Person) -> Any:
    return as_claimed(url, "authenticated", json.dumps({"role": "authenticated", "sub": str(person.user)}))


def refused(conn: Connection, statement: str, params: Any = None) -> str:
    """The message with which a statement is refused for want of a right."""
    with pytest.raises(Denied) as caught, conn.transaction():
        conn.execute(statement.encode(), params)
    return str(caught.value)


BECOME_A_MEMBER = (
    "insert into vendor_members (vendor_id, account_id, role) values (%(tea)s, %(ann)s, 'admin')",
    "insert into vendor_members (vendor_id, supabase_user_id, role) values (%(tea)s, %(user)s, 'admin')",
    "update vendor_members set account_id = %(ann)s where vendor_id = %(tea)s",
    "update vendor_members set status = 'active'",
    "delete from vendor_members",
    "insert into account_linkages (account_id, supabase_user_id, provider_type) values (%(mia)s, %(user)s, 'other')",
    "update account_linkages set account_id = %(mia)s where supabase_user_id = %(user)s",
    "delete from account_linkages",
    "merge into account_linkages l using (select 1) s on l.supabase_user_id = %(user)s"
    " when matched then update set account_id = %(mia)s",
    "insert into voucher_redemptions (voucher_id) values (%(voucher)s)",
    "update vendors set name = 'mine'",
    "select from vendors for update",
    "select from voucher_redemptions for key share",
    "lock table vendors in access exclusive mode",
    "alter table voucher_redemptions disable row level security",
    "create policy mine on voucher_redemptions using (true)",
    "grant select on chat_usage_by_account to anon",
    "create table public.mine ()",
    "create function public.mine() returns int return 1",
    "alter role authenticated bypassrls",
    "grant ops to authenticated",
)


@pytest.mark.parametrize("person", [ANN, MIA], ids=["person", "member"])
@pytest.mark.parametrize("statement", BECOME_A_MEMBER)
def test_nobody_makes_himself_more(vendors_url: str, person: Person, statement: str) -> None:
    known = {
        "tea": TEA,
        "ann": ANN.account,
        "mia": MIA.account,
        "user": person.user,
        "voucher": ANN.id("voucher"),
    }
    with signed_in(vendors_url, person) as conn:
        refused(conn, statement, known)


@pytest.mark.parametrize(
    "call",
    [
        "private.my_vendor_ids()",
        "private.my_account_id()",
        "private.is_guest_account(gen_random_uuid())",
        "private.claims()",
        "lifecycle.keyed_hash('x')",
        "public.is_ops_role()",
    ],
)
def test_helpers_cannot_be_named(vendors_url: str, call: str) -> None:
    with signed_in(vendors_url, MIA) as conn:
        assert "permission denied for" in refused(conn, f"select {call}")
        # Nor handed to somebody who can.
        if call.startswith("private.my_vendor"):
            with pytest.raises(Denied), conn.transaction():
                conn.execute("create aggregate pg_temp.a (uuid) (sfunc = private.my_vendor_ids, stype = uuid)")


def test_the_roles_of_the_api_become_nobody_else(vendors_url: str, server: Server) -> None:
    """As the roles themselves: the login role may become each of them, which is what it is for."""
    url = server.url(vendors_url.rpartition("/")[2], user=SUPERUSER)
    for role in ("anon", "authenticated", "ops"):
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(sql.SQL("set session authorization {}").format(sql.Identifier(role)))
            for other in ("anon", "authenticated", "ops", "service_role", "postgres", "authenticator", SUPERUSER):
                if other != role:
                    refused(conn, f"set role {other}")
            refused(conn, "set session_replication_role = replica")


def test_row_security_cannot_be_switched_off(vendors_url: str) -> None:
    with signed_in(vendors_url, MIA) as conn:
        conn.execute("set local row_security = off")
        for table in ("vendors", "voucher_redemptions", "user_behavior_events", "chat_messages"):
            assert "row-level security" in refused(conn, f"select from {table}")


def test_reading_by_other_ways(vendors_url: str) -> None:
    ben = {"chat": BEN.id("chat"), "old": BEN.id("old_chat"), "visit": BEN.visit}
    with signed_in(vendors_url, ANN) as conn:
        for query in (
            "select from chat_messages where session_id = %(chat)s",
            "select from chat_messages_recent where session_id = %(chat)s",
            "select from chat_messages_archive where session_id = %(old)s",
            "select from archived_chat_messages(%(old)s)",
            "select from user_behavior_events where session_id = %(visit)s",
        ):
            assert conn.execute(query.encode(), ben).fetchall() == [], query
        own = {"chat": ANN.id("chat"), "old": ANN.id("old_chat")}
        assert conn.execute("select from archived_chat_messages(%(old)s)", own).fetchall() != []
        assert conn.execute("select from chat_messages_recent where session_id = %(chat)s", own).fetchall() != []
        # A visit's name is no key: neither somebody else's nor one's own.
        for visit in (ANN.visit, BEN.visit):
            refused(conn, "select from session_replay_events where session_id = %s", (visit,))
        for name in ("lifecycle.original_chat_usage_by_account", "event_partitions.x", "auth.users", "pg_authid"):
            refused(conn, f"select from {name}")


def test_what_comes_back_from_an_insert(vendors_url: str) -> None:
    event = "insert into user_behavior_events (account_id, session_id, page_url) values (%s, 's', '/') returning id"
    with signed_in(vendors_url, ANN) as conn:
        assert conn.execute(event.encode(), (ANN.account,)).fetchone() is not None
        # Whoever may not read a row does not get it back, either.
        assert "row-level security" in refused(conn, event, (None,))
        assert "row-level security" in refused(conn, event, (GUEST.account,))
    with as_claimed(vendors_url, "anon", "{}") as conn:
        assert "denied" in refused(conn, event, (None,))


def test_conflicts_tell_and_change_nothing(vendors_url: str) -> None:
    with connect(vendors_url) as owner:
        taken = rows(owner, "select id from search_queries where account_id = %s", (BEN.account,))[0][0]
    search = "insert into search_queries (id, account_id, search_query) values (%s, %s, 'mine') on conflict (id) do "
    with signed_in(vendors_url, ANN) as conn:
        assert "denied" in refused(conn, search + "update set search_query = 'mine'", (taken, ANN.account))
        assert conn.execute((search + "nothing returning search_query").encode(), (taken, ANN.account)).fetchall() == []


def test_copy(vendors_url: str) -> None:
    with signed_in(vendors_url, OLGA) as conn:
        with conn.cursor().copy("copy voucher_redemptions (id) to stdout") as copy:
            ids = set(b"".join(copy).decode().split())
        assert ids == {str(MIA.id(f"redemption/{SILK}")), str(OLGA.id(f"redemption/{SILK}"))}
        for statement in ("copy session_replay_events to stdout", "copy chat_usage_by_account to stdout"):
            with pytest.raises(Denied), conn.transaction():
                conn.execute(statement.encode())
    with signed_in(vendors_url, OLGA) as conn, pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute("copy user_behavior_events (session_id) from stdin")


def test_a_prepared_statement_is_the_present_callers(vendors_url: str) -> None:
    """A pool hands one session to many people, and a generic plan outlives each of them."""

    def call(conn: Connection, role: str, person: Person | None) -> list[Any]:
        claims = json.dumps({"sub": str(person.user)} if person else {})
        conn.execute("select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)", (role, claims))
        return [row[0] for row in rows(conn, "execute mine")]

    with signed_in(vendors_url, MIA) as conn:
        conn.execute("set local plan_cache_mode = force_generic_plan")
        conn.execute("prepare mine as select id from vendors order by 1")
        assert call(conn, "authenticated", MIA) == sorted([TEA, SILK])
        assert call(conn, "authenticated", OLGA) == [SILK]
        assert call(conn, "anon", MIA) == []
        assert call(conn, "authenticated", None) == []
        assert call(conn, "authenticated", MIA) == sorted([TEA, SILK])


TELLS = """
create function pg_temp.tells(content text) returns boolean language plpgsql cost 0.0000001
as $$ begin raise notice '%', content; return true; end $$
"""


def test_functions_of_the_reader_see_allowed_rows_only(vendors_url: str) -> None:
    told: list[str] = []
    with signed_in(vendors_url, OLGA) as conn:
        conn.add_notice_handler(lambda found: told.append(found.message_primary or ""))
        conn.execute(TELLS)
        for query in (
            "select from voucher_redemptions where pg_temp.tells(scan_context ->> 'note')",
            "select from vendors where pg_temp.tells(name)",
            "select from vendor_members where pg_temp.tells(id::text) and vendor_id is not null",
            "select from vendors join vendor_members m on m.vendor_id = vendors.id and pg_temp.tells(vendors.name)",
            "select from chat_messages_recent where pg_temp.tells(content)",
            "select from user_behavior_events where pg_temp.tells(page_url)",
        ):
            conn.execute(query.encode())
        # An error instead of a notice.
        dividing = (
            "select from voucher_redemptions where 1 / (case scan_context ->> 'note' when %s then 0 else 1 end) > 0"
        )
        conn.execute(dividing.encode(), (NOTE_OF_TEA,))
    own = {str(membership(SILK, MIA)), str(membership(SILK, OLGA)), "silk", "Silk"}
    assert set(told) == own


def test_what_the_caller_makes_does_not_stand_in_for_tables(vendors_url: str) -> None:
    with signed_in(vendors_url, ANN) as conn:
        before = value(conn, "select count(*) from public.user_behavior_events")
        conn.execute("create temp table account_linkages (account_id uuid, supabase_user_id uuid)")
        conn.execute("create temp table vendor_members (id uuid, vendor_id uuid, account_id uuid, status text)")
        conn.execute("insert into pg_temp.account_linkages values (%s, %s)", (BEN.account, ANN.user))
        conn.execute(
            "insert into pg_temp.vendor_members values (%s, %s, %s, 'active')", (ANN.id("x"), TEA, ANN.account)
        )
        conn.execute("grant all on pg_temp.account_linkages, pg_temp.vendor_members to public")
        conn.execute('create function pg_temp.claims() returns jsonb return \'{"role": "ops"}\'::jsonb')
        conn.execute("set local search_path = pg_temp, public")
        owners = rows(conn, "select distinct account_id from public.user_behavior_events")
        assert (owners, value(conn, "select count(*) from public.user_behavior_events")) == ([(ANN.account,)], before)
        assert value(conn, "select count(*) from public.vendors") == 0


def test_errors_do_not_tell_who_exists(vendors_url: str) -> None:
    """The same words for an account that signs in and for one that never was: neither is a key to find the other by."""
    event = "insert into user_behavior_events (account_id, session_id, page_url) values (%s, 's', '/')"
    with as_claimed(vendors_url, "anon", "{}") as conn:
        assert refused(conn, event, (BEN.account,)) == refused(conn, event, (Person("unknown").account,))


def test_plans_and_statistics_tell_nothing(vendors_url: str) -> None:
    with connect(vendors_url) as owner:
        owner.execute("analyze")
    with signed_in(vendors_url, ANN) as conn:
        for table in ("voucher_redemptions", "vendors", "user_behavior_events"):
            assert value(conn, "select count(*) from pg_stats where tablename = %s", (table,)) == 0
        assert value(conn, "select count(*) from pg_stats where schemaname in ('lifecycle', 'event_partitions')") == 0
