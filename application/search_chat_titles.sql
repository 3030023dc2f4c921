-- What `title ilike '%words%'` finds, newest first, words taken literally: a percent sign is a percent sign. Trigrams
-- need three characters, so an index over single characters finds shorter words; with ilike instead of strpos() the
-- planner would sometimes read the whole index of trigrams for them. Longer words have both indexes, whichever the
-- locale lets pg_trgm use. How many titles hold a word the planner cannot tell, and scanning in the order of time for a
-- rare one reads everything. So common words are sought among the newest sessions, and only where these do not suffice
-- the index is read: MATERIALIZED keeps the planner from weighing order against index. With the caller's rights: the
-- policies of chat_sessions decide what is seen. They call auth_account_id(), which names its table without a schema:
-- with an empty search_path it would not find it, and pg_temp at the end keeps a caller's own tables from standing in.
create or replace function public.search_chat_titles(words text, result_limit int default 50)
returns table (id uuid, account_id uuid, title text, started_at timestamptz)
language plpgsql stable set search_path = public, pg_temp
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
