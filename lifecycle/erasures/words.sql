-- Ids, addresses and session names in texts: how they look, how they are found, how they give way to a word.

-- E-mail addresses as they stand in a text of any language, in a URL (%40, %2B) and in JSON. Part 1 of an address is
-- what its first letters may belong to instead: an escape of JSON, or one of a URL. ASCII only: Japanese knows no spaces.
create or replace function lifecycle.address_pattern() returns text
language sql immutable parallel safe set search_path = ''
as $$ select '(\\u[0-9A-Fa-f]{4}|\\[bfnrt]|%[0-9A-Fa-f]{2})?([A-Za-z0-9_](?:[A-Za-z0-9_.+-]|%2[Bb])*(?:@|%40)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+)' $$;

-- A uuid, in whatever case.
create or replace function lifecycle.id_pattern() returns text
language sql immutable parallel safe set search_path = ''
as $$ select '[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}' $$;

-- Without this no text holds either; much cheaper to ask.
create or replace function lifecycle.identifier_hint() returns text
language sql immutable parallel safe set search_path = ''
as $$ select '@|%40|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-' $$;

-- Session names of at least this length that are words of letters and digits, and what their first letter may belong to.
create or replace function lifecycle.session_pattern(shortest int) returns text
language sql immutable parallel safe set search_path = ''
as $$
    select case when shortest is not null then
        format('(\\u[0-9A-Fa-f]{4}|\\[bfnrt]|%%[0-9A-Fa-f]{2})?([A-Za-z0-9][A-Za-z0-9_-]{%s,}[A-Za-z0-9])', shortest - 2) end
$$;

-- Ids and e-mail addresses in a text give way to a word.
create or replace function lifecycle.redacted(content text) returns text
language plpgsql immutable parallel safe set search_path = ''
as $$
begin
    if content collate "C" ~ lifecycle.identifier_hint() then
        return regexp_replace(regexp_replace(content collate "C", lifecycle.address_pattern(), '\1erased', 'g'),
                              lifecycle.id_pattern(), 'erased', 'g');
    end if;
    return content;
end $$;

-- A document as it is written, cut into its texts and what stands between them: without going down into it, since a
-- client may have nested it deeper than a function can follow.
create or replace function lifecycle.pieces_of(document jsonb) returns table (piece text, place bigint)
language sql immutable parallel safe set search_path = ''
as $$ select m.match[1], m.place from regexp_matches(document::text, '"(?:[^"\\]|\\.)*"|[^"]+', 'g') with ordinality m(match, place) $$;

-- Text by text, so that whatever is taken out leaves JSON behind.
create or replace function lifecycle.redacted_document(document jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = ''
as $$
begin
    if document is null or document::text collate "C" !~ lifecycle.identifier_hint() then
        return document;
    end if;
    return (select string_agg(case when p.piece like '"%' and p.piece collate "C" ~ lifecycle.identifier_hint()
                                   then to_jsonb(lifecycle.redacted(p.piece::jsonb #>> '{}'))::text
                                   else p.piece end, '' order by p.place)::jsonb
              from lifecycle.pieces_of(document) p);
end $$;

-- An address on the web without what was handed over in it.
create or replace function lifecycle.location_only(url text) returns text
language plpgsql immutable parallel safe set search_path = ''
as $$
begin
    return lifecycle.redacted(split_part(split_part(url collate "C", '?', 1), '#', 1));
end $$;

-- Of an object only these keys; their values without ids and addresses. Anything else is emptied. An object that holds
-- nothing else is common, and a query costs ten times the rest.
create or replace function lifecycle.allowed_only(document jsonb, allowed text[]) returns jsonb
language plpgsql immutable parallel safe set search_path = ''
as $$
begin
    if document is null then
        return null;
    elsif jsonb_typeof(document) <> 'object' then
        return '{}'::jsonb;
    elsif document - allowed = '{}'::jsonb and document::text collate "C" !~ lifecycle.identifier_hint() then
        return document;
    end if;
    return lifecycle.redacted_document((select coalesce(jsonb_object_agg(e.key, e.value), '{}')
                                          from jsonb_each(document) e where e.key = any (allowed)));
end $$;

-- The ids, addresses and session names in a text: each as it stands there, and as it is known. Letters that may belong
-- to an escape are tried both ways.
create or replace function lifecycle.words_in(content text, session_pattern text) returns table (found text, word text)
language sql immutable parallel safe set search_path = ''
as $$
    select m[1], lower(m[1]) from regexp_matches(content collate "C", '(' || lifecycle.id_pattern() || ')', 'g') m
     union all
    select v.found, replace(replace(lower(v.found), '%40', '@'), '%2b', '+')
      from regexp_matches(content collate "C", lifecycle.address_pattern(), 'g') m
     cross join lateral (select m[2] as found union all select substr(m[1], 2) || m[2] where m[1] is not null) v
     union all
    select v.found, lower(v.found)
      from regexp_matches(content collate "C", session_pattern, 'g') m
     cross join lateral (select m[2] as found union all select substr(m[1], 2) || m[2] where m[1] is not null) v
$$;

-- Whether a text could hold a session name, as a condition over an expression; null where none is looked for.
create or replace function lifecycle.session_hint(content text, shortest_session int, session_start text) returns text
language sql immutable set search_path = ''
as $$
    select case when session_start is not null then format('strpos(lower(%s), %L) > 0', content, session_start)
                else format('%s ~ %L', content, '[A-Za-z0-9_-]{' || shortest_session || '}') end
     where shortest_session is not null
$$;

-- Whether a text holds one of these words, as words_in() finds them: a condition over two expressions, for queries of many
-- rows. Each pattern is asked only of a text with what all its words have, found by simple means at a fifth of the price,
-- and escapes are thought of only where there are any. A call of words_in() for each row takes four times as long.
create or replace function lifecycle.holds_words(content text, words text, shortest_session int, session_start text) returns text
language sql immutable set search_path = ''
as $$
    select string_agg(format('(%s) and exists (select from regexp_matches(%s, %L, ''g'') m where %s)', w.hint, content, w.pattern,
                             (select string_agg(format('coalesce(%s = any (%s), false)', replace(w.word, 'found', f), words), ' or ')
                                from unnest(w.found) f)), ' or ')
      from (select format('strpos(%1$s, ''\'') = 0 and strpos(%1$s, ''%%'') = 0', content) as plain,
                   lifecycle.session_hint(content, shortest_session, session_start) as session,
                   array['m[2]', 'substr(m[1], 2) || m[2]'] as either) h
     cross join lateral (values
         (format('%s like ''%%-____-____-____-____________%%''', content), lifecycle.id_pattern(), 'lower(found)', array['m[1]']),
         (format('strpos(%1$s, ''@'') > 0 or strpos(%1$s, ''%%40'') > 0', content), lifecycle.address_pattern(),
          'replace(replace(lower(found), ''%40'', ''@''), ''%2b'', ''+'')', h.either),
         (h.plain || ' and ' || h.session, '[A-Za-z0-9][A-Za-z0-9_-]{' || shortest_session - 2 || ',}[A-Za-z0-9]', 'lower(found)', array['m[1]']),
         (format('not (%s) and %s', h.plain, h.session), lifecycle.session_pattern(shortest_session), 'lower(found)', h.either)
         ) w(hint, pattern, word, found)
     where w.pattern is not null
$$;

-- A pattern that finds exactly this word: a longer one that ends or begins like it is another's. Part 1 is what stands
-- before it.
create or replace function lifecycle.whole_word_pattern(word text) returns text
language sql immutable parallel safe set search_path = ''
as $$
    select '(^|[^A-Za-z0-9_.+%-]|\\u[0-9A-Fa-f]{4}|\\[bfnrt]|%[0-9A-Fa-f]{2})'
        || regexp_replace(word, '([^[:alnum:]_])', '\\\1', 'g') || '(?![A-Za-z0-9_]|[.-]+[A-Za-z0-9_])'
$$;

-- Exactly these words give way, in whatever case; a longer word that ends or begins like one of them stays.
create or replace function lifecycle.without_words(content text, words text[], odd_words text[], session_pattern text) returns text
language plpgsql immutable set search_path = ''
as $$
declare
    hit text;
begin
    if lower(content) = any (words) then
        return 'erased';
    end if;
    for hit in select distinct w.found from lifecycle.words_in(content, session_pattern) w where w.word = any (words) loop
        content := case when hit ~ ('^' || lifecycle.id_pattern() || '$') then replace(content, hit, 'erased')
            else regexp_replace(content collate "C", lifecycle.whole_word_pattern(hit), '\1erased', 'g') end;
    end loop;
    foreach hit in array odd_words loop
        content := regexp_replace(content, lifecycle.whole_word_pattern(hit), '\1erased', 'gi');
    end loop;
    return content;
end $$;

-- The same in JSON, text by text and key by key, so that JSON is left behind. Only texts that hold a word are made anew: a
-- document may have a hundred thousand.
create or replace function lifecycle.document_without_words(document jsonb, words text[], odd_words text[], session_pattern text) returns jsonb
language sql immutable set search_path = ''
as $$
    with hits as materialized (
        select distinct w.word from lifecycle.words_in(document::text, session_pattern) w where w.word = any (words)
         union
        select substr(to_jsonb(o)::text, 2, length(to_jsonb(o)::text) - 2) from unnest(odd_words) o
    ), alone as materialized (
        select to_jsonb(w)::text as text from unnest(words) w
    )
    select string_agg(case when p.piece like '"%'
                            and (lower(p.piece) in (select a.text from alone a)
                                 or exists (select from hits h
                                             where strpos(replace(replace(lower(p.piece), '%40', '@'), '%2b', '+'), h.word) > 0))
                           then to_jsonb(lifecycle.without_words(p.piece::jsonb #>> '{}', words, odd_words, session_pattern))::text
                           else p.piece end, '' order by p.place)::jsonb
      from lifecycle.pieces_of(document) p
$$;
