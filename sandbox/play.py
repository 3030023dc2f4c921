"""What the demo does to the replica in its application's place: break a view, mend it, take back a consent, ask for an
erasure.

Belongs here: statements that name the application's objects. What is made of them, runs and sensors, does not.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from lifecycle.database import Connection, value

BREAKABLE_VIEW: Final = "daily_user_behavior_summary"
# A browser that measures the time on a page in words: the view casts it to numeric and fails as a whole.
BREAK: Final = """
insert into public.user_behavior_events (session_id, page_url, engagement)
values ('demo', '/demo', '{"timeOnPage": "a while"}') returning id
"""
MEND: Final = "delete from public.user_behavior_events where id = %s and session_id = 'demo'"
# Somebody with many conversations whom no vendor needs and who has not asked before.
ASK: Final = """
insert into public.data_deletion_requests (account_id)
select a.id from public.accounts a join public.chat_sessions s on s.account_id = a.id
 where a.status = 'active'
   and not exists (select from public.vendor_members m where m.account_id = a.id)
   and not exists (select from public.data_deletion_requests r where r.account_id = a.id)
 group by a.id order by count(*) desc, a.id limit 1
returning id
"""
# A week ago, when nobody carried it out: what was seen of this person since then stands against it.
WITHDRAW: Final = """
insert into public.consent_history (account_id, consent_version, preferences, created_at)
select e.account_id, 'demo', '{"necessary": true, "analytics": false, "marketing": false}', now() - interval '7 days'
  from public.user_behavior_events e
 where e.account_id is not null and e.created_at > now() - interval '7 days'
   and not exists (select from public.data_deletion_requests r where r.account_id = e.account_id)
 group by 1 order by count(*) desc, 1 limit 1
returning account_id
"""
# The same, of somebody who was here before old months left the database.
SOMEBODY: Final = """
select a.id from public.accounts a join public.chat_sessions s on s.account_id = a.id
 where a.status = 'active'
   and not exists (select from public.vendor_members m where m.account_id = a.id)
   and not exists (select from public.data_deletion_requests r where r.account_id = a.id)
   and exists (select from public.user_behavior_events e
                where e.account_id = a.id and e.event_timestamp < now() - interval '5 months')
 group by a.id order by count(*) desc, a.id limit 1
"""
ASK_FOR: Final = "insert into public.data_deletion_requests (account_id) values (%s) returning id"
ASKED_AT: Final = "select requested_at from public.data_deletion_requests where id = %s"


def break_a_view(conn: Connection) -> UUID:
    """Write one event that BREAKABLE_VIEW cannot read; its id."""
    event: UUID = value(conn, BREAK)
    return event


def mend_the_view(conn: Connection, event: UUID) -> None:
    """Remove that event."""
    conn.execute(MEND, (event,))


def somebody_to_erase(conn: Connection) -> str:
    """The account of somebody with many conversations who has been here for long."""
    return str(value(conn, SOMEBODY))


def ask_for_erasure(conn: Connection, account: str) -> str:
    """This person asks to be erased; the id of the request."""
    return str(value(conn, ASK_FOR, (account,)))


def withdraw_consent(conn: Connection) -> str:
    """Somebody takes back their consent to analytics and marketing; the id of the account."""
    return str(value(conn, WITHDRAW))


def asked_at(conn: Connection, request: str) -> datetime:
    """When that was."""
    moment: datetime = value(conn, ASKED_AT, (request,))
    return moment
