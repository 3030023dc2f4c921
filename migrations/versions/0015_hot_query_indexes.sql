-- The indexes themselves are built after the revisions, outside of any transaction: lifecycle/indexes.py.
create table lifecycle.index_plans (
    index_name  text primary key,
    plan_before text not null,
    built_at    timestamptz
);
comment on table lifecycle.index_plans is 'How the planner would have answered the query of each hot-query index just before this project built it: steps, cost and rows, no values. built_at is null while it is being built.';

-- What `title ilike '%words%'` finds, newest first, words taken literally: a percent sign is a percent sign. Trigrams
-- need three characters, so an index over single characters finds shorter words. Of these the planner knows how many
-- there are by the characters alone, and strpos() does not make it expect fewer: common words are met soon in the order
-- of time, rare ones by the index. Longer words have both indexes, whichever the locale lets pg_trgm use.
-- With the caller's rights: the policies of chat_sessions decide what is seen. EXECUTE plans for the words at hand.
create function public.search_chat_titles(words text, result_limit int default 50)
returns table (id uuid, account_id uuid, title text, started_at timestamptz)
language plpgsql stable set search_path = ''
as $$
begin
    return query execute
        'select s.id, s.account_id, s.title, s.started_at from public.chat_sessions s
          where string_to_array(lower(s.title), null) @> string_to_array(lower($1), null) and '
        || case when length(words) < 3 then 'strpos(lower(s.title), lower($1)) > 0' else 's.title ilike $2' end
        || ' order by s.started_at desc, s.id limit $3'
        using words, '%' || regexp_replace(words, '([\\%_])', '\\\1', 'g') || '%', greatest(coalesce(result_limit, 50), 0);
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
