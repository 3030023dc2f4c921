create or replace view search_query_category_stats as
select
    q.inferred_category,
    count(*) as search_count,
    count(distinct q.account_id) as unique_users,
    count(*) filter (where q.has_results is true) as searches_with_results,
    round(count(*) filter (where q.has_results is true)::numeric / nullif(count(*), 0) * 100, 2) as results_rate,
    round(avg(q.radius_meters), 2) as avg_radius_meters,
    max(q.searched_at) as last_searched_at
from search_queries q
where q.searched_at >= current_date - interval '90 days'
group by q.inferred_category
order by search_count desc;
comment on view search_query_category_stats is 'Searches of 90 days by kind';

create or replace view search_query_radius_buckets as
select
    case
        when q.radius_meters is null then 'unknown'
        when q.radius_meters <= 500 then '0-0.5km'
        when q.radius_meters <= 1000 then '0.5-1km'
        when q.radius_meters <= 2000 then '1-2km'
        when q.radius_meters <= 5000 then '2-5km'
        else '5km+'
    end as radius_bucket,
    count(*) as search_count,
    count(distinct q.account_id) as unique_users,
    round(avg(q.results_count), 2) as avg_results_count,
    round(count(*) filter (where q.clicked_result_id is not null)::numeric / nullif(count(*), 0) * 100, 2)
        as click_through_rate,
    max(q.searched_at) as last_searched_at
from search_queries q
where q.searched_at >= current_date - interval '90 days'
group by radius_bucket
order by search_count desc;
comment on view search_query_radius_buckets is 'Searches of 90 days by how far they looked';
