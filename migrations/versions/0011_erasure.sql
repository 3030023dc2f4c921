-- Erasing: the keys by which a person's rows are found, and what is done to those rows.

create table lifecycle.erasure_keys (
    job_id bigint not null,
    kind   text not null,
    key    text not null,
    primary key (job_id, kind, key)
);
comment on table lifecycle.erasure_keys is 'What a person''s rows are found by. Kept from before the first row goes until the receipt is written: afterwards they could not be derived again.';

create table lifecycle.erasure_counts (
    job_id     bigint not null,
    table_name text not null,
    action     text not null,
    rows       bigint not null,
    primary key (job_id, table_name, action)
);
comment on table lifecycle.erasure_counts is 'Rows deleted, scrubbed or redacted, per job and table.';

-- Keys -------------------------------------------------------------------------------------------------------

-- Everything that a person's rows are found by, for these jobs and their accounts. What was collected earlier stays:
-- once the events are scrubbed it cannot be found again. Planned for the keys at hand: with unknown arrays the planner
-- would read whole tables.
create function lifecycle.collect_keys(jobs bigint[], accounts uuid[]) returns void
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_variable
declare
    users     uuid[];
    sessions  text[];
    emails    text[];
    chats     uuid[];
    forms     uuid[];
    ids       text[];
    has_users constant boolean := to_regclass('auth.users') is not null
        and has_schema_privilege('auth', 'usage') and has_table_privilege('auth.users', 'select');
begin
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'account', j.account::text from unnest(jobs, accounts) j(job, account)
     union
    select j.job, 'sign_in_user', l.supabase_user_id::text
      from unnest(jobs, accounts) j(job, account) join public.account_linkages l on l.account_id = j.account
     where l.supabase_user_id is not null
     union
    select j.job, 'sign_in_user', m.supabase_user_id::text
      from unnest(jobs, accounts) j(job, account) join public.vendor_members m on m.account_id = j.account
     where m.supabase_user_id is not null
    on conflict do nothing;
    users := array(select distinct k.key::uuid from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'sign_in_user');

    -- Visits. The constant of scrubbed events is nobody's.
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select distinct j.job, 'web_session', v.session_id
      from (select e.account_id, e.session_id from public.user_behavior_events e where e.account_id = any (accounts)
             union select b.account_id, b.session_id from public.business_metrics_events b where b.account_id = any (accounts)
             union select q.account_id, q.session_id from public.search_queries q where q.account_id = any (accounts)) v
      join unnest(jobs, accounts) j(job, account) on j.account = v.account_id
     where v.session_id <> 'erased'
    on conflict do nothing;
    -- A name under which many people come is nobody's visit: a browser without storage, say. What is anonymous in it
    -- is not the person's.
    sessions := array(select distinct k.key from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'web_session');
    delete from lifecycle.erasure_keys k
     where k.job_id = any (jobs) and k.kind = 'web_session'
       and k.key in (select e.session_id from public.user_behavior_events e
                      where e.session_id = any (sessions) and e.account_id is not null
                      group by e.session_id having count(distinct e.account_id) > 20);
    sessions := array(select distinct k.key from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'web_session');
    -- Only those in which nobody else was seen who stays. Two people who leave together do not keep each other's alive.
    with shared as (
        select distinct v.session_id
          from (select e.session_id, e.account_id from public.user_behavior_events e where e.session_id = any (sessions)
                 union select b.session_id, b.account_id from public.business_metrics_events b where b.session_id = any (sessions)
                 union select q.session_id, q.account_id from public.search_queries q where q.session_id = any (sessions)) v
         where v.account_id is not null and v.account_id <> all (accounts) and not lifecycle.is_leaving(v.account_id)
    )
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job_id, 'own_web_session', k.key from lifecycle.erasure_keys k
     where k.job_id = any (jobs) and k.kind = 'web_session'
       and not exists (select from shared s where s.session_id = k.key)
    on conflict do nothing;

    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'chat_session', s.id::text
      from unnest(jobs, accounts) j(job, account) join public.chat_sessions s on s.account_id = j.account
     where s.account_id = any (accounts)
     union
    select j.job, 'quiz_session', s.id::text
      from unnest(jobs, accounts) j(job, account) join public.quiz_sessions s on s.account_id = j.account
     where s.account_id = any (accounts)
     union
    select j.job, 'recommendation_run', r.id::text
      from unnest(jobs, accounts) j(job, account) join public.recommendation_runs r on r.account_id = j.account
     where r.account_id = any (accounts)
    on conflict do nothing;
    chats := array(select distinct k.key::uuid from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'chat_session');
    -- What somebody else saved stays with them; the end of its chat session detaches it.
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job_id, 'generated_activity', g.id::text
      from public.generated_activities g
      join lifecycle.erasure_keys k on k.job_id = any (jobs) and k.kind = 'chat_session' and k.key = g.chat_session_id::text
     where g.chat_session_id = any (chats)
       and not exists (select from public.generated_activity_saves s
                        where s.generated_activity_id = g.id and s.account_id <> all (accounts)
                          and not lifecycle.is_leaving(s.account_id))
    on conflict do nothing;

    -- Addresses, in one spelling. One that a person who stays uses, too, ties no row to this one.
    if has_users then
        execute 'insert into lifecycle.erasure_keys (job_id, kind, key)
                 select distinct k.job_id, ''email'', lower(btrim(u.email)) from auth.users u
                   join lifecycle.erasure_keys k on k.kind = ''sign_in_user'' and k.key = u.id::text
                  where u.id = any ($1) and k.job_id = any ($2) and u.email like ''%@%''
                 on conflict do nothing' using users, jobs;
    end if;
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select distinct j.job, 'email', lower(btrim(f.email))
      from unnest(jobs, accounts) j(job, account) join public.form_submissions f on f.account_id = j.account
     where f.account_id = any (accounts) and f.email like '%@%'
    on conflict do nothing;
    emails := array(select distinct k.key from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'email');
    delete from lifecycle.erasure_keys k
     where k.job_id = any (jobs) and k.kind = 'email'
       and k.key in (select lower(btrim(f.email)) from public.form_submissions f
                      where lower(btrim(f.email)) = any (emails) and f.account_id <> all (accounts)
                        and not lifecycle.is_leaving(f.account_id));
    if has_users then
        execute 'delete from lifecycle.erasure_keys k
                  where k.job_id = any ($1) and k.kind = ''email''
                    and k.key in (select lower(btrim(u.email)) from auth.users u
                                    join public.account_linkages l on l.supabase_user_id = u.id
                                   where u.email = any ($2) and l.account_id <> all ($3)
                                     and not lifecycle.is_leaving(l.account_id))' using jobs, emails, accounts;
    end if;
    emails := array(select distinct k.key from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'email');

    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'form_submission', f.id::text
      from unnest(jobs, accounts) j(job, account) join public.form_submissions f on f.account_id = j.account
     where f.account_id = any (accounts)
    on conflict do nothing;
    if emails <> '{}' then
        insert into lifecycle.erasure_keys (job_id, kind, key)
        select k.job_id, 'form_submission', f.id::text
          from public.form_submissions f
          join lifecycle.erasure_keys k on k.job_id = any (jobs) and k.kind = 'email' and k.key = lower(btrim(f.email))
         where f.account_id is null and lower(btrim(f.email)) = any (emails)
        on conflict do nothing;
    end if;
    forms := array(select distinct k.key::uuid from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'form_submission');
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job_id, 'voucher', v.id::text
      from public.vouchers v
      join lifecycle.erasure_keys k on k.job_id = any (jobs) and k.kind = 'form_submission' and k.key = v.form_submission_id::text
     where v.form_submission_id = any (forms)
    on conflict do nothing;

    -- Of addresses of machines only those that nobody else's consent came from.
    with place as (
        select c.ip_address, min(c.account_id::text)::uuid as account from public.consent_history c
         where c.ip_address in (select o.ip_address from public.consent_history o where o.account_id = any (accounts))
         group by c.ip_address having count(distinct c.account_id) = 1
    )
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'ip', host(p.ip_address) from place p join unnest(jobs, accounts) j(job, account) on j.account = p.account
    on conflict do nothing;

    -- One look through the ledger for the whole batch: neither column has an index of its own.
    ids := array(select distinct lower(k.key) from lifecycle.erasure_keys k
                  where k.job_id = any (jobs)
                    and k.kind in ('account', 'sign_in_user', 'email', 'chat_session', 'quiz_session',
                                   'recommendation_run', 'generated_activity', 'own_web_session'));
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job_id, 'audit_subject', e.id::text
      from public.audit_events e
      join lifecycle.erasure_keys k on k.job_id = any (jobs) and lower(k.key) = lower(e.entity_id)
       and k.kind in ('account', 'sign_in_user', 'email', 'chat_session', 'quiz_session',
                      'recommendation_run', 'generated_activity', 'own_web_session')
     where lower(e.entity_id) = any (ids)
     union
    select k.job_id, 'audit_performer', e.id::text
      from public.audit_events e
      join lifecycle.erasure_keys k on k.job_id = any (jobs) and k.key = e.performed_by::text
       and k.kind in ('account', 'sign_in_user')
     where e.performed_by = any (accounts || users)
    on conflict do nothing;
end $$;

create function lifecycle.collect_erasure_keys(batch uuid) returns void
language plpgsql set search_path = ''
as $$
declare
    jobs     bigint[];
    accounts uuid[];
begin
    perform lifecycle.renew_erasure_lease(batch);
    select array_agg(j.id order by j.id), array_agg(j.account_id order by j.id) into jobs, accounts
      from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'running';
    if jobs is not null then
        perform lifecycle.collect_keys(jobs, accounts);
        analyze lifecycle.erasure_keys;  -- each step joins them
    end if;
    update lifecycle.deletion_jobs j set collected_at = coalesce(j.collected_at, now()) where j.id = any (jobs);
end $$;

-- What is done to a row --------------------------------------------------------------------------------------

-- Ids, and e-mail addresses as they stand in a text of any language, in a URL (%40, %2B) and in JSON. Part 1 of an
-- address is what its first letters may belong to instead: an escape of JSON, or one of a URL. ASCII only: Japanese
-- knows no spaces.
create function lifecycle.id_pattern() returns text
language sql immutable parallel safe
return '[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}';

create function lifecycle.address_pattern() returns text
language sql immutable parallel safe
return '(\\u[0-9A-Fa-f]{4}|\\[bfnrt]|%[0-9A-Fa-f]{2})?([A-Za-z0-9_](?:[A-Za-z0-9_.+-]|%2[Bb])*(?:@|%40)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+)';

-- Without this no text holds either; much cheaper to ask.
create function lifecycle.identifier_hint() returns text
language sql immutable parallel safe
return '@|%40|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-';

-- Ids and e-mail addresses in a text give way to a word.
create function lifecycle.redacted(content text) returns text
language sql immutable parallel safe
return case when content collate "C" ~ lifecycle.identifier_hint()
            then regexp_replace(regexp_replace(content collate "C", lifecycle.address_pattern(), '\1erased', 'g'),
                                lifecycle.id_pattern(), 'erased', 'g')
            else content end;

-- Text by text, so that whatever is taken out leaves JSON behind.
create function lifecycle.redacted_document(document jsonb) returns jsonb
language plpgsql immutable parallel safe set search_path = ''
as $$
begin
    if document is null or document::text collate "C" !~ lifecycle.identifier_hint() then
        return document;
    end if;
    return case jsonb_typeof(document)
        when 'string' then to_jsonb(lifecycle.redacted(document #>> '{}'))
        when 'array' then (select coalesce(jsonb_agg(lifecycle.redacted_document(e.element) order by e.place), '[]')
                             from jsonb_array_elements(document) with ordinality e(element, place))
        when 'object' then (select coalesce(jsonb_object_agg(lifecycle.redacted(e.key), lifecycle.redacted_document(e.value)), '{}')
                              from jsonb_each(document) e)
        else document end;
end $$;

-- An address on the web without what was handed over in it.
create function lifecycle.location_only(url text) returns text
language sql immutable parallel safe
return lifecycle.redacted(regexp_replace(url, '[?#].*$', ''));

-- Of an object only these keys; their values without ids and addresses. Anything else is emptied.
create function lifecycle.allowed_only(document jsonb, allowed text[]) returns jsonb
language sql immutable parallel safe
return case when document is null then null
            when jsonb_typeof(document) <> 'object' then '{}'::jsonb
            else (select case when k.kept::text collate "C" ~ lifecycle.identifier_hint() then lifecycle.redacted_document(k.kept) else k.kept end
                    from (select coalesce(jsonb_object_agg(e.key, e.value), '{}') as kept
                            from jsonb_each(document) e where e.key = any (allowed)) k) end;

-- Session names of at least this length that are words of letters and digits, and what their first letter may belong to.
create function lifecycle.session_pattern(shortest int) returns text
language sql immutable parallel safe
return case when shortest is not null then
    format('(\\u[0-9A-Fa-f]{4}|\\[bfnrt]|%%[0-9A-Fa-f]{2})?([A-Za-z0-9][A-Za-z0-9_-]{%s,}[A-Za-z0-9])', shortest - 2) end;

-- The ids, addresses and session names in a text: each as it stands there, and as it is known. Letters that may belong
-- to an escape are tried both ways.
create function lifecycle.words_in(content text, session_pattern text) returns table (found text, word text)
language sql immutable parallel safe
begin atomic
    select m[1], lower(m[1]) from regexp_matches(content collate "C", '(' || lifecycle.id_pattern() || ')', 'g') m
     union all
    select v.found, replace(replace(lower(v.found), '%40', '@'), '%2b', '+')
      from regexp_matches(content collate "C", lifecycle.address_pattern(), 'g') m
     cross join lateral (select m[2] as found union all select substr(m[1], 2) || m[2] where m[1] is not null) v
     union all
    select v.found, lower(v.found)
      from regexp_matches(content collate "C", session_pattern, 'g') m
     cross join lateral (select m[2] as found union all select substr(m[1], 2) || m[2] where m[1] is not null) v;
end;

create function lifecycle.escaped_pattern(word text) returns text
language sql immutable parallel safe
return regexp_replace(word, '([^[:alnum:]_])', '\\\1', 'g');

-- Exactly these words give way, in whatever case; a longer word that ends or begins like one of them stays.
create function lifecycle.without_words(content text, words text[], odd_words text[], session_pattern text) returns text
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
            else regexp_replace(content collate "C",
                '(^|[^A-Za-z0-9_.+%-]|\\u[0-9A-Fa-f]{4}|\\[bfnrt]|%[0-9A-Fa-f]{2})' || lifecycle.escaped_pattern(hit)
                || '(?![A-Za-z0-9_]|[.-]+[A-Za-z0-9_])', '\1erased', 'g') end;
    end loop;
    foreach hit in array odd_words loop
        content := regexp_replace(content, lifecycle.escaped_pattern(hit), 'erased', 'gi');
    end loop;
    return content;
end $$;

create function lifecycle.document_without_words(document jsonb, words text[], odd_words text[], session_pattern text) returns jsonb
language plpgsql immutable set search_path = ''
as $$
begin
    return case jsonb_typeof(document)
        when 'string' then to_jsonb(lifecycle.without_words(document #>> '{}', words, odd_words, session_pattern))
        when 'array' then (select coalesce(jsonb_agg(lifecycle.document_without_words(e.element, words, odd_words, session_pattern)
                                                     order by e.place), '[]')
                             from jsonb_array_elements(document) with ordinality e(element, place))
        when 'object' then (select coalesce(jsonb_object_agg(lifecycle.without_words(e.key, words, odd_words, session_pattern),
                                                             lifecycle.document_without_words(e.value, words, odd_words, session_pattern)), '{}')
                              from jsonb_each(document) e)
        else document end;
end $$;

-- What may be told of an error: PostgreSQL's own words without the values that they quote, and ours. What somebody
-- else's function raises may be a row's values, so only the place is told.
create function lifecycle.told_error(code text, message text, context text, relation text, constraint_name text) returns text
language sql stable
return case when code = '55P03'
            -- PostgreSQL does not say what it waited for, but who holds what at this moment.
            then format('a lock on %s stayed taken; end that transaction, or wait: it is tried again',
                        coalesce((select string_agg(distinct format('%s (pid %s)', l.relation::regclass, l.pid), ', ')
                                    from pg_locks l join lifecycle.erasure_steps s on to_regclass(s.table_name) = l.relation
                                   where l.granted and l.pid <> pg_backend_pid()
                                     and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')),
                                 'rows of another transaction'))
            when context !~ '^PL/pgSQL function lifecycle\.' and (context ~ '^[^\n]* at RAISE' or code like 'P%')
            then format('%s raised an error (SQLSTATE %s)',
                        coalesce(substring(context from '^(PL/pgSQL function [^ (]+)'), 'a function of the application'), code)
            else lifecycle.redacted(lifecycle.first_line(message)) end
       || case when relation <> '' then ', table ' || relation else '' end
       || case when constraint_name <> '' then ', constraint ' || constraint_name else '' end;

-- The assignment of one column: `t.column` becomes what the map says.
create function lifecycle.replacement(relation regclass, column_name text, rule jsonb) returns text
language plpgsql stable set search_path = ''
as $$
declare
    type text := (select format_type(a.atttypid, a.atttypmod) from pg_attribute a
                   where a.attrelid = relation and a.attname = column_name and not a.attisdropped);
begin
    if type is null then
        raise exception 'column % of % is on the map of personal data and does not exist', column_name, relation
            using errcode = 'undefined_column', hint = 'Correct lifecycle/erasures/data_map.py and run lifecycle migrate.';
    end if;
    return case rule ->> 'with'
        when 'null' then 'null'
        when 'value' then format('%L::%s', rule ->> 'value', type)
        when 'redacted' then format(case when type in ('json', 'jsonb') then 'lifecycle.redacted_document(t.%I::jsonb)::%s'
                                         else 'lifecycle.redacted(t.%I::text)::%s' end, column_name, type)
        when 'location' then format('lifecycle.location_only(t.%I)', column_name)
        when 'allowed' then format('lifecycle.allowed_only(t.%I, %L::text[])', column_name,
                                   array(select jsonb_array_elements_text(rule -> 'keys')))
    end;
end $$;

-- A step as a statement over one table or partition: $1 are keys, $2 jobs. It counts per job what it did, or, when
-- `counting`, returns what there is to do. A row that is as it should be is left alone.
create function lifecycle.erasure_statement(step lifecycle.erasure_steps, relation regclass, counting boolean) returns text
language plpgsql stable set search_path = ''
as $$
declare
    key_type text := (select format_type(a.atttypid, null) from pg_attribute a
                       where a.attrelid = relation and a.attname = step.key_column and not a.attisdropped);
    keys     text := format('unnest($1::text[]::%s[]) k(key)', key_type);
    chosen   text := format('t.%I = k.key', step.key_column) || case when step.unowned_column is null then '' else format(' and t.%I is null', step.unowned_column) end;
    changes  text;
    held     text;
    wanted   text;
begin
    if key_type is null then
        raise exception 'column % of % is on the map of personal data and does not exist', step.key_column, relation
            using errcode = 'undefined_column', hint = 'Correct lifecycle/erasures/data_map.py and run lifecycle migrate.';
    end if;
    if step.action = 'scrub' then
        select string_agg(format('%I = %s', r.key, w.new), ', '), string_agg(format('t.%I', r.key), ', '),
               string_agg(format('(%s)', w.new), ', ')
          into changes, held, wanted
          from jsonb_each(step.replacements) r
         cross join lateral (select lifecycle.replacement(relation, r.key, r.value) as new) w;
        if not step.replacements ? step.key_column then
            chosen := format('%s and row(%s) is distinct from row(%s)', chosen, held, wanted);
        end if;
    end if;
    if counting then
        return format('select j.job_id, count(*) from %s t, %s, lifecycle.erasure_keys j
                        where %s and j.kind = %L and j.key = k.key::text and j.job_id = any ($2) group by 1',
                      relation, keys, chosen, step.key_kind);
    end if;
    return format('with done as (%s returning k.key::text as key), counted as (select d.key, count(*) as rows from done d group by 1)
                   insert into lifecycle.erasure_counts as c (job_id, table_name, action, rows)
                   select j.job_id, %L, %L, sum(d.rows) from counted d
                     join lifecycle.erasure_keys j on j.kind = %L and j.key = d.key and j.job_id = any ($2)
                    group by 1
                   on conflict (job_id, table_name, action) do update set rows = c.rows + excluded.rows',
                  case step.action
                      when 'delete' then format('delete from %s t using %s where %s', relation, keys, chosen)
                      else format('update %s t set %s from %s where %s', relation, changes, keys, chosen) end,
                  step.table_name, step.action, step.key_kind);
end $$;

-- The tables that hold rows of these keys: of a partitioned one only the partitions that do, or the whole of it once
-- those are so many that one statement is cheaper.
create function lifecycle.relations_of_step(step lifecycle.erasure_steps, keys text[]) returns regclass[]
language plpgsql stable set search_path = ''
as $$
declare
    parent constant regclass := to_regclass(step.table_name);
    found  regclass[];
begin
    if parent is null or keys is null then
        return '{}';
    elsif (select c.relkind from pg_class c where c.oid = parent) <> 'p' or cardinality(keys) > 20 then
        return array[parent];
    end if;
    execute format('select array_agg(distinct t.tableoid::regclass) from %s t where t.%I = any ($1::text[]::%s[])%s', parent,
                   step.key_column,
                   (select format_type(a.atttypid, null) from pg_attribute a where a.attrelid = parent and a.attname = step.key_column),
                   case when step.unowned_column is null then '' else format(' and t.%I is null', step.unowned_column) end)
       into found using keys;
    return coalesce(found, '{}');
end $$;

create function lifecycle.keys_of(jobs bigint[], kind text) returns text[]
language sql stable
return (select array_agg(distinct k.key) from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = keys_of.kind);

-- All steps for these jobs, in this transaction. Repeating it changes nothing.
create function lifecycle.erase_jobs(jobs bigint[]) returns void
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
as $$
declare
    step     lifecycle.erasure_steps;
    keys     text[];
    relation regclass;
begin
    for step in select s.* from lifecycle.erasure_steps s order by s.step loop
        keys := lifecycle.keys_of(jobs, step.key_kind);
        foreach relation in array lifecycle.relations_of_step(step, keys) loop
            execute lifecycle.erasure_statement(step, relation, false) using keys, jobs;
        end loop;
    end loop;
end $$;

-- Rows of these jobs that are still to be erased: as many per step as erase_jobs() would change.
create function lifecycle.rows_to_erase(jobs bigint[])
returns table (job_id bigint, step int, rows bigint)
language plpgsql stable set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    todo     lifecycle.erasure_steps;
    keys     text[];
    relation regclass;
begin
    for todo in select s.* from lifecycle.erasure_steps s order by s.step loop
        keys := lifecycle.keys_of(jobs, todo.key_kind);
        foreach relation in array lifecycle.relations_of_step(todo, keys) loop
            return query execute format('select d.job_id, %s, d.count from (%s) d', todo.step,
                                        lifecycle.erasure_statement(todo, relation, true)) using keys, jobs;
        end loop;
    end loop;
end $$;

-- The next jobs of a batch, in this transaction: all together, and one by one when that fails, so that one which
-- cannot be erased keeps nobody else waiting.
create function lifecycle.erase_chunk(batch uuid, chunk_size int default null)
returns table (erased int, failed int, remaining int)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    policy lifecycle.erasure_policy;
    jobs   bigint[];
    job    bigint;
    code   text;
    error  text;
    context text;
    relation text;
    violated text;
begin
    select * into policy from lifecycle.erasure_policy;
    perform lifecycle.renew_erasure_lease(batch);
    jobs := array(select j.id from lifecycle.deletion_jobs j
                   where j.batch_id = batch and j.state = 'running' and j.collected_at is not null
                   order by j.id limit coalesce(chunk_size, policy.chunk_size) for update);
    erased := 0; failed := 0;
    begin
        perform lifecycle.erase_jobs(jobs);
        erased := cardinality(jobs);
    exception when others then
        foreach job in array jobs loop
            begin
                perform lifecycle.erase_jobs(array[job]);
                erased := erased + 1;
            exception when others then
                get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context,
                    relation = table_name, violated = constraint_name;
                perform lifecycle.fail_deletion_jobs(array[job], lifecycle.told_error(code, error, context, relation, violated),
                                                     lifecycle.is_transient(code));
                failed := failed + 1;
            end;
        end loop;
    end;
    update lifecycle.deletion_jobs j set state = 'erased', erased_at = now()
     where j.id = any (jobs) and j.state = 'running';
    remaining := (select count(*) from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'running');
    return next;
end $$;

-- Closed to everyone: the owner alone calls these functions.
select lifecycle.close_to_readers(
    array['lifecycle.erasure_keys', 'lifecycle.erasure_counts']::regclass[],
    array['lifecycle.address_pattern', 'lifecycle.allowed_only', 'lifecycle.collect_erasure_keys',
          'lifecycle.collect_keys', 'lifecycle.document_without_words', 'lifecycle.erase_chunk',
          'lifecycle.erase_jobs', 'lifecycle.erasure_statement', 'lifecycle.escaped_pattern',
          'lifecycle.id_pattern', 'lifecycle.identifier_hint', 'lifecycle.keys_of',
          'lifecycle.location_only', 'lifecycle.redacted', 'lifecycle.redacted_document',
          'lifecycle.relations_of_step', 'lifecycle.replacement', 'lifecycle.rows_to_erase',
          'lifecycle.session_pattern', 'lifecycle.told_error', 'lifecycle.without_words',
          'lifecycle.words_in']);
