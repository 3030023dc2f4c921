-- The indexes themselves are built after the revisions, outside of any transaction: lifecycle/indexes.py.
create table lifecycle.index_plans (
    index_name  text primary key,
    plan_before text not null,
    built_at    timestamptz
);
comment on table lifecycle.index_plans is 'How the planner would have answered the query of each hot-query index just before this project built it: steps, cost and rows, no values. built_at is null while it is being built.';

-- What `title ilike '%words%'` finds, newest first, words taken literally: a percent sign is a percent sign. Trigrams
-- need three characters, so an index over single characters finds shorter words; with ilike instead of strpos() the
-- planner would sometimes read the whole index of trigrams for them. Longer words have both indexes, whichever the
-- locale lets pg_trgm use. How many titles hold a word the planner cannot tell, and scanning in the order of time for a
-- rare one reads everything. So common words are sought among the newest sessions, and only where these do not suffice
-- the index is read: MATERIALIZED keeps the planner from weighing order against index. With the caller's rights: the
-- policies of chat_sessions decide what is seen.
create function public.search_chat_titles(words text, result_limit int default 50)
returns table (id uuid, account_id uuid, title text, started_at timestamptz)
language plpgsql stable set search_path = ''
as $$
declare
    newest   constant int := 2000;
    wanted   constant int := greatest(coalesce(result_limit, 50), 0);
    pattern  constant text := '%' || regexp_replace(words, '([\\%_])', '\\\1', 'g') || '%';
    contains constant text := case when length(words) < 3 then 'strpos(lower(s.title), lower($1)) > 0'
                                   else 's.title ilike $2' end;
begin
    return query execute format(
        'with recent as materialized (
             select s.id, s.account_id, s.title, s.started_at from public.chat_sessions s
              order by s.started_at desc fetch first %s rows with ties),
         found as materialized (select s.* from recent s where %s)
         select f.* from found f where (select count(*) from found) >= $3
          order by f.started_at desc, f.id limit $3', newest, contains) using words, pattern, wanted;
    if not found then
        return query execute format(
            'with found as materialized (
                 select s.id, s.account_id, s.title, s.started_at from public.chat_sessions s
                  where string_to_array(lower(s.title), null) @> string_to_array(lower($1), null) and %s)
             select f.* from found f order by f.started_at desc, f.id limit $3', contains)
            using words, pattern, wanted;
    end if;
end $$;

select lifecycle.close_to_readers(array['lifecycle.index_plans']::regclass[], array['public.search_chat_titles']);
do $$
declare
    api_role name;
begin
    for api_role in select r.rolname from pg_roles r where r.rolname in ('authenticated', 'service_role') loop
        execute format('grant execute on function public.search_chat_titles(text, int) to %I', api_role);
    end loop;
end $$;
