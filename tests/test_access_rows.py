"""Which rows each person sees and may write: vendors' members, customers, guests, people who were erased."""

import json
from typing import Any

import psycopg
import pytest

from lifecycle.database import Connection, rows, value
from tests.access_vendors import (
    ANN,
    BEN,
    ERASED,
    GUEST,
    LEA,
    MIA,
    OLGA,
    REX,
    SILK,
    TEA,
    TOM,
    UNA,
    as_claimed,
    membership,
)
from tests.people import Person

pytest_plugins = ("tests.access_fixtures",)

EVENT = "insert into user_behavior_events (account_id, session_id, page_url) values (%s, 's', '/')"
INSERTS = {
    "user_behavior_events": EVENT,
    "business_metrics_events": EVENT.replace("user_behavior_events", "business_metrics_events"),
    "search_queries": "insert into search_queries (account_id, search_query) values (%s, 'tea')",
    "consent_history": "insert into consent_history (account_id, consent_version, preferences) values (%s, '1', '{}')",
    "data_deletion_requests": "insert into data_deletion_requests (account_id, request_reason) values (%s, 'please')",
}
NAMES_NOBODY = ("user_behavior_events", "business_metrics_events", "search_queries")


def signed_in(url: str, person: Person) -> Any:
    return as_claimed(url, "authenticated", json.dumps({"role": "authenticated", "sub": str(person.user)}))


def seen(conn: Connection, query: str) -> set[Any]:
    return {row[0] for row in rows(conn, query)}


ALL_OF_TEA = [membership(TEA, person) for person in (MIA, TOM, REX, UNA, LEA)]
REDEEMED_AT_TEA = [person.id(f"redemption/{TEA}") for person in (MIA, TOM, LEA)]
ALL_OF_SILK = [membership(SILK, person) for person in (MIA, OLGA)]
REDEEMED_AT_SILK = [person.id(f"redemption/{SILK}") for person in (MIA, OLGA)]


@pytest.mark.parametrize(
    ("person", "vendors", "members", "redemptions"),
    [
        (MIA, [TEA, SILK], ALL_OF_TEA + ALL_OF_SILK, REDEEMED_AT_TEA + REDEEMED_AT_SILK),
        (TOM, [TEA], ALL_OF_TEA, REDEEMED_AT_TEA),
        (UNA, [TEA], ALL_OF_TEA, REDEEMED_AT_TEA),
        (OLGA, [SILK], ALL_OF_SILK, REDEEMED_AT_SILK),
        # The application's own policy lets people see their membership, whatever has become of it.
        (REX, [], [membership(TEA, REX)], []),
        (LEA, [], [membership(TEA, LEA)], []),
        (ANN, [], [], []),
        (Person("unknown"), [], [], []),
    ],
    ids=lambda found: found.name if isinstance(found, Person) else "",
)
def test_members_see_their_vendors(
    vendors_url: str, person: Person, vendors: list[Any], members: list[Any], redemptions: list[Any]
) -> None:
    with signed_in(vendors_url, person) as conn:
        assert seen(conn, "select id from vendors") == set(vendors)
        assert seen(conn, "select id from vendor_members") == set(members)
        assert seen(conn, "select id from voucher_redemptions") == set(redemptions)
        # A vendor's member is nobody else elsewhere: customers' bookings stay closed.
        assert seen(conn, "select id from vouchers") == ({ANN.id("voucher")} if person == ANN else set())


def test_a_membership_that_names_an_account_is_not_the_sign_ins(vendors_url: str) -> None:
    with psycopg.connect(vendors_url) as conn:
        conn.execute(
            "insert into vendor_members (vendor_id, account_id, supabase_user_id, role) values (%s, %s, %s, 'admin')",
            (SILK, TOM.account, ANN.user),
        )
        become(conn, ANN)
        assert seen(conn, "select id from vendors") == set()
        become(conn, TOM)
        assert seen(conn, "select id from vendors") == {TEA, SILK}
        conn.rollback()


def become(conn: Connection, person: Person) -> None:
    """In the owner's transaction, so that what it wrote is undone with it."""
    claims = json.dumps({"role": "authenticated", "sub": str(person.user)})
    conn.execute(
        "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)", (claims,)
    )


@pytest.mark.parametrize("table", list(INSERTS))
def test_people_see_their_own_rows(vendors_url: str, table: str) -> None:
    with psycopg.connect(vendors_url) as conn:
        for person in (ANN, BEN, GUEST):
            conn.execute(INSERTS[table].encode(), (person.account,))
        become(conn, BEN)
        assert seen(conn, f"select account_id from {table}") == {BEN.account}
        become(conn, UNA)
        assert seen(conn, f"select account_id from {table}") == set()
        conn.rollback()


@pytest.mark.parametrize("table", list(INSERTS))
@pytest.mark.parametrize(
    ("caller", "account", "accepted"),
    [
        (ANN, ANN.account, True),
        (ANN, BEN.account, False),
        (ANN, GUEST.account, True),
        (ANN, ERASED.account, False),
        (ANN, Person("unknown").account, False),
        (ANN, None, True),
        (None, GUEST.account, True),
        (None, ANN.account, False),
        (None, ERASED.account, False),
        (None, None, True),
    ],
)
def test_nobody_writes_in_somebody_elses_name(
    vendors_url: str, table: str, caller: Person | None, account: Any, accepted: bool
) -> None:
    with signed_in(vendors_url, caller) if caller else as_claimed(vendors_url, "anon", '{"role": "anon"}') as conn:
        if account is None and table not in NAMES_NOBODY:
            with pytest.raises((psycopg.errors.NotNullViolation, psycopg.errors.InsufficientPrivilege)):
                conn.execute(INSERTS[table].encode(), (account,))
        elif accepted:
            assert conn.execute(INSERTS[table].encode(), (account,)).rowcount == 1
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                conn.execute(INSERTS[table].encode(), (account,))


@pytest.mark.parametrize(
    ("column", "content", "accepted"),
    [
        ("status", "pending", True),
        ("status", "processing", False),
        ("status", "completed", False),
        ("status", "failed", False),
        ("requested_at", "now", True),
        # Long ago would skip the days of grace; at infinity the queue's report cannot even say when it is due.
        ("requested_at", "2020-01-01", False),
        ("requested_at", "2999-01-01", False),
        ("requested_at", "infinity", False),
        ("requested_at", "-infinity", False),
        ("processed_at", "now", False),
        ("completed_at", "now", False),
        ("processed_by", "me", False),
    ],
)
@pytest.mark.parametrize("person", [ANN, None], ids=["person", "guest"])
def test_requests_for_deletion_come_in_as_new_ones(
    vendors_url: str, person: Person | None, column: str, content: str, accepted: bool
) -> None:
    statement = f"insert into data_deletion_requests (account_id, {column}) values (%s, %s)".encode()
    account = (person or GUEST).account
    with signed_in(vendors_url, person) if person else as_claimed(vendors_url, "anon", "{}") as conn:
        if accepted:
            assert conn.execute(statement, (account, content)).rowcount == 1
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                conn.execute(statement, (account, content))


@pytest.mark.parametrize("verb", ["update {} set account_id = account_id", "delete from {}", "truncate {}"])
@pytest.mark.parametrize("table", list(INSERTS))
def test_what_was_reported_stays(vendors_url: str, table: str, verb: str) -> None:
    with signed_in(vendors_url, ANN) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege, match="denied"):
        conn.execute(verb.format(table).encode())


USER = str(ANN.user)
NO_CLAIMS = [
    None,
    "",
    "junk",
    "null",
    "[]",
    f'["{USER}"]',
    f'"{USER}"',
    "1",
    "{}",
    '{"sub": null}',
    '{"sub": ""}',
    '{"sub": "x"}',
    '{"sub": 5}',
    f'{{"sub": ["{USER}"]}}',
    f'{{"sub": "{USER}; drop"}}',
    f'{{"sub": "{USER}\\n"}}',
    f'{{"SUB": "{USER}"}}',
    f'{{"user_metadata": {{"sub": "{USER}", "role": "ops"}}, "app_metadata": {{"role": "ops"}}}}',
    '{"sub": "\\u0000"}',
    f'{{"sub": "{USER}"',
]
OF_SOMEBODY = ("vendors", "vendor_members", "voucher_redemptions", "account_linkages", *INSERTS, "audit_events")


def number_seen(conn: Connection, table: str) -> int:
    """Zero too when the application's own helper finds fault with the claims."""
    try:
        with conn.transaction():
            return int(value(conn, f"select count(*) from {table}"))
    except psycopg.DataError:
        return 0


@pytest.mark.parametrize("claims", NO_CLAIMS)
def test_claims_that_are_none_give_nothing(vendors_url: str, claims: str | None) -> None:
    with as_claimed(vendors_url, "authenticated", claims) as conn:
        assert {table: number_seen(conn, table) for table in OF_SOMEBODY} == dict.fromkeys(OF_SOMEBODY, 0)
        with conn.transaction(force_rollback=True):
            assert conn.execute(EVENT, (None,)).rowcount == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            conn.execute(EVENT, (ANN.account,))
    with as_claimed(vendors_url, "ops", claims) as conn:
        assert value(conn, "select count(*) from audit_events") == 0


@pytest.mark.parametrize("claims", ['{"role": "ops"}', '{"role": "ops", "sub": "x"}'])
def test_the_ledger_is_for_ops(vendors_url: str, claims: str) -> None:
    with as_claimed(vendors_url, "ops", claims) as conn:
        assert value(conn, "select count(*) from audit_events") > 0
    # The claim alone is nothing: the login role became somebody else.
    for role in ("authenticated", "anon"):
        with as_claimed(vendors_url, role, claims) as conn:
            assert number_seen(conn, "audit_events") == 0
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="chat_usage_by_account"):
                conn.execute("select from chat_usage_by_account")


@pytest.mark.parametrize(
    "role", ['"role": "service_role"', '"role": ["ops"]', '"role": "OPS"', '"app_metadata": {"role": "ops"}']
)
def test_other_claims_do_not_make_ops(vendors_url: str, role: str) -> None:
    with as_claimed(vendors_url, "ops", f"{{{role}}}") as conn:
        assert value(conn, "select count(*) from audit_events") == 0
