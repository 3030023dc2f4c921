-- Who comes, who comes back, and whether the figures can be trusted.

create materialized view daily_user_behavior_summary as
-- Visitors without an account are one row a day: account_id is null there.
select
    date(e.event_timestamp) as event_date,
    e.account_id,
    count(distinct e.session_id) as session_count,
    count(*) as event_count,
    count(distinct e.page_url) as unique_pages_visited,
    avg((e.engagement ->> 'timeOnPage')::integer) as avg_time_on_page,
    avg((e.engagement ->> 'scrollDepth')::integer) as avg_scroll_depth,
    avg((e.engagement ->> 'clickCount')::integer) as avg_click_count
from user_behavior_events e
where e.event_timestamp >= current_date - interval '90 days'
group by date(e.event_timestamp), e.account_id;
create unique index daily_user_behavior_summary_unique_idx on daily_user_behavior_summary (event_date, account_id);
comment on materialized view daily_user_behavior_summary is 'Page views by day and account, 90 days, as of the last refresh';

create view daily_active_users as
-- "New" is the first day of an account in the window of its own list; the two lists do not know of each other.
select
    seen.day as date,
    count(distinct seen.account_id) as dau,
    count(distinct case when seen.is_first_day then seen.account_id end) as new_users,
    count(distinct case when not seen.is_first_day then seen.account_id end) as returning_users
from (
    select
        date(e.event_timestamp) as day,
        e.account_id,
        date(e.event_timestamp) = date(min(e.event_timestamp) over (partition by e.account_id)) as is_first_day
    from user_behavior_events e
    where e.account_id is not null and e.event_timestamp >= current_date - interval '90 days'
    union
    select
        date(s.started_at),
        s.account_id,
        date(s.started_at) = date(min(s.started_at) over (partition by s.account_id))
    from chat_sessions s
    where s.account_id is not null and s.started_at >= current_date - interval '90 days'
) seen
group by seen.day
order by seen.day desc;
comment on view daily_active_users is 'Accounts seen on each of the last 90 days';

create view weekly_monthly_active_users as
with seen as (
    select distinct day, account_id
      from (
        select date(e.event_timestamp) as day, e.account_id
          from user_behavior_events e
         where e.account_id is not null and e.event_timestamp >= current_date - interval '90 days'
        union
        select date(s.started_at), s.account_id
          from chat_sessions s
         where s.account_id is not null and s.started_at >= current_date - interval '90 days'
      ) either
), days as (
    select distinct day from seen
)
select
    d.day as date,
    coalesce(one.people, 0) as dau,
    coalesce(seven.people, 0) as wau,
    coalesce(thirty.people, 0) as mau,
    round(coalesce(one.people, 0)::numeric / nullif(coalesce(seven.people, 0), 0) * 100, 2) as dau_wau_ratio,
    round(coalesce(one.people, 0)::numeric / nullif(coalesce(thirty.people, 0), 0) * 100, 2) as dau_mau_ratio,
    round(coalesce(seven.people, 0)::numeric / nullif(coalesce(thirty.people, 0), 0) * 100, 2) as wau_mau_ratio
from days d
left join lateral (
    select count(distinct seen.account_id) as people from seen where seen.day = d.day
) one on true
left join lateral (
    select count(distinct seen.account_id) as people
      from seen where seen.day between d.day - interval '6 days' and d.day
) seven on true
left join lateral (
    select count(distinct seen.account_id) as people
      from seen where seen.day between d.day - interval '29 days' and d.day
) thirty on true
order by d.day desc;
comment on view weekly_monthly_active_users is 'Accounts of the day, the seven days and the thirty days that end with it';

create view user_retention as
-- An account with events and chats has a first day in each of the two lists.
select
    r.cohort_date,
    r.days_since_signup,
    r.cohort_size,
    r.retained_users,
    round(r.retained_users::numeric / r.cohort_size * 100, 2) as retention_rate
from (
    select
        f.first_day as cohort_date,
        a.day - f.first_day as days_since_signup,
        count(distinct f.account_id) as cohort_size,
        count(distinct a.account_id) as retained_users
    from (
        select e.account_id, date(min(e.event_timestamp)) as first_day
          from user_behavior_events e where e.account_id is not null group by e.account_id
        union
        select s.account_id, date(min(s.started_at))
          from chat_sessions s where s.account_id is not null group by s.account_id
    ) f
    left join (
        select e.account_id, date(e.event_timestamp) as day
          from user_behavior_events e where e.account_id is not null
        union
        select s.account_id, date(s.started_at) from chat_sessions s where s.account_id is not null
    ) a on a.account_id = f.account_id
    where f.first_day >= current_date - interval '90 days'
    group by f.first_day, a.day - f.first_day
) r
order by r.cohort_date desc, r.days_since_signup;
comment on view user_retention is 'How many of the accounts of a first day came again, by days since';

create view weekly_cohort_analysis as
select
    r.cohort_week,
    r.weeks_since_signup,
    r.cohort_size,
    r.active_users,
    round(r.active_users::numeric / r.cohort_size * 100, 2) as retention_rate
from (
    select
        date_trunc('week', f.first_at) as cohort_week,
        floor(extract(epoch from date_trunc('week', a.at) - date_trunc('week', f.first_at)) / 604800)::integer
            as weeks_since_signup,
        count(distinct f.account_id) as cohort_size,
        count(distinct a.account_id) as active_users
    from (
        select e.account_id, min(e.event_timestamp) as first_at
          from user_behavior_events e where e.account_id is not null group by e.account_id
        union
        select s.account_id, min(s.started_at)
          from chat_sessions s where s.account_id is not null group by s.account_id
    ) f
    left join (
        select e.account_id, e.event_timestamp as at from user_behavior_events e where e.account_id is not null
        union
        select s.account_id, s.started_at from chat_sessions s where s.account_id is not null
    ) a on a.account_id = f.account_id
    where date_trunc('week', f.first_at) >= current_date - interval '84 days'
    group by 1, 2
) r
order by r.cohort_week desc, r.weeks_since_signup;
comment on view weekly_cohort_analysis is 'As user_retention, by weeks, twelve weeks back';

create view user_engagement_scores as
select
    p.account_id,
    p.days as total_days_active,
    p.sessions as total_sessions,
    p.messages as total_messages,
    p.mean_minutes as avg_session_duration_minutes,
    p.last_day as last_activity_date,
    p.days_since as days_since_last_activity,
    case
        when p.days_since <= 1 then 'highly_active'
        when p.days_since <= 7 then 'active'
        when p.days_since <= 30 then 'occasional'
        else 'dormant'
    end as engagement_level,
    round((p.days * 10 + p.sessions * 5 + p.messages * 2) / greatest(p.days_since, 1), 2) as engagement_score
from (
    select
        a.account_id,
        count(distinct a.day) as days,
        count(distinct a.session) as sessions,
        sum(a.messages) as messages,
        round(avg(a.minutes), 2) as mean_minutes,
        max(a.day) as last_day,
        current_date - max(a.day) as days_since
    from (
        select e.account_id, date(e.event_timestamp) as day, e.session_id as session, 0 as messages, 0 as minutes
          from user_behavior_events e
         where e.account_id is not null
        union all
        select
            s.account_id,
            date(s.started_at),
            s.id::text,
            coalesce((select count(*) from chat_messages m where m.session_id = s.id), 0),
            extract(epoch from coalesce(s.closed_at, s.last_activity_at) - s.started_at) / 60
        from chat_sessions s
        where s.account_id is not null
    ) a
    group by a.account_id
) p
order by round((p.days * 10 + p.sessions * 5 + p.messages * 2) / greatest(p.days_since, 1), 2) desc;
comment on view user_engagement_scores is 'Days, sessions and messages of each account, all time, against days of silence';

create view feature_usage_summary as
select
    u.feature_category, u.feature_name, u.total_uses, u.unique_users, u.avg_uses_per_user, u.last_used_at,
    u.usage_trend_7d, u.usage_trend_30d
from (
    select
        case
            when named.tool like '%search%' then 'search'
            when named.tool like '%recommend%' then 'recommendation'
            when named.tool like '%place%' then 'places'
            when named.tool like '%review%' then 'reviews'
            else 'other'
        end as feature_category,
        named.tool as feature_name,
        count(*) as total_uses,
        count(distinct s.account_id) as unique_users,
        round(count(*)::numeric / nullif(count(distinct s.account_id), 0), 2) as avg_uses_per_user,
        max(m.created_at) as last_used_at,
        count(*) filter (where m.created_at >= current_date - interval '7 days') as usage_trend_7d,
        count(*) filter (where m.created_at >= current_date - interval '30 days') as usage_trend_30d
    from chat_messages m
    join chat_sessions s on s.id = m.session_id
    cross join lateral (
        select jsonb_array_elements(m.tool_calls) as call where m.role = 'tool' and m.tool_calls is not null
    ) called
    cross join lateral (select called.call ->> 'tool' as tool) named
    where named.tool is not null
    group by 1, 2
) u
order by u.total_uses desc;
comment on view feature_usage_summary is 'Tools by kind, all time, with the last 7 and 30 days';

create view data_quality_metrics as
select c.metric_name, c.metric_value, c.threshold, c.status, c.last_checked
from (
    select
        'user_behavior_events_24h' as metric_name,
        count(*) as metric_value,
        100 as threshold,
        case when count(*) >= 100 then 'healthy' else 'warning' end as status,
        now() as last_checked
    from user_behavior_events e
    where e.event_timestamp >= now() - interval '24 hours'
    union all
    select 'chat_sessions_24h', count(*), 10, case when count(*) >= 10 then 'healthy' else 'warning' end, now()
      from chat_sessions s
     where s.started_at >= now() - interval '24 hours'
    union all
    select
        'null_account_id_rate',
        round(count(*) filter (where e.account_id is null)::numeric / nullif(count(*), 0) * 100, 2),
        10,
        case
            when round(count(*) filter (where e.account_id is null)::numeric / nullif(count(*), 0) * 100, 2) <= 10
            then 'healthy' else 'warning'
        end,
        now()
    from user_behavior_events e
    where e.event_timestamp >= now() - interval '24 hours'
    union all
    select
        'avg_event_latency_ms',
        round(avg(m.latency_ms), 2),
        5000,
        case when round(avg(m.latency_ms), 2) <= 5000 then 'healthy' else 'warning' end,
        now()
    from chat_messages m
    where m.created_at >= now() - interval '24 hours' and m.latency_ms is not null
) c
order by case c.status when 'warning' then 1 when 'healthy' then 2 end, c.metric_name;
comment on view data_quality_metrics is 'Four measures of the last 24 hours against their thresholds';
