"""A history of constant traffic: three events to two chat messages, so that N rows reach back N / rate hours."""

from datetime import datetime, timedelta
from typing import Final

from lifecycle.database import connect_directly
from sandbox.application import create_application_database
from sandbox.server import SUPERUSER, Server

ACCOUNTS: Final = 20_000
ROWS_AN_HOUR: Final = 230
EVENT_SHARE: Final = 0.6
MESSAGES_A_SESSION: Final = 12

FILL_ACCOUNTS: Final = """
insert into accounts (id, created_at)
select lpad(to_hex(i), 32, '0')::uuid, now() - interval '3 years' from generate_series(1, %(accounts)s) i
"""
FILL_EVENTS: Final = """
insert into user_behavior_events
       (account_id, session_id, event_timestamp, page_url, user_agent, actions, engagement, created_at)
select case when random() < 0.95
            then lpad(to_hex(1 + (hashint8(i / 8) & 2147483647) %% %(accounts)s), 32, '0')::uuid end,
       'visit-' || (%(prefix)s::text) || (i / 8), at, '/page/' || (random() * 300)::int,
       'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36',
       '[{"type": "click", "target": "#button"}]', jsonb_build_object('timeOnPage', (random() * 300)::int), at
  from (select i, %(first)s::timestamptz + (%(last)s::timestamptz - %(first)s) * (i::float8 / %(rows)s) as at
          from generate_series(1, %(rows)s) i) s
"""
FILL_SESSIONS: Final = """
insert into chat_sessions (id, account_id, started_at, last_activity_at)
select md5(%(prefix)s::text || i)::uuid,
       lpad(to_hex(1 + (hashint8(i) & 2147483647) %% %(accounts)s), 32, '0')::uuid, at, at + interval '20 minutes'
  from (select i, %(first)s::timestamptz + (%(last)s::timestamptz - %(first)s) * (i::float8 / %(sessions)s) as at
          from generate_series(0, %(sessions)s - 1) i) s
"""
# In order of time, as an application would write them: four in twelve are of a tool, four of the assistant.
FILL_MESSAGES: Final = """
insert into chat_messages (session_id, role, content, tool_calls, latency_ms, created_at)
select md5(%(prefix)s::text || s)::uuid, (array['user', 'tool', 'assistant'])[1 + m %% 3], repeat('福井の旅 ', 20),
       case m %% 3 when 1 then jsonb_build_array(jsonb_build_object('tool',
            'tool_' || floor(8 * power(random(), 2)), 'arguments', jsonb_build_object('city', '福井', 'limit', 3))) end,
       case m %% 3 when 0 then null when 1 then (random() * 800)::int else (exp(7.2 + random()))::int end,
       %(first)s::timestamptz + (%(last)s::timestamptz - %(first)s) * (s::float8 / %(sessions)s) + m * interval '90 s'
  from generate_series(0, %(sessions)s - 1) s cross join generate_series(0, %(messages)s - 1) m
"""


def fill(server: Server, url: str, rows: int, first: datetime, last: datetime, prefix: str, *, triggers: bool) -> None:
    """Put `rows` events and messages between `first` and `last`; `triggers` as the application, or none at all."""
    events = int(rows * EVENT_SHARE)
    values = {
        "accounts": ACCOUNTS,
        "first": first,
        "last": last,
        "rows": events,
        "sessions": max((rows - events) // MESSAGES_A_SESSION, 1),
        "messages": MESSAGES_A_SESSION,
        "prefix": prefix,
    }
    login = url if triggers else server.url(url.rsplit("/", 1)[1], user=SUPERUSER)
    with connect_directly(login, application_name="benchmark") as conn:
        if not triggers:
            conn.execute("set session_replication_role = replica")
        conn.execute("set synchronous_commit = off")
        for statement in (FILL_EVENTS, FILL_SESSIONS, FILL_MESSAGES):
            conn.execute(statement.encode(), values)


def create_history(server: Server, name: str, rows: int, now: datetime) -> str:
    """The application's database as found, with `rows` source rows up to two hours ago; the owner's URL."""
    url = create_application_database(server, name)
    last = now - timedelta(hours=2)
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute(FILL_ACCOUNTS.encode(), {"accounts": ACCOUNTS})
    fill(server, url, rows, last - timedelta(hours=rows / ROWS_AN_HOUR), last, "old", triggers=False)
    with connect_directly(server.url(name, user=SUPERUSER), application_name="benchmark") as admin:
        admin.execute("refresh materialized view account_function_usage")
        admin.execute("vacuum (analyze)")
    return url
