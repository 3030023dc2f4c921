"""What the tests of erasure in Python share: a person of the sample rows, a request, and who must not be named."""

import gzip
from typing import Any

from psycopg.types.json import Jsonb

from lifecycle.database import Connection, rows, value

# With chats, visits and a sign-in user, and free to go: no vendor keeps it, no request waits.
ORDINARY = """
select a.id::text from accounts a
  join chat_sessions s on s.account_id = a.id
  join account_linkages l on l.account_id = a.id
 where a.status = 'active' and not exists (select from vendor_members v where v.account_id = a.id)
   and not exists (select from data_deletion_requests r where r.account_id = a.id)
   and exists (select from user_behavior_events e where e.account_id = a.id)
 group by a.id order by count(*) desc, a.id
"""
NAMES = """
select id::text from accounts
union select email from auth.users where email is not null
union select email from form_submissions where email like '%@%'
union select session_id from user_behavior_events where length(session_id) > 8
"""


def ordinary_accounts(conn: Connection) -> list[str]:
    """Accounts with data of most kinds, the busiest first."""
    return [account for (account,) in rows(conn, ORDINARY)]


def settle_old_requests(conn: Connection) -> None:
    """The sample's own requests are no part of the test."""
    conn.execute("update data_deletion_requests set status = 'completed' where status <> 'completed'")


def request_deletion(conn: Connection, account: str) -> str:
    """A new request; its id."""
    insert = "insert into data_deletion_requests (account_id) values (%s) returning id::text"
    return str(value(conn, insert, (account,)))


def everybody_named(conn: Connection) -> set[str]:
    """Every id, address and session name that must stand in no metadata."""
    return {name for (name,) in rows(conn, NAMES)}


def add_attachments(conn: Connection, treatment: str, *bodies: bytes) -> None:
    """A table of the application with compressed bodies, on the map with this treatment."""
    conn.execute("create table attachments (body bytea)")
    conn.execute(
        "insert into lifecycle.personal_data_columns values ('public.attachments', 'body', %s, 'a test')", (treatment,)
    )
    for body in bodies:
        conn.execute("insert into attachments values (%s)", (body,))


def packed(text: str) -> bytes:
    return gzip.compress(text.encode())


def job(conn: Connection, request: str) -> dict[str, Any]:
    """The job of a request as a document."""
    found: dict[str, Any] = value(
        conn, "select to_jsonb(j) from lifecycle.deletion_jobs j where request_id = %s", (request,)
    )
    return found


def set_job(conn: Connection, request: str, **values: Any) -> None:
    """Put a job into a state that time alone would bring."""
    document = Jsonb(values)
    conn.execute(
        """update lifecycle.deletion_jobs j
              set (state, lease_until, next_attempt_at, due_at) = (
                  select p.state, p.lease_until, p.next_attempt_at, p.due_at
                    from jsonb_populate_record(j, %s) p)
            where request_id = %s""",
        (document, request),
    )
