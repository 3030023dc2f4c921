"""What each caller sees is what a plain model of memberships says; helpers of policies are asked once, not per row."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.database import Connection, connect, rows, value
from tests.access_vendors import ANN, MIA, as_claimed
from tests.conftest import MakeApplicationDb
from tests.partitioned import MakePartitionedDb
from tests.people import NAMES

pytest_plugins = ("tests.access_fixtures", "tests.partitioned_fixtures")

VENDORS = [uuid5(NAMES, f"vendor {number}") for number in range(3)]
ACCOUNTS = [uuid5(NAMES, f"account {number}") for number in range(4)]
USERS = [uuid5(NAMES, f"user {number}") for number in range(4)]


class Membership(NamedTuple):
    vendor: int
    account: int | None
    user: int | None
    status: str


MEMBERSHIPS = st.lists(
    st.builds(
        Membership,
        vendor=st.integers(0, 2),
        account=st.none() | st.integers(0, 3),
        user=st.none() | st.integers(0, 3),
        status=st.sampled_from(["active", "active", "removed", "invited", "Active"]),
    ),
    max_size=8,
    unique_by=lambda member: (member.vendor, member.account) if member.account is not None else (uuid4(),),
)
# Of which membership each redemption is: none too, and one that is long gone.
REDEMPTIONS = st.lists(st.none() | st.integers(0, 9), max_size=8)


def expected(memberships: list[Membership], redemptions: list[int | None], linked: list[bool], caller: int) -> Any:
    """Numbers of the vendors, memberships and redemptions that this caller sees."""
    by_account = [m for m in memberships if linked[caller] and m.account == caller]
    by_user = [m for m in memberships if m.account is None and m.user == caller]
    vendors = {m.vendor for m in by_account + by_user if m.status == "active"}
    members = {number for number, m in enumerate(memberships) if m.vendor in vendors}
    scanned = {number for number, member in enumerate(redemptions) if member in members}
    # The application's own policy: one's own memberships, whatever has become of them.
    return vendors, members | {number for number, m in enumerate(memberships) if m in by_account}, scanned


@pytest.fixture(scope="module")
def model_conn(vendors_url: str) -> Iterator[Connection]:
    with psycopg.connect(vendors_url) as conn:
        conn.execute("delete from vendors")
        conn.execute("delete from voucher_redemptions")
        conn.execute("delete from account_linkages")
        for vendor, account in zip(VENDORS, ACCOUNTS[:3], strict=True):
            conn.execute("insert into vendors (id, name) values (%s, 'x')", (vendor,))
            conn.execute("insert into accounts (id) values (%s)", (account,))
        conn.execute("insert into accounts (id) values (%s)", (ACCOUNTS[3],))
        yield conn
        conn.rollback()


def fill(conn: Connection, memberships: list[Membership], redemptions: list[int | None], linked: list[bool]) -> None:
    for account, user, is_linked in zip(ACCOUNTS, USERS, linked, strict=True):
        if is_linked:
            conn.execute("insert into account_linkages (account_id, supabase_user_id) values (%s, %s)", (account, user))
    for number, member in enumerate(memberships):
        conn.execute(
            "insert into vendor_members (id, vendor_id, account_id, supabase_user_id, role, status)"
            " values (%s, %s, %s, %s, 'staff', %s)",
            (
                UUID(int=number),
                VENDORS[member.vendor],
                None if member.account is None else ACCOUNTS[member.account],
                None if member.user is None else USERS[member.user],
                member.status,
            ),
        )
    for number, scanned_by in enumerate(redemptions):
        conn.execute(
            "insert into voucher_redemptions (id, voucher_id, vendor_member_id) values (%s, %s, %s)",
            (UUID(int=number), ANN.id("voucher"), None if scanned_by is None else UUID(int=scanned_by)),
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(memberships=MEMBERSHIPS, redemptions=REDEMPTIONS, linked=st.lists(st.booleans(), min_size=4, max_size=4))
def test_everybody_sees_what_the_model_says(
    model_conn: Connection, memberships: list[Membership], redemptions: list[int | None], linked: list[bool]
) -> None:
    with model_conn.transaction(force_rollback=True):
        fill(model_conn, memberships, redemptions, linked)
        for caller, user in enumerate(USERS):
            with model_conn.transaction(force_rollback=True):
                claims = json.dumps({"role": "authenticated", "sub": str(user)})
                model_conn.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
                model_conn.execute("set local role authenticated")
                seen = (
                    {VENDORS.index(row[0]) for row in rows(model_conn, "select id from vendors")},
                    {row[0].int for row in rows(model_conn, "select id from vendor_members")},
                    {row[0].int for row in rows(model_conn, "select id from voucher_redemptions")},
                )
            assert seen == expected(memberships, redemptions, linked, caller)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def explained(conn: Connection, query: str) -> list[dict[str, Any]]:
    return list(nodes(value(conn, f"explain (analyze, verbose, format json) {query}")[0]["Plan"]))


def asked_once(found: list[dict[str, Any]], helper: str) -> bool:
    """Whether a policy's helper was called in a plan of its own, once, and nowhere else."""
    alone = [node for node in found if node.get("Parent Relationship") == "InitPlan"]
    inside = [node for start in alone for node in nodes(start)]
    asking = [node for node in inside if helper in str({k: v for k, v in node.items() if k != "Plans"})]
    others = [node for node in found if not any(node is one for one in inside)]
    per_row = [node for node in others if helper in str({k: v for k, v in node.items() if k != "Plans"})]
    assert not [node for node in found if node.get("Parent Relationship") == "SubPlan"]
    return bool(asking) and all(node["Actual Loops"] <= 1 for node in asking) and per_row == []


def test_helpers_are_asked_once_of_the_vendors_tables(vendors_url: str) -> None:
    claims = json.dumps({"role": "authenticated", "sub": str(MIA.user)})
    with as_claimed(vendors_url, "authenticated", claims) as conn:
        for table, helper in (
            ("voucher_redemptions", "my_vendor_member_ids"),
            ("vendors", "my_vendor_ids"),
            ("vendor_members", "my_vendor_ids"),
            ("account_linkages", "my_user_id"),
        ):
            assert asked_once(explained(conn, f"select * from {table}"), helper), table
    with as_claimed(vendors_url, "ops", '{"role": "ops"}') as conn:
        assert asked_once(explained(conn, "select * from audit_events"), "is_ops_role")


def test_helpers_are_asked_once_of_many_partitions(make_partitioned_db: MakePartitionedDb) -> None:
    url = make_partitioned_db()
    with connect(url) as owner:
        account = value(owner, "select min(id::text)::uuid from accounts")
        owner.execute(
            "insert into account_linkages (account_id, supabase_user_id) values (%s, %s)", (account, ANN.user)
        )
        owner.execute(
            "insert into user_behavior_events (account_id, session_id, page_url, event_timestamp)"
            " select case when i %% 100 = 0 then %s::uuid end, 's', '/', now() - i * interval '1 hour'"
            " from generate_series(1, 3000) i",
            (account,),
        )
        owner.execute("analyze user_behavior_events")
        kept = value(owner, "select count(*) from user_behavior_events where account_id = %s", (account,))
    claims = json.dumps({"role": "authenticated", "sub": str(ANN.user)})
    with as_claimed(url, "authenticated", claims) as conn:
        assert value(conn, "select count(*) from user_behavior_events") == kept > 30
        found = explained(conn, "select * from user_behavior_events")
        assert asked_once(found, "my_account_id")
        # The condition is one that the index on account_id answers, in a partition with rows to choose from.
        assert any("account_id" in str(node.get("Index Cond")) for node in found)


def test_the_bare_helper_would_be_asked_per_row(make_application_db: MakeApplicationDb) -> None:
    """So that the tests above can fail."""
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as owner:
        owner.execute("insert into search_queries (search_query) select 'tea' from generate_series(1, 100)")
        owner.execute('drop policy "lifecycle: select own rows" on search_queries')
        owner.execute("create policy bare on search_queries using (account_id = private.my_account_id())")
    with as_claimed(url, "authenticated", json.dumps({"sub": str(ANN.user)})) as conn:
        assert not asked_once(explained(conn, "select * from search_queries"), "my_account_id")
