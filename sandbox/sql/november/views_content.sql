-- Quizzes, recommendations and searches.

create view quiz_analytics as
select
    s.account_id,
    s.id as session_id,
    s.status,
    s.started_at,
    s.completed_at,
    extract(epoch from coalesce(s.completed_at, now()) - s.started_at) / 60 as duration_minutes,
    count(a.id) as answers_count,
    r.travel_type_code,
    r.travel_type_payload,
    jsonb_array_length(coalesce(r.recommendation_snapshot, '[]')) as recommendations_count,
    s.location_permission,
    s.metadata
from quiz_sessions s
left join quiz_answers a on a.session_id = s.id
left join quiz_results r on r.session_id = s.id
group by s.id, s.account_id, s.status, s.started_at, s.completed_at, r.travel_type_code, r.travel_type_payload,
    r.recommendation_snapshot, s.location_permission, s.metadata
order by s.started_at desc;
comment on view quiz_analytics is 'One row per quiz, all time';

create view quiz_completion_rates as
select
    date(s.started_at) as date,
    count(*) as total_sessions,
    count(*) filter (where s.status = 'completed') as completed_sessions,
    count(*) filter (where s.status = 'abandoned') as abandoned_sessions,
    count(*) filter (where s.status = 'in_progress') as in_progress_sessions,
    round(count(*) filter (where s.status = 'completed')::numeric / nullif(count(*), 0) * 100, 2) as completion_rate,
    avg(extract(epoch from coalesce(s.completed_at, now()) - s.started_at) / 60)
        filter (where s.status = 'completed') as avg_completion_time_minutes
from quiz_sessions s
where s.started_at >= current_date - interval '90 days'
group by date(s.started_at)
order by date(s.started_at) desc;
comment on view quiz_completion_rates is 'Quizzes that began on each of the last 90 days, by how they ended';

create view travel_type_distribution as
-- The percentage is of all results, those without a type included.
select
    r.travel_type_code,
    r.travel_type_payload ->> 'travelTypeName' as travel_type_name,
    r.travel_type_payload ->> 'travelTypeEmoji' as travel_type_emoji,
    count(*) as result_count,
    count(distinct r.account_id) as unique_users,
    round(count(*)::numeric / (
        select count(*) from quiz_results every where every.created_at >= current_date - interval '90 days'
    ) * 100, 2) as percentage,
    max(r.created_at) as last_result_at
from quiz_results r
where r.created_at >= current_date - interval '90 days' and r.travel_type_code is not null
group by r.travel_type_code, r.travel_type_payload ->> 'travelTypeName', r.travel_type_payload ->> 'travelTypeEmoji'
order by count(*) desc;
comment on view travel_type_distribution is 'Travel types of 90 days of quiz results';

create view recommendation_analytics as
with picks as (
    select
        r.account_id,
        r.created_at,
        r.travel_type_code,
        pick.value ->> 'slug' as slug,
        pick.value ->> 'title' as title,
        (pick.value ->> 'relevanceScore')::numeric as relevance,
        pick.place
    from quiz_results r
    cross join lateral jsonb_array_elements(r.recommendation_snapshot) with ordinality as pick (value, place)
    where r.recommendation_snapshot is not null and jsonb_array_length(r.recommendation_snapshot) > 0
      and r.created_at >= current_date - interval '90 days'
)
select
    p.slug as activity_slug,
    p.title as activity_title,
    count(*) as times_recommended,
    count(distinct p.account_id) as unique_users_recommended,
    round(avg(p.relevance), 2) as avg_relevance_score,
    round(avg(p.place), 2) as avg_position,
    min(p.created_at) as first_recommended_at,
    max(p.created_at) as last_recommended_at,
    jsonb_object_agg(p.travel_type_code, p.times) filter (where p.travel_type_code is not null) as by_travel_type
from (
    select slug, title, account_id, relevance, place, created_at, travel_type_code, count(*) as times
      from picks
     group by slug, title, account_id, relevance, place, created_at, travel_type_code
) p
group by p.slug, p.title
order by count(*) desc;
comment on view recommendation_analytics is 'What quizzes of 90 days recommended; of equal travel types the last one counts';

create view search_analytics as
select
    q.search_query,
    count(*) as search_count,
    count(distinct q.account_id) as unique_users,
    count(*) filter (where q.clicked_result_id is not null) as clicks_count,
    round(count(*) filter (where q.clicked_result_id is not null)::numeric / nullif(count(*), 0) * 100, 2)
        as click_through_rate,
    round(avg(q.results_count), 2) as avg_results_count,
    jsonb_object_agg(q.search_source, q.times) filter (where q.search_source is not null) as by_source,
    max(q.searched_at) as last_searched_at
from (
    select search_query, account_id, clicked_result_id, results_count, search_source, searched_at, count(*) as times
      from search_queries
     where searched_at >= current_date - interval '90 days'
     group by search_query, account_id, clicked_result_id, results_count, search_source, searched_at
) q
group by q.search_query
order by count(*) desc;
comment on view search_analytics is 'Searches of 90 days by their words';

create view daily_search_stats as
select
    date(q.searched_at) as date,
    count(*) as total_searches,
    count(distinct q.account_id) as unique_searchers,
    count(distinct q.search_query) as unique_queries,
    round(count(*) filter (where q.clicked_result_id is not null)::numeric / nullif(count(*), 0) * 100, 2)
        as overall_ctr,
    round(avg(q.results_count), 2) as avg_results_per_search,
    count(*) filter (where q.search_source = 'hero') as searches_from_hero,
    count(*) filter (where q.search_source = 'header') as searches_from_header,
    count(*) filter (where q.search_source = 'chat') as searches_from_chat
from search_queries q
where q.searched_at >= current_date - interval '90 days'
group by date(q.searched_at)
order by date(q.searched_at) desc;
comment on view daily_search_stats is 'Searches of each of the last 90 days';

create view user_content_journey as
with people as (
    select distinct coalesce(s.account_id, q.account_id) as account_id
      from quiz_sessions s
      full join search_queries q on q.account_id = s.account_id
     where coalesce(s.account_id, q.account_id) is not null
)
select
    p.account_id,
    count(distinct s.id) as total_quizzes,
    count(distinct s.id) filter (where s.status = 'completed') as completed_quizzes,
    max(s.completed_at) as last_quiz_completed_at,
    count(distinct q.id) as total_searches,
    count(distinct q.search_query) as unique_search_queries,
    max(q.searched_at) as last_search_at,
    (select jsonb_agg(distinct r.travel_type_code)
       from quiz_results r
      where r.account_id = p.account_id and r.travel_type_code is not null) as travel_types_discovered,
    (select sum(jsonb_array_length(r.recommendation_snapshot))
       from quiz_results r
      where r.account_id = p.account_id and r.recommendation_snapshot is not null) as total_recommendations_received
from people p
left join quiz_sessions s on s.account_id = p.account_id
left join search_queries q on q.account_id = p.account_id
group by p.account_id
order by count(distinct s.id) desc, count(distinct q.id) desc;
comment on view user_content_journey is 'Quizzes, searches and recommendations of each account, all time';

create materialized view top_search_keywords as
select
    q.search_query,
    count(*) as search_count,
    count(distinct q.account_id) as unique_users,
    max(q.searched_at) as last_searched_at
from search_queries q
where q.searched_at >= current_date - interval '30 days'
group by q.search_query
order by count(*) desc
limit 100;
create unique index top_search_keywords_unique_idx on top_search_keywords (search_query);
comment on materialized view top_search_keywords is 'The hundred most frequent searches of 30 days, as of the last refresh';
