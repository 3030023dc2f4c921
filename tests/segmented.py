"""What the tests of segments share: a person with tastes, the cache beside the computation, the log."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from lifecycle.database import Connection, connect, rows, value
from lifecycle.segments.refresh import refresh_segments

NEW_PERSON = """
with account as (insert into accounts default values returning id),
     sign_in as (insert into account_linkages (account_id, supabase_user_id)
                 select id, gen_random_uuid() from account returning account_id, supabase_user_id),
     session as (insert into quiz_sessions (account_id, status) select id, 'completed' from account returning id)
select a.id, s.id, l.supabase_user_id from account a, session s, sign_in l
"""
CONSENT: dict[str, Any] = {
    "consent": {"version": "2.0", "preferences": {"necessary": True, "personalization": True}},
    "display": {"theme": "dark"},
}
# Where the cache and the computation differ; empty when they agree for every account.
DISAGREEMENTS = """
select account_id, p.preferences #> '{segments,tags}', c.tags
  from account_profiles p
  full join lifecycle.compute_segments(array(select account_id::text from account_profiles)) c
    on c.account = p.account_id::text
 where p.preferences #> '{segments,tags}' is distinct from c.tags
"""


@dataclass(frozen=True)
class Person:
    """An account with a profile, a quiz session and a sign-in."""

    account: UUID
    session: UUID
    user: UUID


@contextmanager
def computed(url: str) -> Iterator[Connection]:
    """A session in the database at `url`, all segments computed."""
    with connect(url) as session:
        refresh_segments(session)
        yield session


def make_person(conn: Connection, preferences: dict[str, Any] | None = None) -> Person:
    """A person without any taste; consents to personalization unless `preferences` say otherwise."""
    account, session, user = rows(conn, NEW_PERSON)[0]
    conn.execute(
        "insert into account_profiles (account_id, preferences) values (%s, %s)",
        (account, Jsonb(CONSENT if preferences is None else preferences)),
    )
    return Person(account, session, user)


def answer(conn: Connection, person: Person, question: str, chosen: object) -> None:
    """A quiz answer given now."""
    conn.execute(
        "insert into quiz_answers (session_id, question_ref, answer_value, answered_at)"
        " values (%s, %s, %s, clock_timestamp())",
        (person.session, question, Jsonb(chosen)),
    )


def interact(conn: Connection, person: Person, slug: str, kind: str = "view", *, by_slug: bool = False) -> None:
    """An interaction now with the activity of that slug, known by its id or by its slug only."""
    conn.execute(
        "insert into activity_interactions (account_id, activity_id, activity_slug, interaction_type)"
        " select %s, case when not %s then id end, slug, %s::interaction_type from activities where slug = %s",
        (person.account, by_slug, kind, slug),
    )


def make_keen_person(conn: Connection) -> Person:
    """A person with tastes and interactions, whose segments are not computed yet."""
    person = make_person(conn)
    answer(conn, person, "favorite_themes", ["craft", "onsen"])
    answer(conn, person, "rainy_day_plan", "indoor")
    interact(conn, person, "tojinbo", "book")
    interact(conn, person, "awara-onsen")
    return person


def preferences(conn: Connection, person: Person) -> dict[str, Any]:
    found: dict[str, Any] = value(
        conn, "select preferences from account_profiles where account_id = %s", (person.account,)
    )
    return found


def segments(conn: Connection, person: Person) -> dict[str, tuple[float, str]]:
    """Score and source per tag; empty where the profile holds no segments."""
    held = preferences(conn, person).get("segments", {"tags": []})
    return {tag["slug"]: (tag["score"], tag["source"]) for tag in held["tags"]}


def disagreements(conn: Connection) -> list[tuple[Any, ...]]:
    return rows(conn, DISAGREEMENTS)


def waiting(conn: Connection) -> set[UUID | None]:
    """The accounts in the log; None stands for all."""
    return {account for (account,) in rows(conn, "select account::uuid from lifecycle.changed_segment_accounts")}


def profiles(conn: Connection) -> list[tuple[Any, ...]]:
    return rows(conn, "select account_id, preferences, updated_at from account_profiles order by 1")


def everybody(conn: Connection) -> None:
    """Ask for the segments of all accounts."""
    conn.execute("insert into lifecycle.changed_segment_accounts default values")
