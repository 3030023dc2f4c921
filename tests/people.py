"""People with rows in every table of the map of personal data; erasing.py erases them.

Every row of a person has an id that is made of the person's name, so that a test knows whose row it is without asking
the code under test.
"""

import gzip
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, value

NAMES = UUID("6d8f9f0e-3c53-4a3e-9d0c-5f1b1d7a9c11")
ACTIVITY = uuid5(NAMES, "activity")
VENDOR = uuid5(NAMES, "vendor")
BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"
CONFIRMED = datetime(2026, 1, 1, tzinfo=UTC)


def browser_session(of: str) -> str:
    """A session's name as the application's browsers make it: milliseconds and nine characters, here of a word."""
    drawn = uuid5(NAMES, f"session/{of}").int
    return f"sess_{1_700_000_000_000 + drawn % 10**11}_" + "".join(
        BASE_36[drawn // 36**place % 36] for place in range(9)
    )


@dataclass(frozen=True)
class Person:
    """Somebody with an account; `visit` is the browser session in which nobody else was."""

    name: str

    def id(self, what: str) -> UUID:
        """The id of one of this person's things, such as `account` or `user_behavior_events/1`."""
        return uuid5(NAMES, f"{self.name}/{what}")

    @property
    def account(self) -> UUID:
        return self.id("account")

    @property
    def user(self) -> UUID:
        return self.id("user")

    @property
    def email(self) -> str:
        return f"{self.name}@mail.example"

    @property
    def visit(self) -> str:
        return browser_session(self.name)

    @property
    def words(self) -> tuple[str, ...]:
        """What the person would be recognised by anywhere, in lower case."""
        ids = ("account", "user", "chat", "old_chat", "quiz", "run", "draft")
        return (self.email, self.visit, *(str(self.id(what)) for what in ids))


def insert(conn: Connection, table: str, **columns: Any) -> None:
    """Insert one row; a dict or a list is JSON, but for a column of type text[], a tuple."""
    values = {
        name: Jsonb(content)
        if isinstance(content, dict | list)
        else list(content)
        if isinstance(content, tuple)
        else content
        for name, content in columns.items()
    }
    conn.execute(
        sql.SQL("insert into {} ({}) values ({})").format(
            sql.Identifier(*table.split(".")),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(map(sql.Placeholder, values)),
        ),
        values,
    )


def add_catalogue(conn: Connection) -> None:
    """An activity, and a vendor that has an admin of its own."""
    insert(conn, "activities", id=ACTIVITY, slug="tea", title="Tea")
    insert(conn, "vendors", id=VENDOR, name="Tea house", contact_email="tea@vendor.example")
    admin = Person("admin")
    insert(conn, "accounts", id=admin.account)
    insert(
        conn, "vendor_members", id=admin.id("vendor_members"), vendor_id=VENDOR, account_id=admin.account, role="admin"
    )


def add_account(conn: Connection, person: Person) -> None:
    """The account with its sign-in, and nothing else."""
    insert(conn, "accounts", id=person.account, onboarding_state={"step": 2})
    insert(conn, "auth.users", id=person.user, email=person.email, email_confirmed_at=CONFIRMED)
    insert(conn, "account_linkages", account_id=person.account, supabase_user_id=person.user)


def add_visit(
    conn: Connection, person: Person, session: str, *, signed_in: bool = True, number: int = 1, days_ago: int = 1
) -> None:
    """One row in each table of a browser session; ids of an anonymous visit are of the person, too."""
    account = person.account if signed_in else None
    what = f"{session}/{'own' if signed_in else 'anonymous'}/{number}"
    moment = value(conn, "select date_trunc('hour', now()) - make_interval(days => %s)", (days_ago,))
    insert(
        conn,
        "user_behavior_events",
        id=person.id(f"behaviour/{what}"),
        account_id=account,
        session_id=session,
        event_timestamp=moment,
        page_url=f"/tea?to={person.email.replace('@', '%40')}#top",
        user_agent=f"Browser of {person.name}",
        referrer=f"https://x.example/?u={person.account}",
        actions=[{"typed": person.email}],
        engagement={"timeOnPage": 12, "scrollDepth": 3, "who": person.name},
    )
    insert(
        conn,
        "business_metrics_events",
        id=person.id(f"business/{what}"),
        account_id=account,
        session_id=session,
        event_timestamp=moment,
        page_url="/tea",
        experience_slug="tea",
        revenue_metrics={"amount": 1200, "by": person.email},
        user_journey={"who": person.email},
    )
    insert(
        conn,
        "search_queries",
        id=person.id(f"search/{what}"),
        account_id=account,
        session_id=session,
        search_query=f"tea near {person.name}",
        searched_at=moment,
    )
    insert(
        conn,
        "session_replay_events",
        id=person.id(f"replay/{what}"),
        session_id=session,
        timestamp=moment,
        event_type="input",
        event_data={"typed": person.email},
    )


def add_conversation(conn: Connection, person: Person) -> None:
    """A chat of today, an older one in the archive, a draft made in it and one to be saved by somebody else."""
    insert(conn, "chat_sessions", id=person.id("chat"), account_id=person.account, title=f"Trip of {person.name}")
    insert(conn, "chat_sessions", id=person.id("old_chat"), account_id=person.account, title="Older")
    for number, (role, content) in enumerate([("user", f"mail {person.email}"), ("assistant", "tea"), ("tool", "{}")]):
        insert(
            conn,
            "chat_messages",
            id=person.id(f"chat_messages/{number}"),
            session_id=person.id("chat"),
            role=role,
            content=content,
            tool_calls=[{"tool": "search"}] if role == "tool" else None,
            latency_ms=900 if role == "assistant" else None,
            metadata={"by": person.email},
            sequence=number,
        )
    insert(
        conn,
        "chat_session_summaries",
        session_id=person.id("chat"),
        summary=f"{person.email} wants tea",
        tags=(person.name,),
    )
    text = f"old words of {person.email}".encode()
    insert(
        conn,
        "chat_messages_archive",
        id=person.id("chat_messages_archive"),
        session_id=person.id("old_chat"),
        role="user",
        content_gzip=gzip.compress(text, mtime=0),
        content_sha256=sha256(text).digest(),
        metadata={"by": person.email},
        sequence=0,
        created_at=value(conn, "select now() - interval '100 days'"),
    )
    for what in ("draft", "gift"):
        insert(
            conn,
            "generated_activities",
            id=person.id(what),
            chat_session_id=person.id("chat"),
            title="Walk",
            body_mdx=f"for {person.email}",
        )
        insert(
            conn,
            "generated_activity_saves",
            id=person.id(f"generated_activity_saves/{what}"),
            generated_activity_id=person.id(what),
            account_id=person.account,
            source="chat",
        )


def add_tastes(conn: Connection, person: Person) -> None:
    """Quiz, recommendations, interactions, profile."""
    quiz, run, account = person.id("quiz"), person.id("run"), person.account
    insert(conn, "quiz_sessions", id=quiz, account_id=person.account, status="completed")
    insert(conn, "quiz_answers", id=person.id("quiz_answers"), session_id=quiz, question_ref="x", answer_value=["tea"])
    insert(conn, "quiz_results", id=person.id("result"), session_id=quiz, account_id=account, result_type="travel_type")
    insert(conn, "recommendation_runs", id=run, account_id=person.account, trigger="manual")
    insert(conn, "recommendation_items", id=person.id("item"), run_id=run, activity_id=ACTIVITY, rank=1)
    insert(
        conn,
        "activity_interactions",
        id=person.id("activity_interactions"),
        account_id=person.account,
        activity_id=ACTIVITY,
        activity_slug="tea",
        interaction_type="like",
    )
    insert(conn, "account_profiles", account_id=person.account, display_name=person.name, preferences={"a": 1})
    insert(conn, "account_metadata", account_id=person.account, flags={"mail": person.email})
    insert(
        conn,
        "consent_history",
        id=person.id("consent_history"),
        account_id=person.account,
        consent_version="2.0",
        preferences={"analytics": True},
        ip_address=f"2001:db8::{person.account.int % 65536:x}",
        user_agent=f"Browser of {person.name}",
    )


def add_words(conn: Connection, person: Person) -> None:
    """A review, an article with a version and a translation: all stay, without the person."""
    account, article = person.account, person.id("article")
    insert(conn, "reviews", id=person.id("review"), activity_id=ACTIVITY, account_id=account, rating=5, comment="mine")
    insert(conn, "articles", id=article, slug=person.name, title="Tea", body_mdx="tea", author_account_id=account)
    text = {"article_id": article, "language": "ja", "title": "Tea", "body_mdx": "tea"}
    version = {"version_number": 1, "editor_account_id": account, "change_note": f"ask {person.email}"}
    insert(conn, "article_versions", id=person.id("version"), **text, **version)
    insert(conn, "article_translations", id=person.id("translation"), **text, translator_account_id=account)


def add_booking(conn: Connection, person: Person, what: str, email: str, *, signed_in: bool) -> None:
    """A booking with a voucher that was redeemed."""
    form, voucher = person.id(what), person.id(f"{what}/voucher")
    insert(
        conn,
        "form_submissions",
        id=form,
        account_id=person.account if signed_in else None,
        activity_id=ACTIVITY,
        email=email,
        first_name=person.name,
        phone_number="+81 90 0000",
        ip_address="192.0.2.7",
        user_agent=f"Browser of {person.name}",
        travel_issues=(f"write to {person.email}",),
        country="JP",
    )
    insert(
        conn,
        "vouchers",
        id=voucher,
        form_submission_id=form,
        voucher_code=f"V-{form}"[:12],
        qr_token=f"token of {person.name}",
        max_redemptions=3,
        metadata={"mail": person.email},
    )
    insert(
        conn,
        "voucher_redemptions",
        id=person.id(f"{what}/redemption"),
        voucher_id=voucher,
        vendor_member_id=Person("admin").id("vendor_members"),
        scan_context={"mail": person.email, "ip": "192.0.2.7"},
    )


def add_ledger(conn: Connection, person: Person) -> None:
    """What the ledger says about the person, by the person, and of somebody else with the person's address."""
    for what, subject, performer in (("subject", person.account, None), ("performer", ACTIVITY, person.account)):
        insert(
            conn,
            "audit_events",
            id=person.id(f"audit/{what}"),
            entity_type="account",
            entity_id=str(subject),
            event_type="changed",
            performed_by=performer,
            payload={"status": "done", "mail": person.email, "reason_code": "r1"},
        )


def add_person(conn: Connection, name: str, *, shared: str | None = None) -> Person:
    """A person with rows in every table; `shared` names a browser session that others use, too."""
    person = Person(name)
    add_account(conn, person)
    for days_ago in (1, 40):
        add_visit(conn, person, person.visit, number=days_ago, days_ago=days_ago)
        add_visit(conn, person, person.visit, signed_in=False, number=days_ago, days_ago=days_ago)
    if shared is not None:
        add_visit(conn, person, shared)
    add_conversation(conn, person)
    add_tastes(conn, person)
    add_words(conn, person)
    add_booking(conn, person, "booking", person.email, signed_in=True)
    add_booking(conn, person, "guest", f" {person.email.upper()} ", signed_in=False)
    insert(
        conn,
        "vendor_members",
        id=person.id("vendor_members"),
        vendor_id=VENDOR,
        account_id=person.account,
        supabase_user_id=person.user,
        role="staff",
    )
    add_ledger(conn, person)
    return person
