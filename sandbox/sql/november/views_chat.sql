-- How much the assistant is used, how fast it answers, and which tools it calls.

create view chat_usage_by_account as
-- The join repeats a session for each of its messages, so its tokens and latency are counted as often.
select
    s.account_id,
    count(distinct s.id) as total_sessions,
    count(m.id) as total_messages,
    round(count(m.id)::numeric / nullif(count(distinct s.id), 0), 2) as avg_messages_per_session,
    max(s.last_activity_at) as last_activity_at,
    min(s.started_at) as first_activity_at,
    sum((s.metadata -> 'metrics' ->> 'totalTokens')::integer)
        filter (where s.metadata -> 'metrics' ->> 'totalTokens' is not null) as total_tokens_used,
    round(avg((s.metadata -> 'metrics' ->> 'totalTokens')::numeric)
        filter (where s.metadata -> 'metrics' ->> 'totalTokens' is not null), 2) as avg_tokens_per_session,
    sum((s.metadata -> 'metrics' ->> 'totalLatencyMs')::integer)
        filter (where s.metadata -> 'metrics' ->> 'totalLatencyMs' is not null) as total_latency_ms,
    round(avg((s.metadata -> 'metrics' ->> 'totalLatencyMs')::numeric)
        filter (where s.metadata -> 'metrics' ->> 'totalLatencyMs' is not null), 2) as avg_latency_per_session,
    count(distinct s.id) filter (where s.metadata -> 'errors' is not null) as sessions_with_errors
from chat_sessions s
left join chat_messages m on m.session_id = s.id
group by s.account_id;
comment on view chat_usage_by_account is 'Sessions, messages and tokens of each account, all time';

create view daily_chat_usage as
select
    date(s.started_at) as date,
    count(distinct s.account_id) as unique_users,
    count(distinct s.id) as total_sessions,
    count(m.id) as total_messages,
    round(count(m.id)::numeric / nullif(count(distinct s.id), 0), 2) as avg_messages_per_session,
    sum((s.metadata -> 'metrics' ->> 'totalTokens')::integer)
        filter (where s.metadata -> 'metrics' ->> 'totalTokens' is not null) as total_tokens,
    count(distinct s.id) filter (where s.metadata -> 'errors' is not null) as sessions_with_errors
from chat_sessions s
left join chat_messages m on m.session_id = s.id
where s.started_at >= current_date - interval '90 days'
group by date(s.started_at)
order by date(s.started_at) desc;
comment on view daily_chat_usage is 'Chats that began on each of the last 90 days';

create view function_usage_stats as
with called as (
    select m.session_id, m.created_at, jsonb_array_elements(m.tool_calls) ->> 'tool' as tool
      from chat_messages m
     where m.role = 'tool' and m.tool_calls is not null and m.created_at >= current_date - interval '90 days'
)
select
    called.tool as function_name,
    date_trunc('day', called.created_at) as date,
    count(*) as usage_count,
    count(distinct called.session_id) as unique_sessions
from called
where called.tool is not null
group by called.tool, date_trunc('day', called.created_at)
order by date_trunc('day', called.created_at) desc, count(*) desc;
comment on view function_usage_stats is 'Calls of each tool on each of the last 90 days';

create view session_details as
select
    s.id as session_id,
    s.account_id,
    s.session_type,
    s.started_at,
    s.last_activity_at,
    s.closed_at,
    count(m.id) as message_count,
    count(m.id) filter (where m.role = 'user') as user_message_count,
    count(m.id) filter (where m.role = 'assistant') as assistant_message_count,
    count(m.id) filter (where m.role = 'tool') as tool_call_count,
    (s.metadata -> 'metrics' ->> 'totalTokens')::integer as total_tokens,
    (s.metadata -> 'metrics' ->> 'totalLatencyMs')::integer as total_latency_ms,
    s.metadata -> 'metrics' -> 'functionsUsed' as functions_used,
    (s.metadata -> 'metrics' ->> 'placesFound')::integer as places_found,
    (s.metadata -> 'metrics' ->> 'errors')::integer as error_count,
    case
        when s.closed_at is null then extract(epoch from s.last_activity_at - s.started_at)
        else extract(epoch from s.closed_at - s.started_at)
    end as session_duration_seconds
from chat_sessions s
left join chat_messages m on m.session_id = s.id
group by s.id, s.account_id, s.session_type, s.started_at, s.last_activity_at, s.closed_at, s.metadata;
comment on view session_details is 'One row per chat, all time: messages by role and the figures of its metadata';

create view chat_performance_metrics as
select
    date_trunc('hour', m.created_at) as hour,
    count(*) as total_messages,
    round(avg(m.latency_ms), 2) as avg_latency_ms,
    percentile_cont(0.5) within group (order by m.latency_ms) as median_latency_ms,
    percentile_cont(0.95) within group (order by m.latency_ms) as p95_latency_ms,
    percentile_cont(0.99) within group (order by m.latency_ms) as p99_latency_ms,
    max(m.latency_ms) as max_latency_ms
from chat_messages m
where m.role = 'assistant' and m.latency_ms is not null
  and m.created_at >= current_timestamp - interval '7 days'
group by date_trunc('hour', m.created_at)
order by date_trunc('hour', m.created_at) desc;
comment on view chat_performance_metrics is 'Latency of answers, by the hour, over the last seven days';

create materialized view account_function_usage as
with called as (
    select s.account_id, m.created_at, jsonb_array_elements(m.tool_calls) ->> 'tool' as tool
      from chat_sessions s
      join chat_messages m on m.session_id = s.id
     where m.role = 'tool' and m.tool_calls is not null
)
select
    called.account_id,
    called.tool as function_name,
    count(*) as usage_count,
    min(called.created_at) as first_used_at,
    max(called.created_at) as last_used_at
from called
where called.tool is not null
group by called.account_id, called.tool;
create unique index account_function_usage_unique_idx on account_function_usage (account_id, function_name);
comment on materialized view account_function_usage is 'Tools by account, all time, as of the last refresh';
