"""What an application or a support engineer may do to the rows that statistics are made of."""

FIRST_ACCOUNT = "(select id from accounts order by id limit 1)"
SOME_SESSION = "(select id from chat_sessions order by id offset 3 limit 1)"
BUSY_SESSION = "(select session_id from chat_messages group by 1 order by count(*) desc, 1 limit 1)"

CHANGES = {
    "a message of a year ago arrives": f"""
        insert into chat_messages (session_id, role, content, tool_calls, latency_ms, created_at)
        values ({SOME_SESSION}, 'tool', '', '[{{"tool": "late_tool"}}]', 5, now() - interval '1 year')""",
    "a message of the edge of a month arrives": f"""
        insert into chat_messages (session_id, role, content, latency_ms, created_at)
        select {SOME_SESSION}, 'assistant', '', 7, date_trunc('month', now(), 'UTC') + e * interval '1 microsecond'
          from generate_series(-1, 1) e""",
    "a message from the future arrives": f"""
        insert into chat_messages (session_id, role, content, tool_calls, latency_ms, created_at)
        values ({SOME_SESSION}, 'assistant', '', '[{{"tool": "time_machine"}}]', 5, now() + interval '3 days')""",
    "a latency of last week is corrected": """
        update chat_messages set latency_ms = coalesce(latency_ms, 0) + 10000
         where created_at between now() - interval '5 days' and now() - interval '3 hours'""",
    "latencies tie": """
        update chat_messages set latency_ms = 1000
         where role = 'assistant' and created_at > now() - interval '7 days'""",
    "tool calls are rewritten": """
        update chat_messages set tool_calls = '[{"tool": "a"}, {"tool": "a"}, {"tool": null}, {"x": 1}, 5]'
         where role = 'tool' and created_at < now() - interval '20 days'""",
    "tool calls become junk": """
        update chat_messages set tool_calls = '{"tool": "not an array"}'
         where created_at < now() - interval '60 days'""",
    "a message moves to another session": f"""
        update chat_messages set session_id = {SOME_SESSION} where session_id = {BUSY_SESSION}""",
    "a message moves in time": """
        update chat_messages set created_at = created_at - interval '40 days'
         where created_at > now() - interval '1 day'""",
    "old messages are deleted": "delete from chat_messages where created_at < now() - interval '100 days'",
    "every message of today is deleted": "delete from chat_messages where created_at > now() - interval '1 day'",
    "a session is deleted with its messages": f"delete from chat_sessions where id = {BUSY_SESSION}",
    "a session changes hands": f"""
        update chat_sessions set account_id = {FIRST_ACCOUNT} where id = {BUSY_SESSION}""",
    "a session started on another day": """
        update chat_sessions set started_at = started_at - interval '10 days', last_activity_at = now()
         where started_at < now() - interval '3 days'""",
    "a session of long ago arrives": f"""
        insert into chat_sessions (account_id, started_at, last_activity_at)
        values ({FIRST_ACCOUNT}, now() - interval '300 days', now() - interval '299 days')""",
    "a session is only closed": "update chat_sessions set closed_at = now()",
    "events arrive late": f"""
        insert into user_behavior_events (account_id, session_id, page_url, event_timestamp)
        select {FIRST_ACCOUNT}, 'late-' || d, '/', now() - d * interval '1 day' from generate_series(0, 100, 9) d""",
    "anonymous events arrive late": """
        insert into user_behavior_events (session_id, page_url, event_timestamp)
        select 'late', '/', now() - d * interval '5 hours' from generate_series(0, 10) d""",
    "events are given to another account": f"""
        update user_behavior_events set account_id = {FIRST_ACCOUNT}
         where event_timestamp < now() - interval '50 days'""",
    "events become anonymous": """
        update user_behavior_events set account_id = null where event_timestamp > now() - interval '40 days'""",
    "events move in time": """
        update user_behavior_events set event_timestamp = event_timestamp - interval '1 day'
         where event_timestamp between now() - interval '30 days' and now()""",
    "old events are deleted": "delete from user_behavior_events where event_timestamp < now() - interval '30 days'",
    "an account is deleted": f"""
        with kept as (delete from form_submissions where account_id = {FIRST_ACCOUNT})
        delete from accounts where id = {FIRST_ACCOUNT}""",
    "nothing is left": "delete from chat_sessions; delete from user_behavior_events",
}
