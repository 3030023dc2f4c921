-- Roll-ups for derived statistics. Three layers, all in UTC; this revision makes the first two:
--   changes   what the application changed behind the watermark, written by row triggers that ordinary rows never fire
--   roll-ups  one row per hour (chat) or day (activity) and subject, recomputed from the source bucket by bucket
--   tables    what the dashboards read, under the names and columns of the application's views
-- The rows since the watermark are recomputed each time; a row older than two hours fires a trigger, so that late
-- and corrected rows are noticed however old they are. The watermark never passes a transaction that is still open.

do $$
declare
    missing text;
begin
    select string_agg('public.' || t, ', ') into missing
      from unnest(array['accounts', 'audit_events', 'chat_messages', 'chat_sessions', 'search_queries',
                        'user_behavior_events']) t
     where to_regclass('public.' || t) is null;
    if missing is not null then
        raise exception 'this database lacks tables of the application: %', missing
            using hint = 'Statistics are made of them. Name the application''s own database, and migrate again.';
    end if;
end $$;

-- State ------------------------------------------------------------------------------------------------------

create table lifecycle.roll_up_watermarks (
    name        text primary key,
    safe_until  timestamptz not null default '-infinity',
    source_floor timestamptz not null default '-infinity'
);
comment on table lifecycle.roll_up_watermarks is 'Up to where each roll-up has seen everything. source_floor: where the oldest partition of the source begins.';
insert into lifecycle.roll_up_watermarks (name) values ('chat'), ('activity');

-- Append-only, without an index: writers of the application must never wait for each other here.
create table lifecycle.changed_chat_hours (changed_at timestamptz not null);
create table lifecycle.changed_chat_sessions (session_id uuid not null, account_id uuid not null);
create table lifecycle.changed_activity (account_id uuid, happened_at timestamptz not null);
comment on table lifecycle.changed_chat_hours is 'Moments of chat messages that came, changed or went behind the watermark.';
comment on table lifecycle.changed_chat_sessions is 'Chat sessions whose owner or times changed, or that are gone.';
comment on table lifecycle.changed_activity is 'Accounts and moments of events and chat sessions that came, changed or went behind the watermark.';

create table lifecycle.pending_recounts (
    statistic     text not null,
    account_id    uuid,
    day           date,
    function_name text,
    unique nulls not distinct (statistic, account_id, day, function_name)
);
comment on table lifecycle.pending_recounts is 'What roll-ups changed and a statistic has not taken up yet; kept when that statistic fails.';

-- Roll-ups ---------------------------------------------------------------------------------------------------

create table lifecycle.chat_session_hours (
    session_id uuid not null,
    hour       timestamptz not null,
    account_id uuid not null,
    messages   bigint not null,
    primary key (session_id, hour)
);
create index chat_session_hours_hour_idx on lifecycle.chat_session_hours (hour);
create index chat_session_hours_account_id_idx on lifecycle.chat_session_hours (account_id);

create table lifecycle.function_usage_hourly (
    account_id        uuid not null,
    function_name     text not null,
    hour              timestamptz not null,
    uses              bigint not null,
    last_used_at      timestamptz not null,
    tool_uses         bigint not null,
    first_tool_use_at timestamptz,
    last_tool_use_at  timestamptz,
    primary key (account_id, function_name, hour)
);
create index function_usage_hourly_hour_idx on lifecycle.function_usage_hourly (hour);

create table lifecycle.chat_performance_history (
    hour              timestamptz primary key,
    total_messages    bigint not null,
    avg_latency_ms    numeric,
    median_latency_ms double precision,
    p95_latency_ms    double precision,
    p99_latency_ms    double precision,
    max_latency_ms    integer
);

create table lifecycle.account_session_days (
    account_id uuid not null,
    day        date not null,
    session_id text not null,
    primary key (account_id, day, session_id)
);
create index account_session_days_day_idx on lifecycle.account_session_days (day, account_id);

create table lifecycle.data_quality_hourly (
    hour                   timestamptz primary key,
    events                 bigint not null,
    events_without_account bigint not null,
    chat_sessions          bigint not null,
    latencies              bigint not null,
    latency_sum_ms         numeric not null
);
comment on table lifecycle.chat_session_hours is 'Chat messages per session and UTC hour. Outlives the messages.';
comment on table lifecycle.function_usage_hourly is 'Calls of each tool per account and UTC hour: of any message (uses), of tool messages alone (tool_uses). Outlives the messages.';
comment on table lifecycle.chat_performance_history is 'Latency of assistant messages per UTC hour, as far back as it was ever computed.';
comment on table lifecycle.account_session_days is 'Which account was seen in which session on which UTC day, in events and chat sessions.';
comment on table lifecycle.data_quality_hourly is 'What the data quality metrics count, per UTC hour.';

-- What the application changes behind the watermark ----------------------------------------------------------

-- With the owner's rights: the API's roles write the tables and may know nothing of this schema.
create function lifecycle.note_changed_messages() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if tg_op <> 'INSERT' then
        insert into lifecycle.changed_chat_hours values (old.created_at);
    end if;
    if tg_op <> 'DELETE' then
        insert into lifecycle.changed_chat_hours values (new.created_at);
    end if;
    return null;
end $$;

create function lifecycle.note_changed_sessions() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if tg_op <> 'INSERT' then
        insert into lifecycle.changed_chat_sessions values (old.id, old.account_id);
    end if;
    if tg_op = 'INSERT' or tg_op = 'UPDATE' and (new.id, new.account_id) <> (old.id, old.account_id) then
        insert into lifecycle.changed_chat_sessions values (new.id, new.account_id);
    end if;
    -- Sessions count as activity on the day they started; the change of their end does not.
    if tg_op = 'DELETE' or tg_op = 'UPDATE' and (new.id, new.account_id, new.started_at) <> (old.id, old.account_id, old.started_at) then
        insert into lifecycle.changed_activity values (old.account_id, old.started_at);
    end if;
    if tg_op = 'INSERT' or tg_op = 'UPDATE' and (new.id, new.account_id, new.started_at) <> (old.id, old.account_id, old.started_at) then
        insert into lifecycle.changed_activity values (new.account_id, new.started_at);
    end if;
    return null;
end $$;

create function lifecycle.note_changed_events() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    if tg_op <> 'INSERT' then
        insert into lifecycle.changed_activity values (old.account_id, old.event_timestamp);
    end if;
    if tg_op <> 'DELETE' then
        insert into lifecycle.changed_activity values (new.account_id, new.event_timestamp);
    end if;
    return null;
end $$;

-- The conditions are evaluated without a call: a row of the last two hours costs next to nothing. They must not
-- look further back than lifecycle.overlap().
create function lifecycle.overlap() returns interval
language sql immutable set search_path = ''
as $$ select interval '2 hours' $$;

create trigger lifecycle_late_insert after insert on public.chat_messages for each row
    when (new.created_at < now() - interval '2 hours') execute function lifecycle.note_changed_messages();
create trigger lifecycle_late_update
    after update of session_id, role, tool_calls, latency_ms, created_at on public.chat_messages for each row
    when (least(old.created_at, new.created_at) < now() - interval '2 hours')
    execute function lifecycle.note_changed_messages();
create trigger lifecycle_late_delete after delete on public.chat_messages for each row
    when (old.created_at < now() - interval '2 hours') execute function lifecycle.note_changed_messages();

create trigger lifecycle_late_insert after insert on public.chat_sessions for each row
    when (new.started_at < now() - interval '2 hours') execute function lifecycle.note_changed_sessions();
create trigger lifecycle_update
    after update of id, account_id, started_at, last_activity_at on public.chat_sessions for each row
    when (old.id is distinct from new.id or old.account_id is distinct from new.account_id
          or old.started_at is distinct from new.started_at or old.last_activity_at is distinct from new.last_activity_at)
    execute function lifecycle.note_changed_sessions();
create trigger lifecycle_delete after delete on public.chat_sessions for each row
    execute function lifecycle.note_changed_sessions();

create trigger lifecycle_late_insert after insert on public.user_behavior_events for each row
    when (new.event_timestamp < now() - interval '2 hours') execute function lifecycle.note_changed_events();
create trigger lifecycle_late_update
    after update of account_id, session_id, event_timestamp on public.user_behavior_events for each row
    when (least(old.event_timestamp, new.event_timestamp) < now() - interval '2 hours'
          and (old.account_id is distinct from new.account_id or old.session_id is distinct from new.session_id
               or old.event_timestamp is distinct from new.event_timestamp))
    execute function lifecycle.note_changed_events();
create trigger lifecycle_late_delete after delete on public.user_behavior_events for each row
    when (old.event_timestamp < now() - interval '2 hours') execute function lifecycle.note_changed_events();

-- Sources ----------------------------------------------------------------------------------------------------

-- Every chat message without its text: the one place where roll-ups read messages.
create view lifecycle.chat_message_facts as
select m.id, m.session_id, m.role, m.tool_calls, m.latency_ms, m.created_at from public.chat_messages m;

-- Latency of assistant messages per hour, for from_time <= created_at < to_time. Percentiles interpolate.
create function lifecycle.chat_performance(from_time timestamptz, to_time timestamptz)
returns setof lifecycle.chat_performance_history
language sql stable set search_path = '' set timezone = 'UTC'
as $$
    select date_trunc('hour', m.created_at), count(*), round(avg(m.latency_ms), 2),
           percentile_cont(0.5) within group (order by m.latency_ms),
           percentile_cont(0.95) within group (order by m.latency_ms),
           percentile_cont(0.99) within group (order by m.latency_ms),
           max(m.latency_ms)
      from lifecycle.chat_message_facts m
     where m.role = 'assistant' and m.latency_ms is not null
       and m.created_at >= from_time and m.created_at < to_time
     group by 1
$$;

-- Messages per session and hour, with the session's owner. Planned for the range at hand: with unknown bounds the
-- planner expects so many messages that each late hour would read all sessions.
create function lifecycle.chat_sessions_by_hour(from_time timestamptz, to_time timestamptz)
returns setof lifecycle.chat_session_hours
language plpgsql stable set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan'
as $$
begin
    return query
    select m.session_id, date_trunc('hour', m.created_at), s.account_id, count(*)
      from lifecycle.chat_message_facts m
      join public.chat_sessions s on s.id = m.session_id
     where m.created_at >= from_time and m.created_at < to_time
     group by 1, 2, 3;
end $$;

-- Calls of each tool per account and hour: elements of tool_calls that name a tool. A name is cut at 500 characters:
-- one that no index can hold, written by whoever owns a session, would stop every roll-up of the chat.
create function lifecycle.function_usage(from_time timestamptz, to_time timestamptz)
returns setof lifecycle.function_usage_hourly
language plpgsql stable set search_path = '' set timezone = 'UTC' set plan_cache_mode = 'force_custom_plan'
as $$
begin
    return query
    select s.account_id, left(call ->> 'tool', 500), date_trunc('hour', m.created_at), count(*), max(m.created_at),
           count(*) filter (where m.role = 'tool'),
           min(m.created_at) filter (where m.role = 'tool'), max(m.created_at) filter (where m.role = 'tool')
      from lifecycle.chat_message_facts m
      join public.chat_sessions s on s.id = m.session_id
     cross join lateral jsonb_array_elements(
                case when jsonb_typeof(m.tool_calls) = 'array' then m.tool_calls else '[]' end) call
     where m.created_at >= from_time and m.created_at < to_time and call ->> 'tool' is not null
     group by 1, 2, 3;
end $$;

-- Nobody who may have written before this moment is still to commit: the clock, or the oldest open transaction.
-- A role without pg_read_all_stats does not see those of others; the overlap alone covers them then.
create function lifecycle.safe_until() returns timestamptz
language sql volatile set search_path = ''
as $$
    select least(now(),
                 (select min(a.xact_start) from pg_stat_activity a
                   where a.datname = current_database() and a.pid <> pg_backend_pid()
                     and a.backend_type not in ('autovacuum worker', 'walsender', 'parallel worker')),
                 (select min(p.prepared) from pg_prepared_xacts p where p.database = current_database()))
$$;

-- The first moment of which the partitions still hold events; -infinity while nothing can have been dropped.
create function lifecycle.source_floor() returns timestamptz
language sql stable set search_path = ''
as $$
    select coalesce(min(p.lower_bound), '-infinity')
      from lifecycle.event_partitions_of(to_regclass('public.user_behavior_events')) p where not p.is_default
$$;

-- Roll-ups ---------------------------------------------------------------------------------------------------

-- Each recomputes the buckets of [from_time, to_time), which must begin and end with a bucket, writes the rows that
-- differ, hands them to the statistics, and returns their number. Rows are stored in the order of time, so that a window
-- of a long history lies together.

create function lifecycle.roll_up_chat_session_hours(from_time timestamptz, to_time timestamptz) returns bigint
language sql set search_path = ''
as $$
    with fresh as materialized (
        select * from lifecycle.chat_sessions_by_hour(from_time, to_time)
    ), gone as (
        delete from lifecycle.chat_session_hours h
         where h.hour >= from_time and h.hour < to_time
           and not exists (select from fresh f where f.session_id = h.session_id and f.hour = h.hour)
        returning h.account_id
    ), written as (
        insert into lifecycle.chat_session_hours as h select * from fresh order by hour
        on conflict (session_id, hour) do update
           set account_id = excluded.account_id, messages = excluded.messages
         where (h.account_id, h.messages) <> (excluded.account_id, excluded.messages)
        returning h.account_id
    ), changed as (
        select account_id from gone union all select account_id from written
    ), handed_on as (
        insert into lifecycle.pending_recounts (statistic, account_id)
        select s.statistic, c.account_id
          from (select distinct account_id from changed) c
         cross join unnest(array['chat_usage_by_account', 'user_engagement_scores']) s(statistic)
        on conflict do nothing
    )
    select count(*) from changed
$$;

create function lifecycle.roll_up_function_usage_hourly(from_time timestamptz, to_time timestamptz) returns bigint
language sql set search_path = ''
as $$
    with fresh as materialized (
        select * from lifecycle.function_usage(from_time, to_time)
    ), gone as (
        delete from lifecycle.function_usage_hourly h
         where h.hour >= from_time and h.hour < to_time
           and not exists (select from fresh f where f.account_id = h.account_id
                              and f.function_name = h.function_name and f.hour = h.hour)
        returning h.account_id, h.function_name
    ), written as (
        insert into lifecycle.function_usage_hourly as h select * from fresh order by hour
        on conflict (account_id, function_name, hour) do update
           set uses = excluded.uses, last_used_at = excluded.last_used_at, tool_uses = excluded.tool_uses,
               first_tool_use_at = excluded.first_tool_use_at, last_tool_use_at = excluded.last_tool_use_at
         where (h.*) is distinct from (excluded.*)
        returning h.account_id, h.function_name
    ), changed as (
        select * from gone union all select * from written
    ), handed_on as (
        insert into lifecycle.pending_recounts (statistic, account_id, function_name)
        select distinct 'account_function_usage', c.account_id, c.function_name from changed c
        on conflict do nothing
    )
    select count(*) from changed
$$;

create function lifecycle.roll_up_chat_performance_history(from_time timestamptz, to_time timestamptz) returns bigint
language sql set search_path = ''
as $$
    with fresh as materialized (
        select * from lifecycle.chat_performance(from_time, to_time)
    ), gone as (
        delete from lifecycle.chat_performance_history h
         where h.hour >= from_time and h.hour < to_time
           and not exists (select from fresh f where f.hour = h.hour)
        returning h.hour
    ), written as (
        insert into lifecycle.chat_performance_history as h select * from fresh
        on conflict (hour) do update
           set total_messages = excluded.total_messages, avg_latency_ms = excluded.avg_latency_ms,
               median_latency_ms = excluded.median_latency_ms, p95_latency_ms = excluded.p95_latency_ms,
               p99_latency_ms = excluded.p99_latency_ms, max_latency_ms = excluded.max_latency_ms
         where (h.*) is distinct from (excluded.*)
        returning h.hour
    )
    select (select count(*) from gone) + (select count(*) from written)
$$;

-- Counts of events are kept when their partition is dropped: hours before the floor are left as they are.
create function lifecycle.roll_up_data_quality_hourly(from_time timestamptz, to_time timestamptz) returns bigint
language sql set search_path = '' set timezone = 'UTC'
as $$
    with span as (
        select greatest(from_time, lifecycle.source_floor()) as first
    ), counted as (
        select date_trunc('hour', e.event_timestamp) as hour, count(*) as events,
               count(*) filter (where e.account_id is null) as without_account,
               0 as sessions, 0 as latencies, 0 as latency_sum
          from public.user_behavior_events e
         where e.event_timestamp >= (select first from span) and e.event_timestamp < to_time group by 1
         union all
        select date_trunc('hour', s.started_at), 0, 0, count(*), 0, 0 from public.chat_sessions s
         where s.started_at >= (select first from span) and s.started_at < to_time group by 1
         union all
        select date_trunc('hour', m.created_at), 0, 0, 0, count(m.latency_ms), coalesce(sum(m.latency_ms), 0)
          from lifecycle.chat_message_facts m
         where m.created_at >= (select first from span) and m.created_at < to_time group by 1
    ), fresh as materialized (
        select c.hour, sum(c.events)::bigint as events, sum(c.without_account)::bigint as without_account,
               sum(c.sessions)::bigint as sessions, sum(c.latencies)::bigint as latencies,
               sum(c.latency_sum)::numeric as latency_sum
          from counted c group by 1
    ), gone as (
        delete from lifecycle.data_quality_hourly h
         where h.hour >= (select first from span) and h.hour < to_time
           and not exists (select from fresh f where f.hour = h.hour)
        returning h.hour
    ), written as (
        insert into lifecycle.data_quality_hourly as h select * from fresh
        on conflict (hour) do update
           set events = excluded.events, events_without_account = excluded.events_without_account,
               chat_sessions = excluded.chat_sessions, latencies = excluded.latencies,
               latency_sum_ms = excluded.latency_sum_ms
         where (h.*) is distinct from (excluded.*)
        returning h.hour
    )
    select (select count(*) from gone) + (select count(*) from written)
$$;

-- The days of [from_time, to_time) for all accounts, or only the given pairs of account and day.
create function lifecycle.roll_up_account_session_days(from_time timestamptz, to_time timestamptz,
                                                       accounts uuid[] default null, days date[] default null)
returns bigint
language plpgsql set search_path = '' set timezone = 'UTC'
as $$
declare
    changed bigint;
begin
    -- Two statements of one shape: the planner must see that one reads a range of time and the other single accounts.
    -- A session's name that is too long for our index, though not for the application's, is known by its hash.
    if accounts is null then
        with fresh as materialized (
            select e.account_id, e.event_timestamp::date as day,
                   case when length(e.session_id) > 500 then hashtextextended(e.session_id, 0)::text else e.session_id end
                       as session_id
              from public.user_behavior_events e
             where e.account_id is not null and e.event_timestamp >= from_time and e.event_timestamp < to_time
             union
            select s.account_id, s.started_at::date, s.id::text from public.chat_sessions s
             where s.started_at >= from_time and s.started_at < to_time
        ), gone as (
            delete from lifecycle.account_session_days d
             where (not isfinite(from_time) or d.day >= from_time::date)
               and (not isfinite(to_time) or d.day < to_time::date)
               and not exists (select from fresh f where f.account_id = d.account_id and f.day = d.day
                                  and f.session_id = d.session_id)
            returning d.account_id, d.day
        ), written as (
            insert into lifecycle.account_session_days as d select * from fresh order by day on conflict do nothing
            returning d.account_id, d.day
        ), handed_on as (
            select lifecycle.hand_on_activity(array_agg(c.account_id), array_agg(c.day)), count(*)
              from (select * from gone union all select * from written) c
        )
        select h.count into changed from handed_on h;
    else
        with pairs as materialized (
            select distinct p.account_id, p.day from unnest(accounts, days) p(account_id, day)
        ), fresh as materialized (
            select p.account_id, p.day,
                   case when length(e.session_id) > 500 then hashtextextended(e.session_id, 0)::text else e.session_id end
                       as session_id
              from pairs p join public.user_behavior_events e
                on e.account_id = p.account_id and e.event_timestamp >= p.day and e.event_timestamp < p.day + 1
             union
            select p.account_id, p.day, s.id::text
              from pairs p join public.chat_sessions s
                on s.account_id = p.account_id and s.started_at >= p.day and s.started_at < p.day + 1
        ), gone as (
            delete from lifecycle.account_session_days d using pairs p
             where d.account_id = p.account_id and d.day = p.day
               and not exists (select from fresh f where f.account_id = d.account_id and f.day = d.day
                                  and f.session_id = d.session_id)
            returning d.account_id, d.day
        ), written as (
            insert into lifecycle.account_session_days as d select * from fresh order by day on conflict do nothing
            returning d.account_id, d.day
        ), handed_on as (
            select lifecycle.hand_on_activity(array_agg(c.account_id), array_agg(c.day)), count(*)
              from (select * from gone union all select * from written) c
        )
        select h.count into changed from handed_on h;
    end if;
    return changed;
end $$;

create function lifecycle.hand_on_activity(accounts uuid[], days date[]) returns void
language sql set search_path = ''
as $$
    insert into lifecycle.pending_recounts (statistic, account_id)
    select distinct 'user_engagement_scores', a from unnest(accounts) a
    on conflict do nothing;
    insert into lifecycle.pending_recounts (statistic, day)
    select distinct s.statistic, d
      from unnest(days) d cross join unnest(array['daily_active_users', 'weekly_monthly_active_users']) s(statistic)
    on conflict do nothing;
$$;

-- Everything that can have changed since the last time, and the whole UTC days of [from_time, to_time) if given.
-- One row per roll-up; those of one source fail together, keep their watermark and their log, and do not stop the
-- others. Outcomes go to the ledger of the job `ledger`, if one is named.
create function lifecycle.refresh_roll_ups(from_time timestamptz default null, to_time timestamptz default null,
                                           ledger text default null)
returns table (name text, outcome text, duration_ms bigint, rows bigint, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
begin
    for name, outcome, duration_ms, rows, error in select r.* from lifecycle.roll_up_changes(from_time, to_time) r loop
        if ledger is not null then
            perform lifecycle.record_outcome(ledger, name, error,
                jsonb_build_object('outcome', outcome, 'duration_ms', duration_ms, 'rows', rows));
        end if;
        return next;
    end loop;
end $$;

create function lifecycle.roll_up_changes(from_time timestamptz, to_time timestamptz)
returns table (name text, outcome text, duration_ms bigint, rows bigint, error text)
language plpgsql set search_path = '' set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    -- Before anything is read: what is still open now may commit rows of its own past afterwards.
    safe      constant timestamptz := lifecycle.safe_until();
    wanted    constant tstzmultirange := case when from_time is null then '{}' else
        tstzmultirange(tstzrange(date_trunc('day', from_time), date_trunc('day', to_time - interval '1 microsecond') + interval '1 day'))
        end;
    mark      lifecycle.roll_up_watermarks;
    floor     constant timestamptz := lifecycle.source_floor();
    -- Moments of infinity belong to no bucket, neither when they come nor when they go.
    finite    constant tstzrange := '[4714-11-24 00:00+00 BC,infinity)';
    tail      timestamptz;
    spans     tstzmultirange;
    span      tstzrange;
    late_chat_hours tstzmultirange := '{}';
    late_hours tstzmultirange;
    accounts  uuid[];
    days      date[];
    started   timestamptz := clock_timestamp();
    changed   bigint[];
begin
    begin
        changed := array[0, 0, 0];
        select * into mark from lifecycle.roll_up_watermarks w where w.name = 'chat' for update;
        tail := date_trunc('hour', mark.safe_until - lifecycle.overlap());
        with logged as (
            delete from lifecycle.changed_chat_hours returning changed_at
        ), sessions as (
            delete from lifecycle.changed_chat_sessions returning session_id, account_id
        ), handed_on as (
            insert into lifecycle.pending_recounts (statistic, account_id)
            select distinct 'chat_usage_by_account', s.account_id from (
                select account_id from sessions
                 union all
                select c.account_id from public.chat_sessions c where c.started_at >= tail) s
            on conflict do nothing
        ), hours as (
            select date_trunc('hour', changed_at) as hour from logged
             union
            -- A session that changed hands takes all its hours along.
            select h.hour from lifecycle.chat_session_hours h join (select distinct session_id from sessions) s using (session_id)
              join public.chat_sessions c on c.id = h.session_id and c.account_id <> h.account_id
        )
        select coalesce(range_agg(tstzrange(h.hour, h.hour + interval '1 hour')), '{}') into late_chat_hours
          from hours h where isfinite(h.hour) and h.hour < safe;  -- what is younger is recomputed each time
        spans := (wanted + late_chat_hours + tstzmultirange(tstzrange(tail, 'infinity'))) * finite::tstzmultirange;
        for span in select unnest(spans) loop
            changed[1] := changed[1] + lifecycle.roll_up_chat_session_hours(lower(span), upper(span));
            changed[2] := changed[2] + lifecycle.roll_up_function_usage_hourly(lower(span), upper(span));
            changed[3] := changed[3] + lifecycle.roll_up_chat_performance_history(lower(span), upper(span));
        end loop;
        update lifecycle.roll_up_watermarks w set safe_until = safe where w.name = 'chat';
        return query select r.n, 'success', lifecycle.milliseconds_since(started), r.c, null::text
          from unnest(array['chat_session_hours', 'function_usage_hourly', 'chat_performance_history'], changed) r(n, c);
    exception when others then
        return query select r.n, 'failure', lifecycle.milliseconds_since(started), 0::bigint, lifecycle.first_line(sqlerrm)
          from unnest(array['chat_session_hours', 'function_usage_hourly', 'chat_performance_history']) r(n);
        late_chat_hours := '{}';
    end;

    started := clock_timestamp();
    begin
        changed := array[0, 0];
        select * into mark from lifecycle.roll_up_watermarks w where w.name = 'activity' for update;
        tail := mark.safe_until - lifecycle.overlap();
        with logged as (
            delete from lifecycle.changed_activity returning account_id, happened_at
        ), pairs as (
            select distinct l.account_id, l.happened_at::date as day from logged l
             where l.account_id is not null and isfinite(l.happened_at) and l.happened_at < safe
        ), hours as (
            select distinct date_trunc('hour', l.happened_at) as hour from logged l
             where isfinite(l.happened_at) and l.happened_at < safe
        )
        select (select array_agg(p.account_id) from pairs p), (select array_agg(p.day) from pairs p),
               late_chat_hours + (select coalesce(range_agg(tstzrange(h.hour, h.hour + interval '1 hour')), '{}') from hours h)
          into accounts, days, late_hours;
        -- Partitions that were dropped fire no trigger: the days that they held are looked at again.
        spans := (wanted + tstzmultirange(tstzrange(date_trunc('day', tail), 'infinity'))
            + case when floor > mark.source_floor then tstzmultirange(tstzrange(mark.source_floor, floor)) else '{}' end)
            * finite::tstzmultirange;
        for span in select unnest(spans) loop
            changed[1] := changed[1] + lifecycle.roll_up_account_session_days(lower(span), upper(span));
        end loop;
        if accounts is not null then
            changed[1] := changed[1] + lifecycle.roll_up_account_session_days(null, null, accounts, days);
        end if;
        spans := (wanted + late_hours + tstzmultirange(tstzrange(date_trunc('hour', tail), 'infinity'))) * finite::tstzmultirange;
        for span in select unnest(spans) loop
            changed[2] := changed[2] + lifecycle.roll_up_data_quality_hourly(lower(span), upper(span));
        end loop;
        update lifecycle.roll_up_watermarks w set safe_until = safe, source_floor = floor where w.name = 'activity';
        return query select r.n, 'success', lifecycle.milliseconds_since(started), r.c, null::text
          from unnest(array['account_session_days', 'data_quality_hourly'], changed) r(n, c);
    exception when others then
        -- The late hours of the chat have left its log for good.
        insert into lifecycle.changed_activity (happened_at)
        select generate_series(lower(h.span), upper(h.span) - interval '1 hour', interval '1 hour')
          from unnest(late_chat_hours) h(span);
        return query select r.n, 'failure', lifecycle.milliseconds_since(started), 0::bigint, lifecycle.first_line(sqlerrm)
          from unnest(array['account_session_days', 'data_quality_hourly']) r(n);
    end;
end $$;

create function lifecycle.milliseconds_since(started timestamptz) returns bigint
language sql volatile set search_path = ''
as $$ select round(extract(epoch from clock_timestamp() - started) * 1000)::bigint $$;
