-- The application's functions and the triggers that use them. None has a search_path of its own.

create function auth_account_id() returns uuid
language sql stable security definer as $$
    select l.account_id from account_linkages l where l.supabase_user_id = auth.uid() limit 1
$$;

-- Null without claims; raises when the setting is the empty string, as it is after a transaction with SET LOCAL.
create function is_service_role() returns boolean
language sql stable as $$
    select (current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role'
$$;

create function touch_updated_at() returns trigger
language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end
$$;

create trigger touch_accounts_updated_at before update on accounts
    for each row execute function touch_updated_at();
create trigger touch_account_profiles_updated_at before update on account_profiles
    for each row execute function touch_updated_at();
create trigger touch_activities_updated_at before update on activities
    for each row execute function touch_updated_at();
create trigger touch_activity_interactions_updated_at before update on activity_interactions
    for each row execute function touch_updated_at();
create trigger touch_generated_activities_updated_at before update on generated_activities
    for each row execute function touch_updated_at();
create trigger touch_articles_updated_at before update on articles
    for each row execute function touch_updated_at();
create trigger touch_article_translations_updated_at before update on article_translations
    for each row execute function touch_updated_at();

-- Made for a trigger that nobody created.
create function handle_consent_withdrawal() returns trigger
language plpgsql as $$
declare
    given jsonb := new.preferences -> 'consent' -> 'preferences';
begin
    if given ->> 'analytics' = 'false' and given ->> 'marketing' = 'false'
       and given ->> 'personalization' = 'false' then
        raise notice 'account % takes its consent back', new.account_id;
    end if;
    return new;
end
$$;

create function refresh_chat_analytics() returns void
language plpgsql as $$
begin
    refresh materialized view concurrently account_function_usage;
    raise notice 'account_function_usage is refreshed';
end
$$;

create function refresh_content_analytics() returns void
language plpgsql as $$
begin
    refresh materialized view concurrently top_search_keywords;
    raise notice 'top_search_keywords is refreshed';
end
$$;

create function cleanup_old_tracking_events() returns void
language plpgsql as $$
begin
    delete from user_behavior_events where event_timestamp < now() - interval '2 years';
    delete from business_metrics_events where event_timestamp < now() - interval '2 years';
    delete from session_replay_events where "timestamp" < now() - interval '90 days';
    raise notice 'old events are deleted';
end
$$;

-- Errors are swallowed: whoever calls it reads the text or learns nothing.
create function run_daily_maintenance() returns text
language plpgsql as $$
declare
    outcome text := 'Daily maintenance completed successfully';
begin
    delete from user_behavior_events where event_timestamp < now() - interval '2 years';
    delete from business_metrics_events where event_timestamp < now() - interval '2 years';
    delete from session_replay_events where "timestamp" < now() - interval '90 days';
    refresh materialized view concurrently account_function_usage;
    analyze user_behavior_events;
    analyze business_metrics_events;
    analyze chat_sessions;
    analyze chat_messages;
    return outcome;
exception when others then
    outcome := 'Daily maintenance failed: ' || sqlerrm;
    raise warning '%', outcome;
    return outcome;
end
$$;

create function get_retention_rates() returns table (day_1 numeric, day_7 numeric, day_30 numeric)
language plpgsql stable as $$
begin
    return query select
        coalesce((select r.retention_rate from user_retention r
                   where r.days_since_signup = 1 and r.cohort_date >= current_date - interval '30 days'
                   order by r.cohort_date desc limit 1), 0),
        coalesce((select avg(r.retention_rate) from user_retention r
                   where r.days_since_signup = 7 and r.cohort_date >= current_date - interval '60 days'), 0),
        coalesce((select avg(r.retention_rate) from user_retention r
                   where r.days_since_signup = 30 and r.cohort_date >= current_date - interval '90 days'), 0);
end
$$;

create function get_metric_trend(p_metric_name text, p_days_back integer default 30)
returns table (date date, value numeric)
language plpgsql stable as $$
begin
    case p_metric_name
        when 'dau' then
            return query select u.date, u.dau::numeric from daily_active_users u
                          where u.date >= current_date - p_days_back order by u.date;
        when 'chat_sessions' then
            return query select date(s.started_at), count(*)::numeric from chat_sessions s
                          where s.started_at >= current_date - p_days_back group by 1 order by 1;
        when 'events' then
            return query select date(e.event_timestamp), count(*)::numeric from user_behavior_events e
                          where e.event_timestamp >= current_date - p_days_back group by 1 order by 1;
        else
            raise exception 'Unknown metric: %', p_metric_name;
    end case;
end
$$;

create function get_account_activity_summary(p_account_id uuid, p_days_back integer default 30)
returns table (
    total_sessions integer, total_messages integer, total_events integer, days_active integer,
    last_activity_at timestamptz, engagement_level text, top_features jsonb
)
language plpgsql stable as $$
begin
    return query
    select
        count(distinct s.id)::integer,
        coalesce(sum((s.metadata -> 'metrics' ->> 'totalMessages')::integer), 0)::integer,
        count(distinct e.id)::integer,
        count(distinct date(coalesce(s.started_at, e.event_timestamp)))::integer,
        greatest(max(s.last_activity_at), max(e.event_timestamp)),
        case
            when current_date - greatest(max(date(s.last_activity_at)), max(date(e.event_timestamp))) <= 1
            then 'highly_active'
            when current_date - greatest(max(date(s.last_activity_at)), max(date(e.event_timestamp))) <= 7
            then 'active'
            when current_date - greatest(max(date(s.last_activity_at)), max(date(e.event_timestamp))) <= 30
            then 'occasional'
            else 'dormant'
        end,
        (select jsonb_agg(jsonb_build_object('function', f.tool, 'count', f.uses))
           from (select called.call ->> 'tool' as tool, count(*) as uses
                   from chat_messages m
                   join chat_sessions c on c.id = m.session_id
                  cross join lateral jsonb_array_elements(m.tool_calls) as called (call)
                  where c.account_id = p_account_id and m.role = 'tool' and m.tool_calls is not null
                    and m.created_at >= current_date - p_days_back
                  group by 1 order by 2 desc limit 5) f)
    from chat_sessions s
    full join user_behavior_events e on e.account_id = s.account_id
    where coalesce(s.account_id, e.account_id) = p_account_id
      and (s.started_at >= current_date - p_days_back or e.event_timestamp >= current_date - p_days_back);
end
$$;

-- Fails whenever it is called, as the application's own does: `metric_value` is its column and the view's.
create function detect_data_quality_alerts()
returns table (alert_level text, alert_message text, metric_name text, metric_value numeric, threshold numeric)
language plpgsql stable as $$
begin
    return query
    select
        case when q.status in ('warning', 'error') then q.status else 'info' end,
        case q.metric_name
            when 'user_behavior_events_24h' then '行動イベントが少ない'
            when 'chat_sessions_24h' then 'チャットが少ない'
            when 'null_account_id_rate' then 'アカウントのないイベントが多い'
            when 'avg_event_latency_ms' then '応答が遅い'
        end,
        q.metric_name, metric_value, q.threshold
    from data_quality_metrics q
    where q.status <> 'healthy';
end
$$;
