-- A materialized view upon four views.

create materialized view if not exists daily_kpi_summary as
select
    u.date,
    u.dau,
    u.new_users,
    u.returning_users,
    coalesce(c.total_sessions, 0) as total_chat_sessions,
    coalesce(c.total_messages, 0) as total_chat_messages,
    coalesce(c.avg_messages_per_session, 0) as avg_messages_per_session,
    coalesce(q.total_searches, 0) as total_searches,
    coalesce(q.unique_searchers, 0) as unique_searchers,
    coalesce(q.unique_queries, 0) as unique_queries,
    coalesce(q.overall_ctr, 0) as overall_search_ctr,
    coalesce(d.minutes, 0) as avg_session_minutes
from daily_active_users u
left join daily_chat_usage c on c.date = u.date
left join daily_search_stats q on q.date = u.date
left join (
    select date(s.started_at) as date, round(avg(s.session_duration_seconds) / 60, 2) as minutes
      from session_details s
     group by date(s.started_at)
) d on d.date = u.date
order by u.date desc;
create unique index if not exists daily_kpi_summary_date_idx on daily_kpi_summary (date);

create or replace function refresh_daily_kpi_summary() returns void
language plpgsql as $$
begin
    refresh materialized view concurrently daily_kpi_summary;
    raise notice 'daily_kpi_summary is refreshed';
end
$$;
