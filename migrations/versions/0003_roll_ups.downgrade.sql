-- The roll-ups go with everything in them; the application's tables lose nothing but the triggers.
drop trigger lifecycle_late_insert on public.chat_messages;
drop trigger lifecycle_late_update on public.chat_messages;
drop trigger lifecycle_late_delete on public.chat_messages;
drop trigger lifecycle_late_insert on public.chat_sessions;
drop trigger lifecycle_update on public.chat_sessions;
drop trigger lifecycle_delete on public.chat_sessions;
drop trigger lifecycle_late_insert on public.user_behavior_events;
drop trigger lifecycle_late_update on public.user_behavior_events;
drop trigger lifecycle_late_delete on public.user_behavior_events;
drop function lifecycle.milliseconds_since(timestamptz);
drop function lifecycle.roll_up_changes(timestamptz, timestamptz);
drop function lifecycle.refresh_roll_ups(timestamptz, timestamptz, text);
drop function lifecycle.hand_on_activity(uuid[], date[]);
drop function lifecycle.roll_up_account_session_days(timestamptz, timestamptz, uuid[], date[]);
drop function lifecycle.roll_up_data_quality_hourly(timestamptz, timestamptz);
drop function lifecycle.roll_up_chat_performance_history(timestamptz, timestamptz);
drop function lifecycle.roll_up_function_usage_hourly(timestamptz, timestamptz);
drop function lifecycle.roll_up_chat_session_hours(timestamptz, timestamptz);
drop function lifecycle.source_floor();
drop function lifecycle.safe_until();
drop function lifecycle.function_usage(timestamptz, timestamptz);
drop function lifecycle.chat_sessions_by_hour(timestamptz, timestamptz);
drop function lifecycle.chat_performance(timestamptz, timestamptz);
drop function lifecycle.overlap();
drop function lifecycle.note_changed_events();
drop function lifecycle.note_changed_sessions();
drop function lifecycle.note_changed_messages();
drop view lifecycle.chat_message_facts;
drop table lifecycle.data_quality_hourly,
    lifecycle.account_session_days,
    lifecycle.chat_performance_history,
    lifecycle.function_usage_hourly,
    lifecycle.chat_session_hours,
    lifecycle.pending_recounts,
    lifecycle.changed_activity,
    lifecycle.changed_chat_sessions,
    lifecycle.changed_chat_hours,
    lifecycle.roll_up_watermarks;
-- Only indexes that carry our comment are ours.
do $$
declare
    index_name regclass;
begin
    for index_name in
        select c.oid::regclass from pg_class c
         where c.relkind = 'i' and c.relnamespace = to_regnamespace('public')
           and obj_description(c.oid, 'pg_class') like 'lifecycle: %'
    loop
        execute format('drop index %s', index_name);
    end loop;
end $$;
