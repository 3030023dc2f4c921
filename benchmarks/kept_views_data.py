"""A history of constant traffic for kept views, and one more hour of it."""

from datetime import datetime
from typing import Final

from benchmarks.clients import ACCOUNTS
from benchmarks.data import copy_database, create_filled_database
from benchmarks.declared import APPLICATION
from lifecycle.database import Connection, connect_directly
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.months import add_months, month_start
from sandbox.server import SUPERUSER, Server

MESSAGES_A_SESSION: Final = 10
PLAIN, KEPT = "plain", "kept"
CONVERSATIONS: Final = """
with made as (
    insert into chat_sessions (account_id, started_at, last_activity_at, metadata)
    select lpad(to_hex(1 + i %% %(accounts)s), 32, '0')::uuid, at, at + interval '9 min',
           jsonb_build_object('metrics', jsonb_build_object('totalTokens', i %% 900))
      from (select i, %(first)s::timestamptz + (%(last)s::timestamptz - %(first)s) * (i::float8 / %(rows)s) as at
              from generate_series(1, %(rows)s::bigint) i) s
    returning id, started_at)
insert into chat_messages (session_id, role, content, tool_calls, latency_ms, created_at, sequence)
select s.id, (array['user', 'tool', 'assistant'])[1 + n %% 3], 'a message of some length',
       case when n %% 3 = 1 then '[{"tool": "search"}, {"tool": "weather"}]'::jsonb end, 300 + n * 40,
       s.started_at + n * interval '20 s', n
  from made s cross join generate_series(1, %(messages)s) n
"""
SEARCHES: Final = """
insert into search_queries (account_id, search_query, searched_at, search_source, results_count)
select lpad(to_hex(1 + i %% %(accounts)s), 32, '0')::uuid, 'query ' || i %% 3000,
       %(first)s::timestamptz + (%(last)s::timestamptz - %(first)s) * (i::float8 / %(rows)s), 'chat', 3
  from generate_series(1, %(rows)s::bigint) i
"""
EVENTS: Final = """
insert into user_behavior_events (account_id, session_id, event_timestamp, page_url)
select lpad(to_hex(1 + i %% %(accounts)s), 32, '0')::uuid, 'session_' || i %% 50,
       %(first)s::timestamptz + (%(last)s::timestamptz - %(first)s) * (i::float8 / %(rows)s),
       'https://app.example.com/' || i %% 300
  from generate_series(1, %(rows)s::bigint) i
"""
# One of a hundred rows of an hour is late, corrected or goes.
LATE: Final = """
update chat_messages set latency_ms = latency_ms + 1 where id in
    (select id from chat_messages where created_at < now() - interval '1 day' order by md5(id::text || now()::text)
      limit greatest(1, %(messages)s / 100));
delete from chat_messages where id in
    (select id from chat_messages where created_at < now() - interval '1 day' order by md5(id::text || now()::text)
      limit greatest(1, %(messages)s / 100))
"""


def fill_conversations(conn: Connection, messages: int, first: datetime, last: datetime) -> None:
    """Sessions with their messages and the searches beside them, evenly over the time."""
    sessions = max(1, messages // MESSAGES_A_SESSION)
    spread = {"accounts": ACCOUNTS, "first": first, "last": last}
    conn.execute(CONVERSATIONS.encode(), {**spread, "rows": sessions, "messages": MESSAGES_A_SESSION})
    conn.execute(SEARCHES.encode(), {**spread, "rows": max(1, messages // 6)})


def create_databases(server: Server, events: int, messages: int, now: datetime, months: int) -> tuple[str, str]:
    """The application as it is, and with kept views, of the same rows; the owner's URLs."""
    first = add_months(month_start(now), 1 - months)
    plain = create_filled_database(server, PLAIN, events, months, now)
    with connect_directly(server.url(PLAIN, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("set session_replication_role = replica")
        fill_conversations(admin, messages, first, now)
        admin.execute("vacuum (analyze)")
    kept = copy_database(server, PLAIN, KEPT)
    upgrade(kept, APPLICATION)
    with connect_directly(server.url(KEPT, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("vacuum (analyze)")
    return plain, kept


def one_more_hour(conn: Connection, events: int, messages: int, first: datetime, last: datetime) -> None:
    """New rows of an hour, and some that are late, corrected or deleted."""
    fill_conversations(conn, messages, first, last)
    conn.execute(EVENTS.encode(), {"accounts": ACCOUNTS, "first": first, "last": last, "rows": events})
    for statement in LATE.split(";\n"):
        conn.execute(statement.encode(), {"messages": messages})
