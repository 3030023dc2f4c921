"""What the tests of erasures share: the queue and its steps as a caller sees them, and pictures of the tables."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from psycopg import sql

from lifecycle.database import Connection, rows, value
from tests.people import Person, insert

# The application's tables that hold rows of people, each with the column that a row is known by.
TABLE_KEYS = """
select c.relname::text, min(a.attname::text) filter (where a.attname in ('id', 'account_id', 'session_id'))
  from pg_class c join pg_attribute a on a.attrelid = c.oid
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
   and (a.attname = 'id' or not exists (select from pg_attribute i where i.attrelid = c.oid and i.attname = 'id'))
 group by 1 having min(a.attname::text) filter (where a.attname in ('id', 'account_id', 'session_id')) is not null
 order by 1
"""
EVERY_RELATION = """
select c.oid::regclass::text from pg_class c
 where c.relnamespace in ('public'::regnamespace, 'lifecycle'::regnamespace) and c.relkind in ('r', 'p', 'm', 'v')
   and not c.relispartition
 order by 1
"""
JOB = """
select state, attempts, recurrences, last_error, hold_reason, held_by_rule, sign_in_user
  from lifecycle.deletion_jobs where request_id = %s
"""

# As when whoever works on them was not heard of.
LEASE_OVER = "update lifecycle.deletion_jobs set lease_until = now() where lease_until is not null"

Key = tuple[str, str]
Picture = dict[Key, str]


def ask(conn: Connection, person: Person, number: int = 1) -> UUID:
    """Ask for the person's erasure; the id of the request."""
    found = person.id(f"request/{number}")
    insert(conn, "data_deletion_requests", id=found, account_id=person.account, request_reason=f"I am {person.email}")
    return found


def process(conn: Connection) -> None:
    """All that waits, as psql and Supabase's scheduler do it."""
    conn.execute("call public.process_deletion_jobs()")


def claim(conn: Connection, only: UUID | None = None) -> UUID | None:
    """A batch of this caller's; None when nothing waits."""
    asked = None if only is None else str(only)
    found: UUID | None = value(conn, "select lifecycle.claim_deletion_jobs(null, %s)", (asked,))
    return found


def step(conn: Connection, batch: UUID | None, name: str, relation: str | None = None) -> str:
    """One step in one transaction."""
    outcome: str = value(conn, "select lifecycle.erasure_step(%s, %s, %s)", (batch, name, relation))
    return outcome


def searched(conn: Connection) -> list[str]:
    """Every relation that the search reads."""
    return [
        found for (found,) in rows(conn, "select relation::text from lifecycle.relations_to_search() order by place")
    ]


def finish(
    conn: Connection, batch: UUID | None, names: Iterable[str] = ("sign_in_users", "refresh", "search", "conclude")
) -> str:
    """The steps after the erasure, as long as they succeed; the last outcome."""
    outcome = "done"
    for name in names:
        for relation in searched(conn) if name == "search" else [None]:
            outcome = step(conn, batch, name, relation)
            if outcome == "failed":
                return outcome
    return outcome


def job(conn: Connection, request_id: UUID) -> dict[str, Any]:
    """The job of a request, by the names of its columns."""
    names = ("state", "attempts", "recurrences", "last_error", "hold_reason", "held_by_rule", "sign_in_user")
    return dict(zip(names, rows(conn, JOB, (str(request_id),))[0], strict=True))


def states(conn: Connection) -> dict[UUID, str]:
    """State of every job by its request."""
    return dict(rows(conn, "select request_id::uuid, state from lifecycle.deletion_jobs"))


def picture(conn: Connection) -> Picture:
    """Every row of the application's tables as text, by table and id."""
    found: Picture = {}
    for table, column in rows(conn, TABLE_KEYS):
        query = sql.SQL("select t.{}::text, t::text from public.{} t").format(
            sql.Identifier(column), sql.Identifier(table)
        )
        found |= {(table, key): content for key, content in conn.execute(query)}
    return found


def traces(conn: Connection, *people: Person) -> dict[str, set[str]]:
    """Where a word of these people stands, by relation: tables and views of the application and of this project."""
    seen: dict[str, set[str]] = {}
    for (relation,) in rows(conn, EVERY_RELATION):
        query = sql.SQL("select coalesce(string_agg(lower(t::text), ' '), '') from {} t").format(sql.SQL(relation))
        content = value(conn, query.as_string(conn))
        if hits := {word for person in people for word in person.words if word in content}:
            seen[relation] = hits
    return seen


# Where the person may be named after the erasure, by the account's id alone.
EXEMPT = {"accounts", "consent_history", "data_deletion_requests", "lifecycle.deletion_jobs"}
