-- Erasing and the search for what is left, in less time. What is erased and what is found stays as it was.
--
-- Before, much of it went into planning: for `column = any (<thousands of values>)` the planner compares each value with
-- the most common ones of the column, in each partition. Joined with unnest(<values>) it only counts them, and inside of
-- coalesce() it does not ask.

-- Keys -------------------------------------------------------------------------------------------------------

-- Everything that a person's rows are found by, for these jobs and their accounts. What was collected earlier stays:
-- once the events are scrubbed it cannot be found again. Planned for the keys at hand: with unknown arrays the planner
-- would read whole tables.
create or replace function lifecycle.collect_keys(jobs bigint[], accounts uuid[]) returns void
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan' set jit = off
as $$
#variable_conflict use_variable
declare
    users     uuid[];
    sessions  text[];
    emails    text[];
    holders   bigint[];  -- the jobs of the keys beside it
    chats     uuid[];
    forms     uuid[];
    subjects  text[];
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

    -- Visits. The constant of scrubbed events is nobody's.
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'web_session', e.session_id
      from unnest(jobs, accounts) j(job, account) join public.user_behavior_events e on e.account_id = j.account
     where e.session_id <> 'erased'
     union
    select j.job, 'web_session', b.session_id
      from unnest(jobs, accounts) j(job, account) join public.business_metrics_events b on b.account_id = j.account
     where b.session_id <> 'erased'
     union
    select j.job, 'web_session', q.session_id
      from unnest(jobs, accounts) j(job, account) join public.search_queries q on q.account_id = j.account
     where q.session_id <> 'erased'
    on conflict do nothing;
    sessions := array(select distinct k.key from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'web_session');
    -- A name under which many people come is nobody's visit: a browser without storage, say. What is anonymous in it
    -- is not the person's. Of the others only those in which nobody else was seen who stays are the person's own; two
    -- people who leave together do not keep each other's alive.
    with behaved as materialized (
        select e.session_id, e.account_id from unnest(sessions) s(name) join public.user_behavior_events e on e.session_id = s.name
         where e.account_id is not null group by 1, 2
    ), crowded as materialized (
        select v.session_id from behaved v group by 1 having count(*) > 20
    ), seen as materialized (
        select v.session_id, v.account_id from behaved v
         union
        select b.session_id, b.account_id from unnest(sessions) s(name) join public.business_metrics_events b on b.session_id = s.name
         where b.account_id is not null
         union
        select q.session_id, q.account_id from unnest(sessions) s(name) join public.search_queries q on q.session_id = s.name
         where q.account_id is not null
    ), others as materialized (
        select v.session_id from seen v where v.account_id <> all (accounts) and not lifecycle.is_leaving(v.account_id)
         union select c.session_id from crowded c
    ), nobodys as (
        delete from lifecycle.erasure_keys k
         where k.job_id = any (jobs) and k.kind = 'web_session' and k.key in (select c.session_id from crowded c)
    )
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job_id, 'own_web_session', k.key from lifecycle.erasure_keys k
     where k.job_id = any (jobs) and k.kind = 'web_session' and k.key not in (select o.session_id from others o)
    on conflict do nothing;

    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'chat_session', s.id::text
      from unnest(jobs, accounts) j(job, account) join public.chat_sessions s on s.account_id = j.account
     union all
    select j.job, 'quiz_session', s.id::text
      from unnest(jobs, accounts) j(job, account) join public.quiz_sessions s on s.account_id = j.account
     union all
    select j.job, 'recommendation_run', r.id::text
      from unnest(jobs, accounts) j(job, account) join public.recommendation_runs r on r.account_id = j.account
    on conflict do nothing;
    select array_agg(k.job_id), array_agg(k.key::uuid) into holders, chats
      from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'chat_session';
    -- What somebody else saved stays with them; the end of its chat session detaches it.
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job, 'generated_activity', g.id::text
      from unnest(holders, chats) k(job, chat) join public.generated_activities g on g.chat_session_id = k.chat
     where not exists (select from public.generated_activity_saves s
                        where s.generated_activity_id = g.id and s.account_id <> all (accounts)
                          and not lifecycle.is_leaving(s.account_id))
    on conflict do nothing;

    -- Addresses, in one spelling. One that a person who stays uses, too, ties no row to this one.
    if has_users then
        select array_agg(k.job_id), array_agg(k.key::uuid) into holders, users
          from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'sign_in_user';
        execute 'insert into lifecycle.erasure_keys (job_id, kind, key)
                 select distinct k.job, ''email'', lower(btrim(u.email))
                   from unnest($1, $2) k(job, id) join auth.users u on u.id = k.id
                  where u.email like ''%@%''
                 on conflict do nothing' using holders, users;
    end if;
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select distinct j.job, 'email', lower(btrim(f.email))
      from unnest(jobs, accounts) j(job, account) join public.form_submissions f on f.account_id = j.account
     where f.email like '%@%'
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
                    and k.key in (select lower(btrim(u.email))
                                    from unnest($2) m(address) join auth.users u on u.email = m.address
                                    join public.account_linkages l on l.supabase_user_id = u.id
                                   where l.account_id <> all ($3) and not lifecycle.is_leaving(l.account_id))'
          using jobs, emails, accounts;
    end if;
    select array_agg(k.job_id), array_agg(k.key) into holders, emails
      from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'email';

    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'form_submission', f.id::text
      from unnest(jobs, accounts) j(job, account) join public.form_submissions f on f.account_id = j.account
     union
    select k.job, 'form_submission', f.id::text
      from unnest(holders, emails) k(job, address) join public.form_submissions f on lower(btrim(f.email)) = k.address
     where f.account_id is null
    on conflict do nothing;
    select array_agg(k.job_id), array_agg(k.key::uuid) into holders, forms
      from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = 'form_submission';
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job, 'voucher', v.id::text
      from unnest(holders, forms) k(job, form) join public.vouchers v on v.form_submission_id = k.form
    on conflict do nothing;

    -- Of addresses of machines only those that nobody else's consent came from.
    with place as (
        select c.ip_address, min(c.account_id::text)::uuid as account from public.consent_history c
         where c.ip_address in (select o.ip_address from unnest(accounts) a(id) join public.consent_history o on o.account_id = a.id)
         group by c.ip_address having count(distinct c.account_id) = 1
    )
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'ip', host(p.ip_address) from place p join unnest(jobs, accounts) j(job, account) on j.account = p.account
    on conflict do nothing;

    -- One look through the ledger for the whole batch: neither column has an index of its own.
    select array_agg(k.job_id), array_agg(lower(k.key)) into holders, subjects
      from lifecycle.erasure_keys k
     where k.job_id = any (jobs)
       and k.kind in ('account', 'sign_in_user', 'email', 'chat_session', 'quiz_session',
                      'recommendation_run', 'generated_activity', 'own_web_session');
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job, 'audit_subject', e.id::text
      from unnest(holders, subjects) k(job, subject) join public.audit_events e on lower(e.entity_id) = k.subject
    on conflict do nothing;
    select array_agg(k.job_id), array_agg(k.key::uuid) into holders, users
      from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind in ('account', 'sign_in_user');
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select k.job, 'audit_performer', e.id::text
      from unnest(holders, users) k(job, id) join public.audit_events e on e.performed_by = k.id
    on conflict do nothing;
end $$;

-- What is done to a row --------------------------------------------------------------------------------------

-- An address on the web without what was handed over in it.
create or replace function lifecycle.location_only(url text) returns text
language sql immutable parallel safe
return lifecycle.redacted(split_part(split_part(url collate "C", '?', 1), '#', 1));

-- Of an object only these keys; their values without ids and addresses. Anything else is emptied. An object that holds
-- nothing else is common, and a query costs ten times the rest.
create function lifecycle.allowed_part(document jsonb, allowed text[]) returns jsonb
language sql immutable parallel safe
return (select lifecycle.redacted_document(coalesce(jsonb_object_agg(e.key, e.value), '{}'))
          from jsonb_each(document) e where e.key = any (allowed));

create or replace function lifecycle.allowed_only(document jsonb, allowed text[]) returns jsonb
language sql immutable parallel safe
return case when document is null then null
            when jsonb_typeof(document) <> 'object' then '{}'::jsonb
            when document - allowed = '{}'::jsonb and document::text collate "C" !~ lifecycle.identifier_hint() then document
            else lifecycle.allowed_part(document, allowed) end;

-- Search -----------------------------------------------------------------------------------------------------

-- The rows of a relation that hold a word in one of these columns, as a query of (relation, place, content): $1 are
-- words, $2 those that are ids, $3 addresses of machines, $4 patterns of odd words. All columns of text are looked at as
-- one, made once per row: a pattern costs more to start than to go on. What could hold a word is chosen below, where
-- parallel workers can; which words those are is asked of the few rows that remain.
create or replace function lifecycle.search_rows(relation regclass, names text[], types text[], needles lifecycle.erasure_needles) returns text
language plpgsql stable set search_path = ''
as $$
declare
    columns  text;
    alone    text;
    body     text;
    hints    text := 'false';
    odd      text := '';
begin
    select string_agg(format(', t.%I as c%s', c.name, c.place), '' order by c.place),
           string_agg(format(case when c.type = 'uuid' then 'r.c%s = any ($2)'
                                  when c.type = 'uuid[]' then 'r.c%s && $2'
                                  when c.type in ('inet', 'cidr') then 'host(r.c%s) = any ($3)'
                                  else 'lower(r.c%s) = any ($1)' end, c.place), ' or ')
      into columns, alone
      from unnest(names, types) with ordinality c(name, type, place)
     where c.type in ('uuid', 'uuid[]', 'inet', 'cidr') or c.name = 'session_id' and c.type = 'text';
    select '(concat_ws(E''\n'', ' || string_agg(lifecycle.searched_expression(c.name, c.type), ', ') || ') collate "C")'
      into body
      from unnest(names, types) c(name, type)
     where cardinality(names) = 1
        or c.type not in ('uuid', 'uuid[]', 'inet', 'cidr') and not (c.name = 'session_id' and c.type = 'text');
    if needles.odd_words <> '{}' then
        odd := ' or lower(r.content collate "default") like any ($4)';
    end if;
    -- What every id and every address has is found by simple means at a fifth of the price of a pattern.
    if exists (select from unnest(types) t where t not in ('uuid', 'uuid[]', 'inet', 'cidr')) then
        hints := 'strpos(r.content, ''@'') > 0 or strpos(r.content, ''%40'') > 0 or r.content like ''%-____-____-____-____________%'''
            || case when needles.session_length is null then ''
                    else format(' or r.content ~ %L', format('[A-Za-z0-9_-]{%s}', needles.session_length)) end;
    end if;
    -- Materialized: the planner expects a word in every row, and beside the price of asking for words that of reading
    -- alone would be nothing to it. Inside of coalesce() it does not estimate thousands of values one by one, and with
    -- an offset it neither makes the text twice nor a table of the values in each partition. An offset that is an integer
    -- would first have to become a bigint, and keep the workers out.
    return format('with c as materialized (
                       select r.relation, r.place, r.content, (coalesce(%1$s, false)%2$s) as hit
                         from (select t.tableoid as relation, t.ctid as place, %3$s as content%4$s from %5$s t offset bigint ''0'') r
                        where coalesce(%1$s, false)%2$s or %6$s)
                   select c.relation, c.place, c.content from c
                    where c.hit or exists (select from lifecycle.words_in(c.content, %7$L) w where coalesce(w.word = any ($1), false))',
                  coalesce(alone, 'false'), odd, coalesce(body, 'null::text'), columns, relation, hints,
                  lifecycle.session_pattern(needles.session_length));
end $$;
-- The plan looks dear, and compiling it would take longer than the search of a small table.
alter function lifecycle.search_relation(uuid, regclass) set jit = off;

-- Closed to everyone: the owner alone calls these functions.
select lifecycle.close_to_readers('{}', array['lifecycle.allowed_part']);
