-- Derived statistics: tables under the names and columns of the application's views, brought up to date from the roll-ups
-- of revision 0003; and the refresh of the materialized views that stay.

-- Policies, written by `lifecycle migrate` -------------------------------------------------------------------

create table lifecycle.data_quality_thresholds (
    metric_name text primary key,
    threshold   numeric not null,
    healthy_if  text not null check (healthy_if in ('at_least', 'at_most'))
);
comment on table lifecycle.data_quality_thresholds is 'Copy of lifecycle/policy.py, written by `lifecycle migrate`. Change it there.';

create table lifecycle.materialized_view_policies (
    schema_name text not null,
    view_name   text not null,
    sources     text[] not null,
    max_age     interval not null,
    primary key (schema_name, view_name)
);
comment on table lifecycle.materialized_view_policies is 'Copy of lifecycle/policy.py, written by `lifecycle migrate`: the tables that a view reads, and the age at which it is refreshed even though they did not change. Change it there.';

create table lifecycle.refresh_states (
    name           text primary key,
    refreshed_at   timestamptz not null,
    source_changes numeric,
    rows           bigint not null default 0
);
comment on table lifecycle.refresh_states is 'When each statistic and materialized view was last brought up to date, and for the latter how many changes its sources had seen.';

-- Tables that the dashboards' views read ---------------------------------------------------------------------

create table lifecycle.function_usage_totals (
    account_id        uuid not null,
    function_name     text not null,
    uses              bigint not null,
    last_used_at      timestamptz not null,
    tool_uses         bigint not null,
    first_tool_use_at timestamptz,
    last_tool_use_at  timestamptz,
    primary key (account_id, function_name)
);
create index function_usage_totals_last_used_at_idx on lifecycle.function_usage_totals (function_name, last_used_at desc);
comment on table lifecycle.function_usage_totals is 'All time totals per account and tool; account_function_usage is a view of it.';

create table lifecycle.chat_performance_metrics (like lifecycle.chat_performance_history including all);
create table lifecycle.data_quality_metrics (
    metric_name  text primary key,
    metric_value numeric not null,
    threshold    numeric not null,
    status       text not null,
    last_checked timestamptz not null
);
create table lifecycle.daily_active_users (
    date            date primary key,
    dau             bigint not null,
    new_users       bigint not null,
    returning_users bigint not null
);
create table lifecycle.weekly_monthly_active_users (
    date date primary key,
    dau  bigint not null,
    wau  bigint not null,
    mau  bigint not null
);
create table lifecycle.user_engagement_scores (
    account_id         uuid primary key,
    total_days_active  bigint not null,
    total_sessions     bigint not null,
    total_messages     bigint not null,
    last_activity_date date not null
);
create table lifecycle.feature_usage_summary (
    feature_name      text primary key,
    total_uses        bigint not null,
    unique_users      bigint not null,
    last_used_at      timestamptz,
    uses_last_7_days  bigint not null default 0,
    uses_last_30_days bigint not null default 0
);
create table lifecycle.chat_usage_by_account (
    account_id        uuid primary key,
    total_sessions    bigint not null,
    total_messages    bigint not null,
    first_activity_at timestamptz,
    last_activity_at  timestamptz
);
create table lifecycle.hourly_usage_patterns (
    day_of_week   integer not null,
    hour_of_day   integer not null,
    message_count bigint not null,
    session_count bigint not null,
    unique_users  bigint not null,
    primary key (day_of_week, hour_of_day)
);

-- Statistics -------------------------------------------------------------------------------------------------

-- Each brings one table to what the application's view of that name would return at as_of, writes the rows that
-- differ, and returns their number. Windows are cut at as_of to the microsecond, as the views cut them: the bucket
-- in which the window begins is counted from the source. Where a window bounds what is read, the plan must be made for it:
-- without its bounds the planner would expect a third of the table, and read all of it.

create function lifecycle.refresh_account_function_usage(as_of timestamptz) returns bigint
language sql set search_path = ''
as $$
    with pairs as materialized (
        delete from lifecycle.pending_recounts p where p.statistic = 'account_function_usage'
        returning p.account_id, p.function_name
    ), fresh as materialized (
        select h.account_id, h.function_name, sum(h.uses)::bigint as uses, max(h.last_used_at) as last_used_at,
               sum(h.tool_uses)::bigint as tool_uses, min(h.first_tool_use_at) as first_tool_use_at,
               max(h.last_tool_use_at) as last_tool_use_at
          from pairs p join lifecycle.function_usage_hourly h using (account_id, function_name)
         group by 1, 2
    ), before as materialized (
        select t.* from pairs p join lifecycle.function_usage_totals t using (account_id, function_name)
    ), gone as (
        delete from lifecycle.function_usage_totals t using pairs p
         where t.account_id = p.account_id and t.function_name = p.function_name
           and not exists (select from fresh f where f.account_id = p.account_id and f.function_name = p.function_name)
        returning 1
    ), written as (
        insert into lifecycle.function_usage_totals as t select * from fresh
        on conflict (account_id, function_name) do update
           set uses = excluded.uses, last_used_at = excluded.last_used_at, tool_uses = excluded.tool_uses,
               first_tool_use_at = excluded.first_tool_use_at, last_tool_use_at = excluded.last_tool_use_at
         where (t.*) is distinct from (excluded.*)
        returning 1
    ), difference as (
        select function_name, sum(uses) as uses, sum(users) as users
          from (select f.function_name, f.uses, 1 as users from fresh f
                 union all
                select b.function_name, -b.uses, -1 from before b) d
         group by function_name
        having sum(uses) <> 0 or sum(users) <> 0
    ), summed_up as (
        insert into lifecycle.feature_usage_summary as s (feature_name, total_uses, unique_users)
        select d.function_name, d.uses, d.users from difference d
        on conflict (feature_name) do update
           set total_uses = s.total_uses + excluded.total_uses, unique_users = s.unique_users + excluded.unique_users
    )
    select (select count(*) from gone) + (select count(*) from written)
$$;

-- On top of the all time totals, which the hourly refresh of account_function_usage may not have brought up to date yet.
create function lifecycle.refresh_feature_usage_summary(as_of timestamptz) returns bigint
language plpgsql set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan'
as $$
declare
    week_start  constant timestamptz := as_of - interval '7 days';
    month_start constant timestamptz := as_of - interval '30 days';
    changed     bigint;
begin
    perform lifecycle.refresh_account_function_usage(as_of);
    with recent as (
        select h.function_name, h.hour, h.uses from lifecycle.function_usage_hourly h where h.hour > month_start
    ), cut as (
        select u.function_name,
               (u.edge = 7)::int * u.uses as week, (u.edge = 30)::int * u.uses as month
          from (select 7 as edge, f.*
                  from lifecycle.function_usage(week_start, date_trunc('hour', week_start) + interval '1 hour') f
                 union all
                select 30, f.*
                  from lifecycle.function_usage(month_start, date_trunc('hour', month_start) + interval '1 hour') f) u
    ), counted as (
        select function_name, sum(week) as week, sum(month) as month
          from (select r.function_name, case when r.hour > week_start then r.uses else 0 end as week, r.uses as month
                  from recent r
                 union all
                select c.function_name, c.week, c.month from cut c) w
         group by 1
    ), fresh as materialized (
        select s.feature_name, coalesce(c.week, 0)::bigint as week, coalesce(c.month, 0)::bigint as month,
               (select t.last_used_at from lifecycle.function_usage_totals t where t.function_name = s.feature_name
                 order by t.last_used_at desc limit 1) as last_used_at
          from lifecycle.feature_usage_summary s left join counted c on c.function_name = s.feature_name
         where s.unique_users > 0
    ), gone as (
        delete from lifecycle.feature_usage_summary s where s.unique_users = 0 returning 1
    ), written as (
        update lifecycle.feature_usage_summary s
           set last_used_at = f.last_used_at, uses_last_7_days = f.week, uses_last_30_days = f.month
          from fresh f
         where s.feature_name = f.feature_name
           and (s.last_used_at, s.uses_last_7_days, s.uses_last_30_days) is distinct from (f.last_used_at, f.week, f.month)
        returning 1
    )
    select (select count(*) from gone) + (select count(*) from written) into changed;
    return changed;
end $$;

create function lifecycle.refresh_chat_performance_metrics(as_of timestamptz) returns bigint
language plpgsql set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan'
as $$
declare
    window_start constant timestamptz := as_of - interval '7 days';
    first_whole  constant timestamptz := date_trunc('hour', window_start) + interval '1 hour';
    changed      bigint;
begin
    with fresh as materialized (
        select h.* from lifecycle.chat_performance_history h where h.hour >= first_whole
         union all
        select c.* from lifecycle.chat_performance(window_start, first_whole) c
    ), gone as (
        delete from lifecycle.chat_performance_metrics m
         where not exists (select from fresh f where f.hour = m.hour)
        returning 1
    ), written as (
        insert into lifecycle.chat_performance_metrics as m select * from fresh
        on conflict (hour) do update
           set total_messages = excluded.total_messages, avg_latency_ms = excluded.avg_latency_ms,
               median_latency_ms = excluded.median_latency_ms, p95_latency_ms = excluded.p95_latency_ms,
               p99_latency_ms = excluded.p99_latency_ms, max_latency_ms = excluded.max_latency_ms
         where (m.*) is distinct from (excluded.*)
        returning 1
    )
    select (select count(*) from gone) + (select count(*) from written) into changed;
    return changed;
end $$;

create function lifecycle.data_quality_status(metric_value numeric, threshold lifecycle.data_quality_thresholds) returns text
language sql immutable set search_path = ''
as $$
    select case when threshold.healthy_if = 'at_least' and metric_value >= threshold.threshold
                  or threshold.healthy_if = 'at_most' and metric_value <= threshold.threshold
                then 'healthy' else 'warning' end
$$;

create function lifecycle.refresh_data_quality_metrics(as_of timestamptz) returns bigint
language plpgsql set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan'
as $$
declare
    day_start constant timestamptz := as_of - interval '24 hours';
    changed   bigint;
begin
    with events as (
        select count(*) as total, count(*) filter (where e.account_id is null) as without_account
          from public.user_behavior_events e where e.event_timestamp >= day_start
    ), measured (metric_name, metric_value) as (
        select 'user_behavior_events_24h', total::numeric from events
         union all
        select 'chat_sessions_24h', count(*)::numeric from public.chat_sessions s
         where s.started_at >= day_start
         union all
        select 'null_account_id_rate', coalesce(round(100.0 * without_account / nullif(total, 0), 2), 0) from events
         union all
        select 'avg_event_latency_ms', coalesce(round(avg(m.latency_ms), 2), 0) from lifecycle.chat_message_facts m
         where m.created_at >= day_start
    ), written as (
        insert into lifecycle.data_quality_metrics as q
        select m.metric_name, m.metric_value, t.threshold, lifecycle.data_quality_status(m.metric_value, t), as_of
          from measured m join lifecycle.data_quality_thresholds t using (metric_name)
        on conflict (metric_name) do update
           set metric_value = excluded.metric_value, threshold = excluded.threshold, status = excluded.status,
               last_checked = excluded.last_checked
        returning 1
    )
    select count(*) from written into changed;
    return changed;
end $$;

-- What the metrics would have said at the end of each hour of the last 25 months, silent hours included.
create view lifecycle.data_quality_history as
with hours as (
    select g.hour, q.events, q.events_without_account, q.chat_sessions, q.latencies, q.latency_sum_ms
      from generate_series(greatest((select min(q.hour) from lifecycle.data_quality_hourly q),
                                    date_trunc('hour', now(), 'UTC') - interval '25 months'),
                           date_trunc('hour', now(), 'UTC'), interval '1 hour') g(hour)
      left join lifecycle.data_quality_hourly q on q.hour = g.hour
), last_day as (
    select h.hour, coalesce(sum(h.events) over d, 0) as events,
           coalesce(sum(h.events_without_account) over d, 0) as without_account,
           coalesce(sum(h.chat_sessions) over d, 0) as sessions, sum(h.latency_sum_ms) over d as latency_sum,
           sum(h.latencies) over d as latencies
      from hours h
    window d as (order by h.hour rows between 23 preceding and current row)
), measured as (
    select l.hour, m.metric_name, m.metric_value
      from last_day l
     cross join lateral (values
           ('user_behavior_events_24h', l.events),
           ('chat_sessions_24h', l.sessions),
           ('null_account_id_rate', coalesce(round(100.0 * l.without_account / nullif(l.events, 0), 2), 0)),
           ('avg_event_latency_ms', coalesce(round(l.latency_sum / nullif(l.latencies, 0), 2), 0))
           ) m(metric_name, metric_value)
)
select m.hour, m.metric_name, m.metric_value, t.threshold, lifecycle.data_quality_status(m.metric_value, t) as status
  from measured m join lifecycle.data_quality_thresholds t using (metric_name);
comment on view lifecycle.data_quality_history is 'Each data quality metric over the 24 hours that end with the given UTC hour, judged by the thresholds of today.';

create function lifecycle.refresh_daily_active_users(as_of timestamptz) returns bigint
language plpgsql set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan'
as $$
declare
    today      constant date := as_of::date;
    first      constant date := today - 90;
    only_today boolean;
    changed    bigint;
begin
    with days as (
        delete from lifecycle.pending_recounts p where p.statistic = 'daily_active_users' returning p.day
    )
    -- An earlier day, or a window that has moved on, makes new users of one day returning users of another.
    select coalesce(bool_and(d.day = today), true)
           and exists (select from lifecycle.refresh_states s
                        where s.name = 'daily_active_users' and s.refreshed_at::date = today)
           and not exists (select from lifecycle.account_session_days a where a.day > today)
      into only_today from days d;
    with seen as (
        select distinct a.day, a.account_id from lifecycle.account_session_days a
         where a.day >= case when only_today then today else first end
    ), first_seen as (
        select s.account_id, case when only_today and exists (
                   select from lifecycle.account_session_days a
                    where a.account_id = s.account_id and a.day >= first and a.day < today)
               then first else min(s.day) end as day
          from seen s group by s.account_id
    ), fresh as materialized (
        select s.day, count(*) as dau, count(*) filter (where f.day = s.day) as new_users,
               count(*) filter (where f.day < s.day) as returning_users
          from seen s join first_seen f using (account_id) group by s.day
    ), gone as (
        delete from lifecycle.daily_active_users d
         where (not only_today or d.date = today) and not exists (select from fresh f where f.day = d.date)
        returning 1
    ), written as (
        insert into lifecycle.daily_active_users as d select * from fresh
        on conflict (date) do update
           set dau = excluded.dau, new_users = excluded.new_users, returning_users = excluded.returning_users
         where (d.*) is distinct from (excluded.*)
        returning 1
    )
    select (select count(*) from gone) + (select count(*) from written) into changed;
    return changed;
end $$;

-- A day counts towards the 29 days after it.
create function lifecycle.refresh_weekly_monthly_active_users(as_of timestamptz) returns bigint
language sql set search_path = '' set timezone = 'UTC'
as $$
    with days as materialized (
        delete from lifecycle.pending_recounts p where p.statistic = 'weekly_monthly_active_users' returning p.day
    ), wanted as materialized (
        select g::date as date
          from generate_series(as_of::date - 90, as_of::date, interval '1 day') g
         where not exists (select from lifecycle.weekly_monthly_active_users w where w.date = g::date)
            or exists (select from days d where d.day > g::date - 30 and d.day <= g::date)
    ), fresh as materialized (
        select w.date,
               count(*) filter (where s.last_day = w.date) as dau,
               count(*) filter (where s.last_day > w.date - 7) as wau,
               count(s.account_id) as mau
          from wanted w
          left join lateral (
                select a.account_id, max(a.day) as last_day from lifecycle.account_session_days a
                 where a.day > w.date - 30 and a.day <= w.date group by a.account_id) s on true
         group by w.date
    ), gone as (
        delete from lifecycle.weekly_monthly_active_users w
         where w.date not between as_of::date - 90 and as_of::date
        returning 1
    ), written as (
        insert into lifecycle.weekly_monthly_active_users as w select * from fresh
        on conflict (date) do update set dau = excluded.dau, wau = excluded.wau, mau = excluded.mau
         where (w.*) is distinct from (excluded.*)
        returning 1
    )
    select (select count(*) from gone) + (select count(*) from written)
$$;

create function lifecycle.refresh_user_engagement_scores(as_of timestamptz) returns bigint
language sql set search_path = ''
as $$
    with accounts as materialized (
        delete from lifecycle.pending_recounts p where p.statistic = 'user_engagement_scores' returning p.account_id
    ), days as materialized (
        select a.account_id, count(distinct d.day) as total_days_active, count(distinct d.session_id) as total_sessions,
               max(d.day) as last_activity_date
          from accounts a join lifecycle.account_session_days d using (account_id) group by 1
    ), fresh as materialized (
        select d.account_id, d.total_days_active, d.total_sessions, coalesce(m.messages, 0) as total_messages,
               d.last_activity_date
          from days d
          left join (select h.account_id, sum(h.messages)::bigint as messages
                       from accounts a join lifecycle.chat_session_hours h using (account_id) group by 1) m using (account_id)
    ), gone as (
        delete from lifecycle.user_engagement_scores u using accounts a
         where u.account_id = a.account_id and not exists (select from fresh f where f.account_id = a.account_id)
        returning 1
    ), written as (
        insert into lifecycle.user_engagement_scores as u select * from fresh
        on conflict (account_id) do update
           set total_days_active = excluded.total_days_active, total_sessions = excluded.total_sessions,
               total_messages = excluded.total_messages, last_activity_date = excluded.last_activity_date
         where (u.*) is distinct from (excluded.*)
        returning 1
    )
    select (select count(*) from gone) + (select count(*) from written)
$$;

create function lifecycle.refresh_chat_usage_by_account(as_of timestamptz) returns bigint
language sql set search_path = ''
as $$
    with accounts as materialized (
        delete from lifecycle.pending_recounts p where p.statistic = 'chat_usage_by_account' returning p.account_id
    ), messages as (
        select h.session_id, sum(h.messages) as messages
          from accounts a join lifecycle.chat_session_hours h using (account_id) group by 1
    ), fresh as materialized (
        select s.account_id, count(*) as total_sessions, coalesce(sum(m.messages), 0)::bigint as total_messages,
               min(s.started_at) as first_activity_at, max(s.last_activity_at) as last_activity_at
          from accounts a
          join public.chat_sessions s using (account_id)
          left join messages m on m.session_id = s.id
         group by 1
    ), gone as (
        delete from lifecycle.chat_usage_by_account u using accounts a
         where u.account_id = a.account_id and not exists (select from fresh f where f.account_id = a.account_id)
        returning 1
    ), written as (
        insert into lifecycle.chat_usage_by_account as u select * from fresh
        on conflict (account_id) do update
           set total_sessions = excluded.total_sessions, total_messages = excluded.total_messages,
               first_activity_at = excluded.first_activity_at, last_activity_at = excluded.last_activity_at
         where (u.*) is distinct from (excluded.*)
        returning 1
    )
    select (select count(*) from gone) + (select count(*) from written)
$$;

create function lifecycle.refresh_hourly_usage_patterns(as_of timestamptz) returns bigint
language plpgsql set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan'
as $$
declare
    window_start constant timestamptz := as_of - interval '30 days';
    first_whole  constant timestamptz := date_trunc('hour', window_start) + interval '1 hour';
    changed      bigint;
begin
    with sessions as (
        select h.* from lifecycle.chat_session_hours h where h.hour >= first_whole
         union all
        select c.* from lifecycle.chat_sessions_by_hour(window_start, first_whole) c
    ), fresh as materialized (
        select extract(dow from s.hour)::integer as day_of_week, extract(hour from s.hour)::integer as hour_of_day,
               sum(s.messages)::bigint as message_count, count(distinct s.session_id) as session_count,
               count(distinct s.account_id) as unique_users
          from sessions s group by 1, 2
    ), gone as (
        delete from lifecycle.hourly_usage_patterns p
         where not exists (select from fresh f where f.day_of_week = p.day_of_week and f.hour_of_day = p.hour_of_day)
        returning 1
    ), written as (
        insert into lifecycle.hourly_usage_patterns as p select * from fresh
        on conflict (day_of_week, hour_of_day) do update
           set message_count = excluded.message_count, session_count = excluded.session_count,
               unique_users = excluded.unique_users
         where (p.*) is distinct from (excluded.*)
        returning 1
    )
    select (select count(*) from gone) + (select count(*) from written) into changed;
    return changed;
end $$;

-- In this order: the summary of features adds to what the totals have counted.
create function lifecycle.statistic_names() returns text[]
language sql immutable set search_path = ''
as $$
    select array['account_function_usage', 'feature_usage_summary', 'chat_performance_metrics', 'data_quality_metrics',
                 'daily_active_users', 'weekly_monthly_active_users', 'user_engagement_scores', 'chat_usage_by_account',
                 'hourly_usage_patterns']
$$;

-- Brings the named statistics, or all, up to what the roll-ups hold now; one that fails does not stop the others.
create function lifecycle.refresh_statistics(only_names text[] default null, ledger text default 'refresh_derived_statistics')
returns table (name text, outcome text, duration_ms bigint, rows bigint, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    started timestamptz;
begin
    foreach name in array lifecycle.statistic_names() loop
        continue when not (name = any (coalesce(only_names, lifecycle.statistic_names())));
        started := clock_timestamp();
        begin
            execute format('select lifecycle.%I($1)', 'refresh_' || name) into rows using now();
            insert into lifecycle.refresh_states as s (name, refreshed_at, rows) values (name, now(), rows)
            on conflict on constraint refresh_states_pkey do update set refreshed_at = excluded.refreshed_at, rows = excluded.rows;
            outcome := 'success'; error := null;
        exception when others then
            outcome := 'failure'; error := lifecycle.first_line(sqlerrm); rows := 0;
        end;
        duration_ms := lifecycle.milliseconds_since(started);
        perform lifecycle.record_outcome(ledger, name, error,
            jsonb_build_object('outcome', outcome, 'duration_ms', duration_ms, 'rows', rows));
        return next;
    end loop;
end $$;

-- One writer at a time. The lock lasts until the transaction ends; the pid of its holder, or null when it is ours.
create function lifecycle.lock_analytics() returns int
language plpgsql set search_path = ''
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        -- An old snapshot would not see what the watermark says has been seen.
        raise exception 'statistics are refreshed at isolation level read committed, not %', current_setting('transaction_isolation')
            using errcode = 'invalid_transaction_state', hint = 'set transaction isolation level read committed';
    end if;
    if pg_try_advisory_xact_lock(hashtextextended('lifecycle.analytics', 0)) then
        return null;
    end if;
    return coalesce((select l.pid from pg_locks l
                      where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                        and l.database = (select d.oid from pg_database d where d.datname = current_database())
                        and ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended('lifecycle.analytics', 0)
                      limit 1), 0);
end $$;

-- Roll-ups first, then every table behind the dashboards' views; with from_time and to_time also all buckets of those
-- UTC days, which gives the same rows. One row per roll-up and statistic; `rows` are those that changed.
create function public.refresh_derived_statistics(from_time timestamptz default null, to_time timestamptz default null)
returns table (name text, outcome text, duration_ms bigint, rows bigint, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    holder int;
begin
    if (from_time is null) <> (to_time is null) or from_time >= to_time or not isfinite(from_time) or not isfinite(to_time) then
        raise exception 'a range needs both from_time and to_time, the first before the second'
            using errcode = 'invalid_parameter_value', hint = 'Leave both out to refresh what changed.';
    end if;
    holder := lifecycle.lock_analytics();
    if holder is not null then
        return query select 'refresh_derived_statistics', 'busy', 0::bigint, 0::bigint,
            format('another session refreshes the statistics (pid %s); nothing was done, wait for it', holder);
        return;
    end if;
    return query select r.* from lifecycle.refresh_roll_ups(from_time, to_time, 'refresh_derived_statistics') r;
    return query select s.* from lifecycle.refresh_statistics() s;
end $$;

-- Materialized views -----------------------------------------------------------------------------------------

-- How often the rows of these tables, partitions included, have changed. Counters of the statistics system are
-- some seconds behind and never ahead of the rows: read before a refresh, they never hide a change.
create function lifecycle.source_changes(sources text[]) returns numeric
language sql stable set search_path = ''
as $$
    select coalesce(sum(pg_stat_get_tuples_inserted(t.relid) + pg_stat_get_tuples_updated(t.relid)
                        + pg_stat_get_tuples_deleted(t.relid)
                        + coalesce(pg_relation_filenode(t.relid)::bigint, 0)), 0)  -- TRUNCATE counts no rows
           + count(*)  -- a dropped partition takes its counters along
      from unnest(sources) s
     cross join lateral (select to_regclass(s) as relid
                          union
                         select p.relid from pg_partition_tree(to_regclass(s)) p where p.isleaf) t
$$;

-- Refreshes one materialized view, or says why not. Readers are never blocked: only CONCURRENTLY is used on a view
-- that can be read. A lock that stays taken is not queued for.
create function lifecycle.refresh_materialized_view(policy lifecycle.materialized_view_policies)
returns table (outcome text, rows bigint, error text)
language plpgsql set search_path = '' set lock_timeout = '1s'
as $$
#variable_conflict use_variable
declare
    target   constant regclass := to_regclass(format('%I.%I', policy.schema_name, policy.view_name));
    changes  constant numeric := lifecycle.source_changes(policy.sources);
    found    record;
    last     lifecycle.refresh_states;
begin
    rows := 0;
    select c.relkind, c.relispopulated,
           exists (select from pg_index i
                    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
                      and i.indpred is null and i.indexprs is null) as unique_index
      into found from pg_class c where c.oid = target;
    if found.relkind is distinct from 'm' then
        outcome := 'failure';
        error := format('%s.%s is %s; restore it, or take it out of lifecycle/policy.py and run lifecycle migrate',
                        policy.schema_name, policy.view_name,
                        case when found.relkind is null then 'missing' else 'no materialized view' end);
        return next; return;
    end if;
    select s.* into last from lifecycle.refresh_states s where s.name = policy.view_name;
    if found.relispopulated and not found.unique_index then
        outcome := 'failure';
        error := format('%s has no unique index over plain columns, so a refresh would block its readers; create one: '
                        'create unique index concurrently on %s (...)', target, target);
        return next; return;
    end if;
    if found.relispopulated and last.source_changes = changes and last.refreshed_at > now() - policy.max_age then
        outcome := 'skipped'; rows := last.rows; error := null;
        return next; return;
    end if;
    begin
        if found.relispopulated then
            execute format('refresh materialized view concurrently %s', target);
            outcome := 'success';
        else
            -- Nobody can be reading it: PostgreSQL refuses to read what was never populated.
            execute format('refresh materialized view %s', target);
            outcome := 'populated';
        end if;
        execute format('select count(*) from %s', target) into rows;
        insert into lifecycle.refresh_states as s (name, refreshed_at, source_changes, rows)
        values (policy.view_name, now(), changes, rows)
        on conflict on constraint refresh_states_pkey do update
           set refreshed_at = excluded.refreshed_at, source_changes = excluded.source_changes, rows = excluded.rows;
        error := null;
    exception
        when lock_not_available or deadlock_detected then
            outcome := 'busy';
            error := format('no lock on %s within 1 s; nothing was changed. Another refresh or an ALTER is in the way: wait for it', target);
        when others then
            outcome := 'failure'; error := lifecycle.first_line(sqlerrm);
    end;
    return next;
end $$;

-- account_function_usage from its roll-up, then the materialized views, each on its own: one row per view.
create function public.refresh_analytics_hourly(only_view text default null)
returns table (name text, outcome text, duration_ms bigint, rows bigint, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    job     constant text := 'refresh_analytics_hourly';
    policy  lifecycle.materialized_view_policies;
    started timestamptz;
    holder  int;
    failed  text;
begin
    if only_view <> 'account_function_usage'
       and not exists (select from lifecycle.materialized_view_policies p where p.view_name = only_view) then
        raise exception 'no view named % in lifecycle.materialized_view_policies', only_view
            using errcode = 'undefined_table', hint = 'Run lifecycle migrate, or correct the name.';
    end if;
    holder := lifecycle.lock_analytics();
    if holder is not null then
        return query select v.n, 'busy', 0::bigint, 0::bigint,
            format('another session refreshes (pid %s); nothing was done, wait for it', holder)
          from (select 'account_function_usage' union all
                select p.view_name from lifecycle.materialized_view_policies p) v(n)
         where v.n = coalesce(only_view, v.n);
        return;
    end if;
    if coalesce(only_view, 'account_function_usage') = 'account_function_usage' then
        started := clock_timestamp();
        select string_agg(distinct r.error, '; ') into failed
          from lifecycle.refresh_roll_ups() r where r.outcome = 'failure' and r.name = 'function_usage_hourly';
        if failed is not null then
            name := 'account_function_usage'; outcome := 'failure'; rows := 0; error := failed;
            duration_ms := lifecycle.milliseconds_since(started);
            perform lifecycle.record_outcome(job, name, error, jsonb_build_object('outcome', outcome, 'duration_ms', duration_ms));
            return next;
        else
            return query select s.name, s.outcome, lifecycle.milliseconds_since(started), s.rows, s.error
              from lifecycle.refresh_statistics(array['account_function_usage'], job) s;
        end if;
    end if;
    for policy in select p.* from lifecycle.materialized_view_policies p
                   where p.view_name = coalesce(only_view, p.view_name) order by p.view_name loop
        name := policy.view_name;
        started := clock_timestamp();
        begin
            select v.outcome, v.rows, v.error into outcome, rows, error
              from lifecycle.refresh_materialized_view(policy) v;
        exception when others then
            outcome := 'failure'; rows := 0; error := lifecycle.first_line(sqlerrm);
        end;
        duration_ms := lifecycle.milliseconds_since(started);
        perform lifecycle.record_outcome(job, name, error,
            jsonb_build_object('outcome', outcome, 'duration_ms', duration_ms, 'rows', rows), outcome <> 'busy');
        return next;
    end loop;
end $$;

-- Comparison with the sources --------------------------------------------------------------------------------

-- Recomputes a sample of past days from the sources, with everything that rests on them, and all sums over roll-ups;
-- what differed has been put right. Changes that no trigger sees (TRUNCATE, session_replication_role = replica) are
-- found here. Expected: nothing.
create function lifecycle.reconcile_statistics(sample_days int default 10, sample_accounts int default 1000)
returns table (name text, checked bigint, repaired bigint)
language plpgsql set search_path = '' set timezone = 'UTC'
as $$
#variable_conflict use_variable
declare
    today     constant timestamptz := date_trunc('day', now());
    first     timestamptz;
    day       timestamptz;
    result    record;
    found     bigint[] := array[0, 0, 0, 0, 0];
    days      timestamptz[];
    total     bigint := 0;
    holder    int := lifecycle.lock_analytics();
begin
    if holder is not null then
        raise exception 'another session refreshes the statistics (pid %)', holder
            using errcode = 'lock_not_available', hint = 'Wait until it is done; nothing was changed.';
    end if;
    for result in select r.* from lifecycle.refresh_roll_ups() r
                  union all select s.* from lifecycle.refresh_statistics() s loop
        if result.outcome = 'failure' then
            raise exception '%: %', result.name, result.error;
        end if;
    end loop;
    -- A row of the year 1 must not spread the sample over empty centuries, nor one of -infinity over eternity.
    first := least((select min(h.hour) from lifecycle.data_quality_hourly h where h.hour > now() - interval '10 years'),
                   (select min(s.started_at) from public.chat_sessions s where s.started_at > now() - interval '10 years'), today - interval '7 days');
    -- The last three days, where most of what is late arrives, and others at random.
    select array_agg(d.d) into days from (
        select today - interval '1 day' * n as d from generate_series(1, 3) n
         union
        select * from (select g from generate_series(date_trunc('day', first), today - interval '1 day', interval '1 day') g
                        order by random() limit greatest(sample_days - 3, 0)) r) d;
    foreach day in array days loop
        found[1] := found[1] + lifecycle.roll_up_chat_session_hours(day, day + interval '1 day');
        found[2] := found[2] + lifecycle.roll_up_function_usage_hourly(day, day + interval '1 day');
        found[3] := found[3] + lifecycle.roll_up_chat_performance_history(day, day + interval '1 day');
        found[4] := found[4] + lifecycle.roll_up_account_session_days(day, day + interval '1 day');
        found[5] := found[5] + lifecycle.roll_up_data_quality_hourly(day, day + interval '1 day');
    end loop;
    total := (select sum(f) from unnest(found) f);
    return query select f.n, cardinality(days)::bigint, f.r
      from unnest(array['chat_session_hours', 'function_usage_hourly', 'chat_performance_history',
                        'account_session_days', 'data_quality_hourly'], found) f(n, r);

    insert into lifecycle.pending_recounts (statistic, account_id)
    select s.statistic, a.id
      from (select a.id from public.accounts a order by random() limit sample_accounts) a
     cross join unnest(array['user_engagement_scores', 'chat_usage_by_account']) s(statistic)
    on conflict do nothing;
    insert into lifecycle.pending_recounts (statistic, account_id, function_name)
    select 'account_function_usage', h.account_id, h.function_name
      from (select h.account_id, h.function_name, sum(h.uses) as uses from lifecycle.function_usage_hourly h group by 1, 2) h
      full join lifecycle.function_usage_totals t using (account_id, function_name)
     where h.uses is distinct from t.uses
    on conflict do nothing;
    for result in select s.name as statistic, s.rows, s.outcome, s.error
                    from lifecycle.refresh_statistics(array['account_function_usage', 'user_engagement_scores',
                                                            'chat_usage_by_account']) s loop
        if result.outcome = 'failure' then
            raise exception '%: %', result.statistic, result.error;
        end if;
        name := result.statistic;
        checked := case name when 'account_function_usage' then (select count(*) from lifecycle.function_usage_totals)
                             else least(sample_accounts, (select count(*) from public.accounts)) end;
        repaired := result.rows;
        total := total + repaired;
        return next;
    end loop;

    name := 'feature_usage_summary';
    select count(*) into checked from lifecycle.feature_usage_summary;
    with summed as (
        select t.function_name, sum(t.uses)::bigint as uses, count(*) as users
          from lifecycle.function_usage_totals t group by 1
    ), written as (
        insert into lifecycle.feature_usage_summary as s (feature_name, total_uses, unique_users) select * from summed
        on conflict (feature_name) do update set total_uses = excluded.total_uses, unique_users = excluded.unique_users
         where (s.total_uses, s.unique_users) <> (excluded.total_uses, excluded.unique_users)
        returning 1
    ), gone as (
        delete from lifecycle.feature_usage_summary s
         where not exists (select from summed u where u.function_name = s.feature_name)
        returning 1
    )
    select (select count(*) from written) + (select count(*) from gone) into repaired;
    total := total + repaired;
    return next;
    insert into lifecycle.refresh_states as s (name, refreshed_at, rows) values ('reconcile_statistics', now(), total)
    on conflict on constraint refresh_states_pkey do update set refreshed_at = excluded.refreshed_at, rows = excluded.rows;
    perform lifecycle.record_outcome('reconcile_statistics', '', null, jsonb_build_object('repaired', total));
end $$;

revoke all on function public.refresh_derived_statistics(timestamptz, timestamptz) from public;
revoke all on function public.refresh_analytics_hourly(text) from public;
do $$
declare
    api_role name;
begin
    for api_role in select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated') loop
        execute format('revoke all on function public.refresh_derived_statistics(timestamptz, timestamptz) from %I', api_role);
        execute format('revoke all on function public.refresh_analytics_hourly(text) from %I', api_role);
    end loop;
end $$;
