"""Vendors and the people around them; the fixture is in access_fixtures.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID, uuid5

import psycopg
from sqlalchemy import make_url

from lifecycle.database import Connection
from tests.people import ACTIVITY, NAMES, Person, add_account, add_conversation, add_visit, insert

TEA, SILK = uuid5(NAMES, "vendor tea"), uuid5(NAMES, "vendor silk")
# Both vendors; one; removed; the other one; known by the sign-in only; left, with redemptions; customers.
MIA, TOM, REX, OLGA, UNA, LEA, ANN, BEN = map(Person, ("mia", "tom", "rex", "olga", "una", "lea", "ann", "ben"))
GUEST, ERASED = Person("guesty"), Person("erased")
NOTE_OF_TEA: Final = "note of tea"


def membership(vendor: UUID, person: Person) -> UUID:
    return person.id(f"membership/{vendor}")


def add_member(
    conn: Connection, vendor: UUID, person: Person, status: str = "active", *, by_user: bool = False
) -> None:
    insert(
        conn,
        "vendor_members",
        id=membership(vendor, person),
        vendor_id=vendor,
        account_id=None if by_user else person.account,
        supabase_user_id=person.user,
        role="staff",
        status=status,
    )


def add_redemption(conn: Connection, vendor: UUID, person: Person, note: str) -> None:
    insert(
        conn,
        "voucher_redemptions",
        id=person.id(f"redemption/{vendor}"),
        voucher_id=ANN.id("voucher"),
        vendor_member_id=membership(vendor, person),
        scan_context={"note": note},
    )


def add_vendors(conn: Connection) -> None:
    insert(conn, "activities", id=ACTIVITY, slug="tea", title="Tea")
    for person in (MIA, TOM, REX, OLGA, LEA, ANN, BEN):
        add_account(conn, person)
    insert(conn, "auth.users", id=UNA.user, email=UNA.email)
    insert(conn, "accounts", id=GUEST.account)
    insert(conn, "accounts", id=ERASED.account, status="deleted")
    for vendor, name in ((TEA, "Tea"), (SILK, "Silk")):
        insert(conn, "vendors", id=vendor, name=name)
    insert(conn, "form_submissions", id=ANN.id("form"), account_id=ANN.account, email=ANN.email)
    insert(conn, "vouchers", id=ANN.id("voucher"), form_submission_id=ANN.id("form"), voucher_code="V1")
    add_member(conn, TEA, MIA)
    add_member(conn, SILK, MIA)
    add_member(conn, TEA, TOM)
    add_member(conn, TEA, REX, "removed")
    add_member(conn, SILK, OLGA)
    add_member(conn, TEA, UNA, by_user=True)
    add_member(conn, TEA, LEA, "removed")
    for vendor, person in ((TEA, MIA), (SILK, MIA), (TEA, TOM), (SILK, OLGA), (TEA, LEA)):
        add_redemption(conn, vendor, person, NOTE_OF_TEA if vendor == TEA else "silk")
    insert(conn, "voucher_redemptions", id=ANN.id("nobody"), voucher_id=ANN.id("voucher"))
    insert(conn, "audit_events", entity_type="account", entity_id="x", event_type="y")
    for person in (ANN, BEN):
        add_visit(conn, person, person.visit)
        add_conversation(conn, person)


@contextmanager
def as_claimed(url: str, role: str, claims: str | None) -> Iterator[Connection]:
    """One transaction of the API's login role, with claims exactly as given; it is rolled back."""
    login = make_url(url).set(drivername="postgresql", username="authenticator")
    with psycopg.connect(login.render_as_string(hide_password=False)) as conn:
        if claims is not None:
            conn.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        conn.execute("select set_config('role', %s, true)", (role,))
        yield conn
        conn.rollback()
