-- The recommendation read: one query over the cache. It runs as the caller, so the policies of the profile decide whose
-- segments are seen; consent withdrawn a moment ago counts at once. What is no tag and score is passed over: an owner
-- may write anything into their own preferences. plpgsql keeps the plan, which costs more than the read, and plans only
-- the branch that it takes: a profile is a row of its own, and since December a document of its account. Its search_path is
-- the API's: functions of the policies name tables without their schema.
create or replace function public.recommend_activities(account_id uuid, result_limit int default 10)
returns table (activity_id uuid, slug text, title text, score numeric, matched_tags text[])
language plpgsql stable set search_path = public, extensions, pg_temp
as $$
#variable_conflict use_column
declare
    preferences jsonb;
begin
    if pg_catalog.to_regclass('public.account_profiles') is not null then
        select p.preferences into preferences from public.account_profiles p
         where p.account_id = recommend_activities.account_id;
    else
        select a.profile -> 'preferences' into preferences from public.accounts a
         where a.id = recommend_activities.account_id;
    end if;
    return query
        select a.id, a.slug, a.title, sum(l.score),
               array_agg(l.slug order by l.score desc, l.slug collate "C")
          from (select e.tag ->> 'slug' as slug, (e.tag -> 'score')::numeric as score
                  from pg_catalog.jsonb_path_query(
                       preferences, '$.segments.tags[*] ? (@.slug.type() == "string" && @.score.type() == "number")'
                       ) e(tag)) l
          join public.activity_tags t on t.slug = l.slug and t.is_active
          join public.activity_tag_map m on m.tag_id = t.id
          join public.activities a on a.id = m.activity_id and a.status = 'published' and a.is_active
         where preferences #>> '{consent,preferences,personalization}' = 'true'
         group by a.id
         order by 4 desc, a.slug
         limit greatest(coalesce(result_limit, 10), 0);
end $$;

-- The same answer without the cache: what tests and benchmarks compare with.
create or replace function lifecycle.recommend_activities_uncached(account_id uuid, result_limit int default 10)
returns table (activity_id uuid, slug text, title text, score numeric, matched_tags text[])
language plpgsql volatile set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
        select a.id, a.slug, a.title, sum(l.score),
               array_agg(l.slug order by l.score desc, l.slug collate "C")
          from lifecycle.compute_segments(array[recommend_activities_uncached.account_id::text]) c
         cross join lateral jsonb_to_recordset(c.tags) l(slug text, score numeric)
          join public.activity_tags t on t.slug = l.slug and t.is_active
          join public.activity_tag_map m on m.tag_id = t.id
          join public.activities a on a.id = m.activity_id and a.status = 'published' and a.is_active
         group by a.id
         order by 4 desc, a.slug
         limit greatest(coalesce(result_limit, 10), 0);
end $$;
