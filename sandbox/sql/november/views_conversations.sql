-- How conversations go: whether they continue, how good and how long they are, and when they are held.

create view conversation_continuation_analysis as
select
    c.account_id, c.session_id, c.started_at, c.last_activity_at, c.closed_at, c.message_count,
    c.conversation_turns, c.session_duration_minutes, c.avg_response_time_seconds, c.is_continued_session,
    c.continuation_count, c.time_since_last_session_minutes
from (
    select
        s.account_id,
        s.id as session_id,
        s.started_at,
        s.last_activity_at,
        s.closed_at,
        count(m.id) as message_count,
        count(m.id) filter (where m.role = 'user') as conversation_turns,
        extract(epoch from coalesce(s.closed_at, s.last_activity_at) - s.started_at) / 60 as session_duration_minutes,
        round(avg(m.latency_ms) filter (where m.role = 'assistant') / 1000, 2) as avg_response_time_seconds,
        case
            when lag(s.last_activity_at) over (partition by s.account_id order by s.started_at)
                 >= s.started_at - interval '1 hour'
            then true
            else false
        end as is_continued_session,
        row_number() over (partition by s.account_id order by s.started_at) as continuation_count,
        extract(epoch from s.started_at
            - lag(s.last_activity_at) over (partition by s.account_id order by s.started_at)) / 60
            as time_since_last_session_minutes
    from chat_sessions s
    left join chat_messages m on m.session_id = s.id
    where s.started_at >= current_date - interval '90 days'
    group by s.id, s.account_id, s.started_at, s.last_activity_at, s.closed_at
) c
order by c.started_at desc;
comment on view conversation_continuation_analysis is 'Chats of 90 days, each with the one before it of the same account';

create view session_quality_scores as
with called as (
    select m.session_id, jsonb_array_elements(m.tool_calls) ->> 'tool' as tool
      from chat_messages m
     where m.tool_calls is not null and jsonb_array_length(m.tool_calls) > 0
), tools as (
    select called.session_id, count(distinct called.tool) as number from called group by called.session_id
)
select
    q.session_id, q.account_id, q.started_at, q.quality_score, q.engagement_level, q.message_count,
    q.conversation_turns, q.session_duration_minutes, q.avg_message_length, q.tool_usage_count, q.error_count,
    case
        when q.quality_score >= 80 then 'excellent'
        when q.quality_score >= 60 then 'good'
        when q.quality_score >= 40 then 'fair'
        else 'poor'
    end as quality_category
from (
    select
        s.id as session_id,
        s.account_id,
        s.started_at,
        least(100, greatest(0,
            -- ten points a question, up to twenty for its length, five a tool, twenty without a slow answer
            count(m.id) filter (where m.role = 'user') * 10
            + case
                when extract(epoch from s.last_activity_at - s.started_at) / 60 >= 5 then 20
                else extract(epoch from s.last_activity_at - s.started_at) / 60 * 4
              end
            + coalesce(t.number, 0) * 5
            + case when count(m.id) filter (where m.latency_ms > 5000) = 0 then 20 else 10 end
            - coalesce((s.metadata -> 'metrics' ->> 'errors')::integer, 0) * 10
        )) as quality_score,
        case when count(m.id) >= 10 then 'high' when count(m.id) >= 5 then 'medium' else 'low' end as engagement_level,
        count(m.id) as message_count,
        count(m.id) filter (where m.role = 'user') as conversation_turns,
        round(extract(epoch from s.last_activity_at - s.started_at) / 60, 2) as session_duration_minutes,
        round(avg(length(m.content)), 2) as avg_message_length,
        coalesce(t.number, 0) as tool_usage_count,
        coalesce((s.metadata -> 'metrics' ->> 'errors')::integer, 0) as error_count
    from chat_sessions s
    left join chat_messages m on m.session_id = s.id
    left join tools t on t.session_id = s.id
    where s.started_at >= current_date - interval '90 days'
    group by s.id, s.account_id, s.started_at, s.last_activity_at, s.metadata, t.number
) q;
comment on view session_quality_scores is 'Chats of 90 days with a score out of a hundred; reads the text of messages';

create view hourly_usage_patterns as
select
    h.hour_of_day, h.day_of_week, h.avg_sessions, h.avg_messages, h.avg_session_duration_minutes, h.peak_indicator
from (
    select
        extract(hour from c.started_at) as hour_of_day,
        extract(dow from c.started_at) as day_of_week,
        count(distinct c.id) as avg_sessions,
        avg(c.messages) as avg_messages,
        avg(c.minutes) as avg_session_duration_minutes,
        case
            when count(distinct c.id) >= avg(count(distinct c.id)) over () * 1.5 then true
            else false
        end as peak_indicator
    from (
        select
            s.id,
            s.started_at,
            count(m.id) as messages,
            extract(epoch from s.last_activity_at - s.started_at) / 60 as minutes
        from chat_sessions s
        left join chat_messages m on m.session_id = s.id
        where s.started_at >= current_date - interval '30 days'
        group by s.id, s.started_at, s.last_activity_at
    ) c
    group by extract(hour from c.started_at), extract(dow from c.started_at)
) h
order by h.day_of_week, h.hour_of_day;
comment on view hourly_usage_patterns is 'Chats of 30 days by hour and weekday; a peak is half above the mean of all rows';

create view user_conversation_styles as
with gaps as (
    select
        s.account_id,
        s.id as session_id,
        lag(s.last_activity_at) over (partition by s.account_id order by s.started_at) as ended_before,
        extract(epoch from s.started_at
            - lag(s.last_activity_at) over (partition by s.account_id order by s.started_at)) / 3600 as hours
    from chat_sessions s
    where s.started_at >= current_date - interval '90 days'
), tools as (
    select
        s.account_id,
        jsonb_agg(distinct named.tool order by named.tool) filter (where named.tool is not null) as names
    from chat_sessions s
    join chat_messages m on m.session_id = s.id
    cross join lateral jsonb_array_elements(m.tool_calls) as called (call)
    cross join lateral (select called.call ->> 'tool' as tool) named
    where m.tool_calls is not null and jsonb_array_length(m.tool_calls) > 0
      and s.started_at >= current_date - interval '90 days'
    group by s.account_id
)
select
    y.account_id, y.total_sessions, y.total_messages, y.avg_messages_per_session, y.avg_session_duration_minutes,
    y.preferred_hour, y.preferred_day, y.continuation_rate, y.avg_time_between_sessions_hours,
    y.most_used_features, y.conversation_style
from (
    select
        s.account_id,
        count(distinct s.id) as total_sessions,
        count(m.id) as total_messages,
        round(count(m.id)::numeric / nullif(count(distinct s.id), 0), 2) as avg_messages_per_session,
        round(avg(extract(epoch from s.last_activity_at - s.started_at) / 60), 2) as avg_session_duration_minutes,
        mode() within group (order by extract(hour from s.started_at)) as preferred_hour,
        mode() within group (order by extract(dow from s.started_at)) as preferred_day,
        round(count(distinct s.id) filter (where exists (
            select from chat_sessions b
             where b.account_id = s.account_id and b.started_at < s.started_at
               and b.last_activity_at >= s.started_at - interval '1 hour'
        ))::numeric / nullif(count(distinct s.id), 0) * 100, 2) as continuation_rate,
        round(avg(g.hours) filter (where g.ended_before is not null), 2) as avg_time_between_sessions_hours,
        t.names as most_used_features,
        case
            when avg(extract(epoch from s.last_activity_at - s.started_at) / 60) > 10 then 'deep_explorer'
            when count(distinct s.id) > 10
                 and avg(extract(epoch from s.last_activity_at - s.started_at) / 60) < 5 then 'quick_checker'
            when count(m.id)::numeric / nullif(count(distinct s.id), 0) > 10 then 'detailed_inquirer'
            else 'balanced_user'
        end as conversation_style
    from chat_sessions s
    left join chat_messages m on m.session_id = s.id
    left join gaps g on g.session_id = s.id
    left join tools t on t.account_id = s.account_id
    where s.started_at >= current_date - interval '90 days'
    group by s.account_id, t.names
) y;
comment on view user_conversation_styles is 'How and when each account talks, 90 days';

create view long_running_sessions as
with called as (
    select m.session_id, jsonb_array_elements(m.tool_calls) ->> 'tool' as tool
      from chat_messages m
     where m.tool_calls is not null and jsonb_array_length(m.tool_calls) > 0
), tools as (
    select called.session_id, jsonb_agg(distinct called.tool) as names, count(distinct called.tool) as number
      from called group by called.session_id
)
select
    l.session_id, l.account_id, l.started_at, l.last_activity_at, l.session_duration_minutes, l.message_count,
    l.conversation_turns, l.topics_discussed, l.session_complexity_score, l.is_successful_session
from (
    select
        s.id as session_id,
        s.account_id,
        s.started_at,
        s.last_activity_at,
        round(extract(epoch from s.last_activity_at - s.started_at) / 60, 2) as session_duration_minutes,
        count(m.id) as message_count,
        count(m.id) filter (where m.role = 'user') as conversation_turns,
        coalesce(t.names, '[]') as topics_discussed,
        count(m.id) * 2 + coalesce(t.number, 0) * 5
            + (extract(epoch from s.last_activity_at - s.started_at) / 60)::integer as session_complexity_score,
        case
            when coalesce((s.metadata -> 'metrics' ->> 'errors')::integer, 0) = 0 and count(m.id) >= 5 then true
            else false
        end as is_successful_session
    from chat_sessions s
    left join chat_messages m on m.session_id = s.id
    left join tools t on t.session_id = s.id
    where s.started_at >= current_date - interval '30 days'
      and extract(epoch from s.last_activity_at - s.started_at) / 60 >= 5
    group by s.id, s.account_id, s.started_at, s.last_activity_at, s.metadata, t.names, t.number
) l
order by l.session_duration_minutes desc;
comment on view long_running_sessions is 'Chats of 30 days that lasted five minutes or more';

create view session_gap_analysis as
select
    g.account_id, g.current_session_id, g.previous_session_id, g.gap_hours, g.gap_category,
    g.reengagement_success, g.current_session_quality, g.messages_in_current_session
from (
    select
        s.account_id,
        s.id as current_session_id,
        lag(s.id) over (partition by s.account_id order by s.started_at) as previous_session_id,
        round(extract(epoch from s.started_at
            - lag(s.last_activity_at) over (partition by s.account_id order by s.started_at)) / 3600, 2) as gap_hours,
        case
            when extract(epoch from s.started_at
                - lag(s.last_activity_at) over (partition by s.account_id order by s.started_at)) / 3600 <= 1
            then 'immediate'
            when extract(epoch from s.started_at
                - lag(s.last_activity_at) over (partition by s.account_id order by s.started_at)) / 3600 <= 24
            then 'same_day'
            when extract(epoch from s.started_at
                - lag(s.last_activity_at) over (partition by s.account_id order by s.started_at)) / 3600 <= 168
            then 'within_week'
            else 'long_gap'
        end as gap_category,
        count(m.id) >= 3 as reengagement_success,
        coalesce((s.metadata -> 'metrics' ->> 'totalMessages')::integer, 0) as current_session_quality,
        count(m.id) as messages_in_current_session
    from chat_sessions s
    left join chat_messages m on m.session_id = s.id
    where s.started_at >= current_date - interval '90 days'
    group by s.id, s.account_id, s.started_at, s.last_activity_at, s.metadata
) g
where g.gap_hours is not null
order by g.gap_hours desc;
comment on view session_gap_analysis is 'Silence before each chat of 90 days, and whether the person stayed this time';
