-- The application's functions and triggers. All but the first two read tables by name, at run time.

create function auth_account_id() returns uuid
language sql stable security definer set search_path = public as $$
    select l.account_id from account_linkages l where l.supabase_user_id = auth.uid() limit 1
$$;

-- Raises when the setting is the empty string, as it is after a transaction that used SET LOCAL.
create function is_service_role() returns boolean
language sql stable as $$
    select coalesce((current_setting('request.jwt.claims', true)::json) ->> 'role' = 'service_role', false)
$$;

create function touch_updated_at() returns trigger
language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end
$$;

create trigger touch_updated_at before update on accounts
    for each row execute function touch_updated_at();
create trigger touch_updated_at before update on account_profiles
    for each row execute function touch_updated_at();
create trigger touch_updated_at before update on activity_interactions
    for each row execute function touch_updated_at();

create function detect_data_quality_alerts()
returns table (metric_name text, metric_value numeric, threshold numeric, status text, last_checked timestamptz)
language plpgsql stable as $$
begin
    return query
        select m.metric_name, m.metric_value, m.threshold, m.status, m.last_checked
          from data_quality_metrics m
         where m.status <> 'healthy';
end
$$;

-- Errors are swallowed: whoever calls it reads the text or learns nothing.
create function run_daily_maintenance() returns text
language plpgsql as $$
declare
    behavior bigint;
    business bigint;
    replays bigint;
begin
    delete from user_behavior_events where event_timestamp < now() - interval '2 years';
    get diagnostics behavior = row_count;
    delete from business_metrics_events where event_timestamp < now() - interval '2 years';
    get diagnostics business = row_count;
    delete from session_replay_events where "timestamp" < now() - interval '90 days';
    get diagnostics replays = row_count;
    refresh materialized view account_function_usage;
    analyze user_behavior_events;
    analyze business_metrics_events;
    analyze session_replay_events;
    return format('maintenance done: %s behaviour, %s business and %s replay events deleted',
                  behavior, business, replays);
exception when others then
    return format('maintenance failed: %s', sqlerrm);
end
$$;
