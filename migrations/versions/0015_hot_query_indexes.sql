-- The indexes themselves are built after the revisions, outside of any transaction: lifecycle/indexes.py.
create table lifecycle.index_plans (
    index_name  text primary key,
    plan_before text not null,
    built_at    timestamptz
);
comment on table lifecycle.index_plans is 'How the planner would have answered the query of each hot-query index just before this project built it: steps, cost and rows, no values. built_at is null while it is being built.';

-- What `title ilike '%words%'` finds, newest first, words taken literally: a percent sign is a percent sign. Trigrams
-- need three characters, so the second condition lets an index over single characters find shorter words; it holds for
-- every row that the first one finds. With the caller's rights: the policies of chat_sessions decide what is seen.
-- EXECUTE plans for the words at hand: common ones are met soon in the order of time, rare ones by an index.
create function public.search_chat_titles(words text, result_limit int default 50)
returns table (id uuid, account_id uuid, title text, started_at timestamptz)
language plpgsql stable set search_path = ''
as $$
begin
    return query execute
        'select s.id, s.account_id, s.title, s.started_at from public.chat_sessions s
          where s.title ilike $1 and string_to_array(lower(s.title), null) @> string_to_array(lower($2), null)
          order by s.started_at desc, s.id limit $3'
        using '%' || regexp_replace(words, '([\\%_])', '\\\1', 'g') || '%', words,
              greatest(coalesce(result_limit, 50), 0);
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
