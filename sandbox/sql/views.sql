-- The views that the dashboards and the API read. They hold their base tables by OID.

create view chat_performance_metrics as
select date_trunc('hour', created_at) as hour,
       count(*) as total_messages,
       round(avg(latency_ms), 2) as avg_latency_ms,
       percentile_cont(0.5) within group (order by latency_ms) as median_latency_ms,
       percentile_cont(0.95) within group (order by latency_ms) as p95_latency_ms,
       percentile_cont(0.99) within group (order by latency_ms) as p99_latency_ms,
       max(latency_ms) as max_latency_ms
  from chat_messages
 where role = 'assistant' and latency_ms is not null and created_at >= now() - interval '7 days'
 group by 1
 order by 1 desc;

create view data_quality_metrics as
with measured (metric_name, metric_value, threshold, ok) as (
    select 'user_behavior_events_24h', count(*)::numeric, 100::numeric, count(*) >= 100
      from user_behavior_events where event_timestamp >= now() - interval '24 hours'
    union all
    select 'chat_sessions_24h', count(*)::numeric, 10::numeric, count(*) >= 10
      from chat_sessions where started_at >= now() - interval '24 hours'
    union all
    select 'null_account_id_rate', rate, 10::numeric, rate <= 10
      from (select coalesce(round(100.0 * count(*) filter (where account_id is null) / nullif(count(*), 0), 2), 0) as rate
              from user_behavior_events where event_timestamp >= now() - interval '24 hours') r
    union all
    select 'avg_event_latency_ms', latency, 5000::numeric, latency <= 5000
      from (select coalesce(round(avg(latency_ms), 2), 0) as latency
              from chat_messages where created_at >= now() - interval '24 hours') l
)
select metric_name, metric_value, threshold, case when ok then 'healthy' else 'warning' end as status,
       now() as last_checked
  from measured
 order by ok, metric_name;

create view daily_active_users as
with seen as (
    select date(event_timestamp) as date, account_id from user_behavior_events
     where account_id is not null and event_timestamp >= current_date - 90
    union
    select date(started_at), account_id from chat_sessions
     where started_at >= current_date - 90
), first_seen as (
    select account_id, min(date) as first_date from seen group by account_id
)
select s.date,
       count(*) as dau,
       count(*) filter (where f.first_date = s.date) as new_users,
       count(*) filter (where f.first_date < s.date) as returning_users
  from seen s join first_seen f using (account_id)
 group by s.date
 order by s.date desc;

create view weekly_monthly_active_users as
with seen as (
    select date(event_timestamp) as date, account_id from user_behavior_events
     where account_id is not null and event_timestamp >= current_date - 120
    union
    select date(started_at), account_id from chat_sessions
     where started_at >= current_date - 120
), days as (
    select day::date as date from generate_series(current_date - 90, current_date, interval '1 day') day
), counted as (
    select d.date,
           (select count(distinct account_id) from seen s where s.date = d.date) as dau,
           (select count(distinct account_id) from seen s where s.date > d.date - 7 and s.date <= d.date) as wau,
           (select count(distinct account_id) from seen s where s.date > d.date - 30 and s.date <= d.date) as mau
      from days d
)
select date, dau, wau, mau,
       round(100.0 * dau / nullif(wau, 0), 2) as dau_wau_ratio,
       round(100.0 * dau / nullif(mau, 0), 2) as dau_mau_ratio,
       round(100.0 * wau / nullif(mau, 0), 2) as wau_mau_ratio
  from counted
 order by date desc;

create view user_retention as
with seen as (
    select distinct account_id, date(event_timestamp) as date from user_behavior_events
     where account_id is not null and event_timestamp >= current_date - 90
), cohorts as (
    select account_id, min(date) as cohort_date from seen group by account_id
), sizes as (
    select cohort_date, count(*) as cohort_size from cohorts group by cohort_date
)
select c.cohort_date, s.date - c.cohort_date as days_since, z.cohort_size,
       count(*) as retained_users,
       round(100.0 * count(*) / z.cohort_size, 2) as retention_rate
  from seen s join cohorts c using (account_id) join sizes z using (cohort_date)
 group by c.cohort_date, days_since, z.cohort_size
 order by c.cohort_date desc, days_since;

create view weekly_cohort_analysis as
with seen as (
    select distinct account_id, date_trunc('week', event_timestamp)::date as week from user_behavior_events
     where account_id is not null and event_timestamp >= current_date - 180
), cohorts as (
    select account_id, min(week) as cohort_week from seen group by account_id
), sizes as (
    select cohort_week, count(*) as cohort_size from cohorts group by cohort_week
)
select c.cohort_week, (s.week - c.cohort_week) / 7 as weeks_since, z.cohort_size,
       count(*) as active_users,
       round(100.0 * count(*) / z.cohort_size, 2) as retention_rate
  from seen s join cohorts c using (account_id) join sizes z using (cohort_week)
 group by c.cohort_week, weeks_since, z.cohort_size
 order by c.cohort_week desc, weeks_since;

create view user_engagement_scores as
with activity as (
    select account_id, date(event_timestamp) as date, session_id from user_behavior_events
     where account_id is not null
    union
    select account_id, date(started_at), id::text from chat_sessions
), days as (
    select account_id, count(distinct date) as total_days_active, count(distinct session_id) as total_sessions,
           max(date) as last_activity_date
      from activity group by account_id
), messages as (
    select s.account_id, count(*) as total_messages
      from chat_sessions s join chat_messages m on m.session_id = s.id group by s.account_id
)
select d.account_id, d.total_days_active, d.total_sessions, coalesce(m.total_messages, 0) as total_messages,
       d.last_activity_date, current_date - d.last_activity_date as days_since_last_activity,
       case when current_date - d.last_activity_date <= 1 then 'highly_active'
            when current_date - d.last_activity_date <= 7 then 'active'
            when current_date - d.last_activity_date <= 30 then 'occasional'
            else 'dormant' end as engagement_level,
       d.total_days_active * 10 + d.total_sessions * 5 + coalesce(m.total_messages, 0) as engagement_score
  from days d left join messages m using (account_id);
comment on view user_engagement_scores is 'Whole history of every account; takes long (updated: chat sessions count too)';

create view feature_usage_summary as
select call ->> 'tool' as feature_name,
       count(*) as total_uses,
       count(distinct s.account_id) as unique_users,
       max(m.created_at) as last_used_at,
       count(*) filter (where m.created_at >= now() - interval '7 days') as uses_last_7_days,
       count(*) filter (where m.created_at >= now() - interval '30 days') as uses_last_30_days
  from chat_messages m
  join chat_sessions s on s.id = m.session_id
 cross join lateral jsonb_array_elements(case when jsonb_typeof(m.tool_calls) = 'array' then m.tool_calls else '[]' end) call
 where call ->> 'tool' is not null
 group by 1
 order by total_uses desc;

create view chat_usage_by_account as
select s.account_id,
       count(distinct s.id) as total_sessions,
       count(m.id) as total_messages,
       round(count(m.id)::numeric / count(distinct s.id), 2) as avg_messages_per_session,
       min(s.started_at) as first_activity_at,
       max(s.last_activity_at) as last_activity_at
  from chat_sessions s left join chat_messages m on m.session_id = s.id
 group by s.account_id;

create view hourly_usage_patterns as
select extract(dow from m.created_at)::integer as day_of_week,
       extract(hour from m.created_at)::integer as hour_of_day,
       count(*) as message_count,
       count(distinct m.session_id) as session_count,
       count(distinct s.account_id) as unique_users
  from chat_messages m join chat_sessions s on s.id = m.session_id
 where m.created_at >= now() - interval '30 days'
 group by 1, 2
 order by 1, 2;

create view session_quality_scores as
with measured as (
    select s.id as session_id, s.account_id, s.started_at,
           count(m.id) filter (where m.role = 'user') as user_messages,
           count(m.id) filter (where m.role = 'assistant') as assistant_messages,
           count(m.id) filter (where m.role = 'tool') as tool_messages,
           round(avg(m.latency_ms), 2) as avg_latency_ms,
           extract(epoch from s.last_activity_at - s.started_at)::bigint as duration_seconds
      from chat_sessions s left join chat_messages m on m.session_id = s.id
     where s.started_at >= now() - interval '30 days'
     group by s.id
)
select *, least(user_messages, 10) * 5 + least(tool_messages, 5) * 6
          + case when avg_latency_ms <= 2000 then 20 when avg_latency_ms <= 5000 then 10 else 0 end as quality_score
  from measured
 order by quality_score desc, started_at desc;

create view user_conversation_styles as
with spoken as (
    select s.account_id, s.id, count(*) as messages, avg(length(m.content)) as length,
           count(*) filter (where m.content ~ '[?？]') as questions
      from chat_sessions s join chat_messages m on m.session_id = s.id
     where m.role = 'user' and m.created_at >= now() - interval '90 days'
     group by s.account_id, s.id
)
select account_id,
       count(*) as session_count,
       round(avg(messages), 2) as avg_messages_per_session,
       round(avg(length), 2) as avg_message_length,
       round(100.0 * sum(questions) / sum(messages), 2) as question_rate,
       case when avg(messages) >= 6 then 'explorer' when avg(length) >= 40 then 'detailed' else 'brief' end
           as conversation_style
  from spoken
 group by account_id;

create view session_gap_analysis as
with gaps as (
    select account_id, started_at,
           started_at - lag(last_activity_at) over (partition by account_id order by started_at) as gap
      from chat_sessions
     where started_at >= now() - interval '90 days'
)
select account_id,
       count(*) as session_count,
       round(extract(epoch from avg(gap)) / 3600, 2) as avg_gap_hours,
       round((extract(epoch from percentile_cont(0.5) within group (order by gap)) / 3600)::numeric, 2)
           as median_gap_hours,
       round(extract(epoch from max(gap)) / 3600, 2) as max_gap_hours
  from gaps
 group by account_id
having count(*) > 1;

create view search_analytics as
select search_query,
       count(*) as search_count,
       count(distinct account_id) as unique_users,
       round(avg(results_count), 2) as avg_results_count,
       count(clicked_result_id) as click_count,
       round(100.0 * count(clicked_result_id) / count(*), 2) as click_through_rate,
       round(avg(clicked_result_position), 2) as avg_clicked_position,
       max(searched_at) as last_searched_at
  from search_queries
 where searched_at >= now() - interval '90 days'
 group by search_query
 order by search_count desc;

create view daily_search_stats as
select date(searched_at) as date,
       count(*) as total_searches,
       count(distinct search_query) as unique_queries,
       count(distinct account_id) as unique_users,
       count(*) filter (where results_count = 0) as zero_result_searches,
       count(clicked_result_id) as click_count,
       round(100.0 * count(clicked_result_id) / count(*), 2) as click_through_rate
  from search_queries
 where searched_at >= now() - interval '90 days'
 group by 1
 order by 1 desc;

create view legacy_activity_likes as
select id, account_id, activity_id, activity_slug, created_at
  from activity_interactions
 where interaction_type = 'like';

create materialized view account_function_usage as
select s.account_id,
       call ->> 'tool' as function_name,
       count(*) as usage_count,
       min(m.created_at) as first_used_at,
       max(m.created_at) as last_used_at
  from chat_messages m
  join chat_sessions s on s.id = m.session_id
 cross join lateral jsonb_array_elements(case when jsonb_typeof(m.tool_calls) = 'array' then m.tool_calls else '[]' end) call
 where m.role = 'tool' and call ->> 'tool' is not null
 group by s.account_id, function_name;
create unique index account_function_usage_account_id_function_name_idx
    on account_function_usage (account_id, function_name);

create materialized view top_search_keywords as
select search_query,
       count(*) as search_count,
       count(distinct account_id) as unique_users,
       max(searched_at) as last_searched_at
  from search_queries
 where searched_at >= now() - interval '30 days'
 group by search_query
 order by search_count desc, search_query
 limit 100;
create unique index top_search_keywords_search_query_idx on top_search_keywords (search_query);

create materialized view daily_user_behavior_summary as
select date(event_timestamp) as event_date,
       account_id,
       count(distinct session_id) as session_count,
       count(*) as event_count,
       count(distinct page_url) as unique_pages_visited,
       round(avg((engagement ->> 'timeOnPage')::numeric), 2) as avg_time_on_page
  from user_behavior_events
 where event_timestamp >= current_date - 90
 group by event_date, account_id;
create unique index daily_user_behavior_summary_event_date_account_id_idx
    on daily_user_behavior_summary (event_date, account_id);
