"""Callers of the API and rows of several people, to see who reaches what. Whose a row is, is said here in plain SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, value
from tests.people import ACTIVITY, Person, add_catalogue, add_person, insert

ANN, BEN, MIA, GUEST = Person("ann"), Person("ben"), Person("mia"), Person("guesty")

DENIED, AGAINST_POLICY, CONFLICT, IMPOSSIBLE = "denied", "against policy", "conflict", "impossible"

MY_SESSIONS: Final = "session_id in (select s.id from public.{} s where s.account_id = %(account)s)"
MY_VENDORS: Final = (
    "(select m.vendor_id from public.vendor_members m where m.account_id = %(account)s and m.status = 'active')"
)
# Whose rows are whose, where it is not the column account_id that says it.
OWN_ROWS: Final[Mapping[str, str]] = {
    "accounts": "id = %(account)s",
    "chat_messages": MY_SESSIONS.format("chat_sessions"),
    "chat_messages_archive": MY_SESSIONS.format("chat_sessions"),
    "chat_messages_recent": MY_SESSIONS.format("chat_sessions"),
    "quiz_answers": MY_SESSIONS.format("quiz_sessions"),
    "chat_session_summaries": MY_SESSIONS.format("chat_sessions"),
    "generated_activities": "chat_" + MY_SESSIONS.format("chat_sessions"),
    "recommendation_items": "run_id in (select r.id from public.recommendation_runs r"
    " where r.account_id = %(account)s)",
    "articles": "status = 'published'",
    "article_translations": "status = 'published'",
    "vouchers": "form_submission_id in (select f.id from public.form_submissions f where f.account_id = %(account)s)",
    "vendors": f"id in {MY_VENDORS}",
    "vendor_members": f"vendor_id in {MY_VENDORS}",
    "voucher_redemptions": "vendor_member_id in (select c.id from public.vendor_members c"
    f" where c.vendor_id in {MY_VENDORS})",
}


@dataclass(frozen=True)
class Caller:
    """What a token makes of its bearer: the database role and the claims; `person` has the rows that are his own."""

    role: str
    claims: Mapping[str, Any] = field(default_factory=dict)
    person: Person = GUEST


CALLERS: Final[Mapping[str, Caller]] = {
    "anon": Caller("anon"),
    "nobody": Caller("authenticated"),
    "person": Caller("authenticated", {"sub": str(ANN.user)}, ANN),
    "member": Caller("authenticated", {"sub": str(MIA.user)}, MIA),
    "ops": Caller("ops"),
    "service": Caller("service_role"),
}


def add_people(conn: Connection) -> None:
    """Ann and Ben, who are customers; Mia, a vendor's member; a guest, to whose account nobody signs in."""
    add_catalogue(conn)
    for person in (ANN, BEN, MIA, GUEST):
        add_person(conn, person.name)
        insert(conn, "data_deletion_requests", account_id=person.account)
    outsiders = [ANN.account, BEN.account, GUEST.account]
    conn.execute("delete from vendor_members where account_id = any (%s)", (outsiders,))
    conn.execute("delete from account_linkages where account_id = %s", (GUEST.account,))
    silk = uuid4()
    insert(conn, "vendors", id=silk, name="Silk")
    insert(conn, "vendor_members", id=BEN.id("silk"), vendor_id=silk, account_id=BEN.account, role="admin")
    insert(conn, "voucher_redemptions", voucher_id=BEN.id("booking/voucher"), vendor_member_id=BEN.id("silk"))
    tag = uuid4()
    insert(conn, "activity_tags", id=tag, slug="quiet", name="Quiet")
    insert(conn, "activity_tag_map", activity_id=ACTIVITY, tag_id=tag)
    insert(conn, "quiz_forms", published=True)
    insert(conn, "quiz_forms", published=False)
    category = uuid4()
    insert(conn, "activity_categories", id=category, slug="tea", name="Tea")
    insert(conn, "activity_category_map", activity_id=ACTIVITY, category_id=category)
    insert(conn, "activity_vendor_map", activity_id=ACTIVITY, vendor_id=silk, relationship_type="owner")
    insert(conn, "activity_assets", activity_id=ACTIVITY, asset_type="image", url="https://x.example/tea.jpg")
    insert(conn, "reviews", activity_id=ACTIVITY, account_id=ANN.account, rating=5)
    for status in ("published", "draft"):
        article = uuid4()
        insert(conn, "articles", id=article, slug=f"tea-{status}", title="Tea", body_mdx="tea", status=status)
        words = {"article_id": article, "language": "ja", "title": "Tea", "body_mdx": "tea"}
        insert(conn, "article_translations", **words, status=status)
        insert(conn, "article_versions", **words, version_number=1)


def condition(table: str) -> str:
    return OWN_ROWS.get(table, "account_id = %(account)s")


def columns(conn: Connection, schema: str, name: str) -> list[str]:
    """Columns that can be written."""
    found = conn.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
        " and attgenerated = '' and attidentity = '' order by attnum",
        (f'"{schema}"."{name}"',),
    )
    return [row[0] for row in found.fetchall()]


def own_count(conn: Connection, table: str, person: Person) -> int:
    """As the owner sees it: rows of this person."""
    found = f"select count(*) from public.{table} where {condition(table)}"
    return int(value(conn, found, {"account": person.account}))


def sample_row(conn: Connection, schema: str, name: str, person: Person) -> dict[str, Any]:
    """A row like one of this person's, or of anybody's where no row is a person's, with an id of its own."""
    target, row = sql.Identifier(schema, name), None
    if schema == "public" and (name in OWN_ROWS or "account_id" in columns(conn, schema, name)):
        query = sql.SQL("select to_jsonb(t) from {} t where {} limit 1").format(target, sql.SQL(condition(name)))
        row = conn.execute(query, {"account": person.account}).fetchone()
    row = row or conn.execute(sql.SQL("select to_jsonb(t) from {} t limit 1").format(target)).fetchone()
    found: dict[str, Any] = row[0] if row else {}
    return found | ({"id": str(uuid4())} if "id" in found and name != "accounts" else {})


def attempt(conn: Connection, statement: sql.SQL | sql.Composed, params: Mapping[str, Any] | None = None) -> int | str:
    """What comes of a statement, which is undone: rows seen or changed, or why not."""
    try:
        with conn.transaction(force_rollback=True):
            return conn.execute(statement, params).rowcount
    except psycopg.errors.InsufficientPrivilege as error:
        return AGAINST_POLICY if "row-level security" in str(error) else DENIED
    except psycopg.IntegrityError:  # comes after access was granted
        return CONFLICT
    except (
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.WrongObjectType,
        psycopg.errors.FeatureNotSupported,
    ):
        return IMPOSSIBLE


def insert_statement(schema: str, name: str, written: list[str]) -> sql.Composed:
    """Inserts a row given as JSON; asks for no other privilege than INSERT."""
    target, names = sql.Identifier(schema, name), sql.SQL(", ").join(map(sql.Identifier, written))
    return sql.SQL("insert into {0} ({1}) select {1} from jsonb_populate_record(null::{0}, %(row)s)").format(
        target, names
    )


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {"row": Jsonb(row)}
