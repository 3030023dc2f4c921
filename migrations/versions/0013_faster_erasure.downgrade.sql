-- The definitions of revisions 0011 and 0012 come back.

alter function lifecycle.search_relation(uuid, regclass) reset jit;

-- Everything that a person's rows are found by, for these jobs and their accounts. What was collected earlier stays:
-- once the events are scrubbed it cannot be found again. Planned for the keys at hand: with unknown arrays the planner
-- would read whole tables.
create or replace function lifecycle.collect_keys(jobs bigint[], accounts uuid[]) returns void
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

-- An address on the web without what was handed over in it.
create or replace function lifecycle.location_only(url text) returns text
language sql immutable parallel safe
return lifecycle.redacted(regexp_replace(url, '[?#].*$', ''));

-- Of an object only these keys; their values without ids and addresses. Anything else is emptied.
create or replace function lifecycle.allowed_only(document jsonb, allowed text[]) returns jsonb
language sql immutable parallel safe
return case when document is null then null
            when jsonb_typeof(document) <> 'object' then '{}'::jsonb
            else (select case when k.kept::text collate "C" ~ lifecycle.identifier_hint() then lifecycle.redacted_document(k.kept) else k.kept end
                    from (select coalesce(jsonb_object_agg(e.key, e.value), '{}') as kept
                            from jsonb_each(document) e where e.key = any (allowed)) k) end;

-- The rows of a relation that hold a word in one of these columns, as a query of (relation, place, content): $1 are
-- words, $2 those that are ids, $3 addresses of machines, $4 patterns of odd words. All columns of text are looked at as one: a pattern costs more
-- to start than to go on. What could hold a word is chosen below, where parallel workers can; which words those are is
-- asked of the few rows that remain.
create or replace function lifecycle.search_rows(relation regclass, names text[], types text[], needles lifecycle.erasure_needles) returns text
language plpgsql stable set search_path = ''
as $$
declare
    alone    text := '';
    body     text := 'null::text';
    hints    text := 'false';
    pattern  constant text := lifecycle.session_pattern(needles.session_length);
    odd      text := '';
begin
    select coalesce(string_agg(case when c.type = 'uuid' then format('t.%I = any ($2)', c.name)
                                    when c.type = 'uuid[]' then format('t.%I && $2', c.name)
                                    when c.type in ('inet', 'cidr') then format('host(t.%I) = any ($3)', c.name)
                                    else format('lower(t.%I) = any ($1)', c.name) end, ' or '), 'false')
      into alone
      from unnest(names, types) c(name, type)
     where c.type in ('uuid', 'uuid[]', 'inet', 'cidr') or c.name = 'session_id' and c.type = 'text';
    select coalesce('(concat_ws(E''\n'', ' || string_agg(lifecycle.searched_expression(c.name, c.type), ', ') || ') collate "C")', body)
      into body
      from unnest(names, types) c(name, type)
     where cardinality(names) = 1
        or c.type not in ('uuid', 'uuid[]', 'inet', 'cidr') and not (c.name = 'session_id' and c.type = 'text');
    if needles.odd_words <> '{}' then
        odd := format(' or lower(%s collate "default") like any ($4)', body);
    end if;
    -- Two simple patterns cost a fifth of one that is both.
    if exists (select from unnest(types) t where t not in ('uuid', 'uuid[]', 'inet', 'cidr')) then
        hints := format('%s ~ %L', body, lifecycle.identifier_hint())
            || case when needles.session_length is null then ''
                    else format(' or %s ~ %L', body, format('[A-Za-z0-9_-]{%s}', needles.session_length)) end;
    end if;
    -- Materialized: the planner expects a word in every row, and beside the price of asking for words that of reading
    -- alone would be nothing to it.
    return format('with c as materialized (
                       select t.tableoid as relation, t.ctid as place, %1$s as content, (%2$s%3$s) as hit
                         from %4$s t where %2$s%3$s or %5$s)
                   select c.relation, c.place, c.content from c
                    where c.hit or exists (select from lifecycle.words_in(c.content, %6$L) w where w.word = any ($1))',
                  body, alone, odd, relation, hints, pattern);
end $$;

drop function lifecycle.allowed_part(jsonb, text[]);
