-- The queue of deletion requests. A batch goes through: claim, collect keys, erase, sign-in users, refresh, search,
-- conclude; each is a transaction or more of its own, and whatever is killed is claimed again once its lease has run out.

-- The name of a relation without its schema and quotes: by it the catalog has an index.
create or replace function lifecycle.unqualified(table_name text) returns name
language sql immutable set search_path = ''
as $$
    select case when n.quoted like '"%' then replace(substr(n.quoted, 2, length(n.quoted) - 2), '""', '"') else n.quoted end::name
      from (select substring(table_name from '("(?:[^"]|"")+"|[^".]+)$') as quoted) n
$$;

-- A relation by its qualified name, if this role may read it; null otherwise. Never by search_path.
create or replace function lifecycle.reachable(table_name text) returns regclass
language sql stable set search_path = ''
as $$
    select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relname = lifecycle.unqualified(table_name) and format('%I.%I', n.nspname, c.relname) = table_name
       and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
$$;

-- Whether one is there at all. What was dropped holds nothing; the check of the map names it.
create or replace function lifecycle.is_there(table_name text) returns boolean
language sql stable set search_path = ''
as $$
    select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where c.relname = lifecycle.unqualified(table_name) and format('%I.%I', n.nspname, c.relname) = table_name)
$$;

-- The type of a column without its length; null where there is no such column.
create or replace function lifecycle.type_of_column(relation regclass, column_name text) returns text
language sql stable set search_path = ''
as $$
    select format_type(a.atttypid, null) from pg_attribute a
     where a.attrelid = relation and a.attname = column_name and a.attnum > 0 and not a.attisdropped
$$;

-- A statement over the application's requests (1: table, 2: id, 3: person, 4: status, 5: requested at, 6: its id's type),
-- persons (7: table, 8: key, 9: its type) and the words of a status (10: pending, 11: processing, 12: completed,
-- 13: failed), written with format's numbered places. A word is a literal that takes the type of its column.
create or replace function lifecycle.request_statement(template text) returns text
language plpgsql stable set search_path = ''
as $$
declare
    policy   lifecycle.erasure_policy;
    requests regclass;
    people   regclass;
begin
    select p.* into policy from lifecycle.erasure_policy p;
    if not found then
        raise exception 'lifecycle.erasure_policy is empty' using hint = 'Declare personal_data.yaml, then run lifecycle migrate.';
    end if;
    requests := lifecycle.reachable(policy.request_table);
    people := lifecycle.reachable(policy.person_table);
    if requests is null or people is null then
        raise exception 'table % is declared in personal_data.yaml and cannot be read here',
            case when requests is null then policy.request_table else policy.person_table end
            using errcode = 'undefined_table', hint = 'Correct the declaration and run lifecycle migrate.';
    end if;
    return format(template, policy.request_table, policy.request_id, policy.request_person, policy.request_status,
                  policy.requested_at, lifecycle.type_of_column(requests, policy.request_id), policy.person_table,
                  policy.person_column, lifecycle.type_of_column(people, policy.person_column), policy.word_pending,
                  policy.word_processing, policy.word_completed, policy.word_failed);
end $$;

-- Of these people those who stay: nobody erases them, or has. Held, cancelled and not yet due ones stay: what may still
-- be theirs is not touched.
create or replace function lifecycle.staying(people text[]) returns setof text
language plpgsql stable set search_path = ''
as $$
declare
    policy lifecycle.erasure_policy;
    gone   text := '';
begin
    select p.* into policy from lifecycle.erasure_policy p;
    if policy.erased_column is not null then
        gone := lifecycle.request_statement('and not exists (select from %7$s a where a.%8$I = u.person::%9$s and a.')
            || format('%I = %L)', policy.erased_column, policy.erased_value);
    end if;
    return query execute
        'select u.person from (select distinct p.person from unnest($1) p(person) where p.person is not null) u
          where not exists (select from lifecycle.deletion_jobs d
                             where d.account_key = u.person
                               and (d.state in (''running'', ''erased'', ''verified'', ''failed'')
                                    or d.state = ''queued'' and d.not_before <= now()))' || gone
      using people;
end $$;

-- Why people must not be erased yet, by the application's own rule; nobody when it has none.
create or replace function lifecycle.held_people(people text[]) returns table (person text, reason text)
language plpgsql stable set search_path = ''
as $$
declare
    rule constant text := (select p.hold_function from lifecycle.erasure_policy p);
begin
    if rule is not null then
        return query execute format('select h.person, min(h.reason) from %s($1) h group by 1', rule) using people;
    end if;
end $$;

-- Jobs for the accounts that ask and have no open one; a request set back to pending is tried again. One row per job that
-- changed. Everything is counted from now: the time in a request is what a client says.
create or replace function public.enqueue_deletion_jobs()
returns table (request_id text, job_id bigint, state text, reason text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    started constant timestamptz := clock_timestamp();
    policy  lifecycle.erasure_policy;
    changed bigint[];
    part    bigint[];
begin
    select * into policy from lifecycle.erasure_policy;
    -- Somebody asks anew. First, so that another request of the same account finds this job open.
    execute lifecycle.request_statement(
        'with again as (
             update lifecycle.deletion_jobs j
                set state = ''queued'', next_attempt_at = now(), attempts = 0, last_error = null
              where j.id in (
                  select max(d.id) from %1$s r join lifecycle.deletion_jobs d on d.request_id = r.%2$I::text
                   where r.%4$I = %10$L and d.state in (''failed'', ''cancelled'', ''verified'')
                     -- That it stands there may be because it takes no other word.
                     and not exists (select from lifecycle.open_problems p
                                      where p.job = ''erase_personal_data'' and p.cause = ''status of request '' || d.request_id)
                     and not exists (select from lifecycle.deletion_jobs o
                                      where o.account_key = d.account_key and o.id <> d.id and o.state not in (''verified'', ''cancelled''))
                   group by d.account_key)
             returning j.id
         )
         select array(select id from again)') into changed;
    -- A month is one of the people who count it, whatever the session's time zone.
    execute lifecycle.request_statement(
        'with made as (
             insert into lifecycle.deletion_jobs (request_id, account_key, requested_at, not_before, due_at)
             select distinct on (r.%3$I) r.%2$I::text, r.%3$I::text, r.%5$I, now() + $1, (now() at time zone $2 + $3) at time zone $2
               from %1$s r
              where r.%4$I in (%10$L, %11$L) and r.%3$I is not null
                and not exists (select from lifecycle.deletion_jobs j where j.request_id = r.%2$I::text)
                and not exists (select from lifecycle.deletion_jobs j
                                 where j.account_key = r.%3$I::text and j.state not in (''verified'', ''cancelled''))
              order by r.%3$I, r.%5$I, r.%2$I
             on conflict do nothing
             returning id
         )
         select array(select id from made)')
       into part using policy.grace, policy.calendar, policy.deadline;
    changed := changed || part;
    with released as (
        update lifecycle.deletion_jobs j
           set state = 'queued', hold_reason = null, hold_until = null, held_by_rule = false, next_attempt_at = now()
         where j.state = 'held'
           and (j.hold_until <= now()
                or j.held_by_rule and j.account_key not in (
                       select h.person from lifecycle.held_people(array(
                           select r.account_key from lifecycle.deletion_jobs r where r.state = 'held' and r.held_by_rule)) h))
        returning j.id
    )
    select array_agg(r.id) into part from released r;
    changed := changed || part;
    with held as (
        update lifecycle.deletion_jobs j
           set state = 'held', hold_reason = h.reason, hold_until = null, held_by_rule = true
          from lifecycle.held_people(array(
                   select q.account_key from lifecycle.deletion_jobs q where q.state in ('queued', 'failed'))) h
         where h.person = j.account_key and h.reason is not null and j.state in ('queued', 'failed')
        returning j.id
    )
    select array_agg(h.id) into part from held h;
    changed := array(select distinct c.id from unnest(changed || part) c(id));
    if changed = '{}' then
        return;
    end if;
    perform lifecycle.write_ledger('enqueue_deletion_jobs', true,
        jsonb_build_object('rows', cardinality(changed), 'duration_ms', lifecycle.milliseconds_since(started)));
    return query select j.request_id, j.id, j.state, j.hold_reason from lifecycle.deletion_jobs j
                  where j.id = any (changed) order by j.due_at, j.id;
end $$;

-- Requests of accounts for which nobody has made a job yet.
create or replace function lifecycle.requests_without_job() returns bigint
language plpgsql stable set search_path = ''
as $$
declare
    found bigint;
begin
    execute lifecycle.request_statement(
        'select count(*) from %1$s r
          where r.%4$I = %10$L and not exists (select from lifecycle.deletion_jobs j where j.request_id = r.%2$I::text)
            and not exists (select from lifecycle.deletion_jobs j
                             where j.account_key = r.%3$I::text and j.state not in (''verified'', ''cancelled''))')
       into found;
    return found;
end $$;

-- What these requests say of themselves, in the application's own words; columns that it lacks are left out. Raises what a
-- trigger or a check of the application's raises.
create or replace function lifecycle.set_request_status(requests text[], word text, note text default null) returns void
language plpgsql set search_path = ''
as $$
declare
    policy  lifecycle.erasure_policy;
    status  text;
    changes text;
begin
    select p.* into policy from lifecycle.erasure_policy p;
    status := case word when 'processing' then policy.word_processing
                        when 'completed' then policy.word_completed else policy.word_failed end;
    select string_agg(format('%1$I = ' || c.held, c.name, note, status), ', ') into changes
      from (values (policy.request_status, '%3$L', true),
                   (policy.processed_at, 'coalesce(r.%1$I, now())', word = 'processing'),
                   (policy.processed_by, quote_literal('lifecycle'), word = 'processing'),
                   (policy.completed_at, 'now()', word = 'completed'),
                   (policy.request_notes, 'concat_ws(E''\n'', r.%1$I, %2$L)', note is not null)) c(name, held, wanted)
     where c.wanted and c.name is not null;
    execute lifecycle.request_statement('update %1$s r set ') || changes
         || lifecycle.request_statement(' where r.%2$I = any ($1::%6$s[])') using requests;
    -- Whoever asked more than once was answered with it.
    if word = 'completed' or note is not null then
        execute lifecycle.request_statement('update %1$s r set ') || changes || lifecycle.request_statement(
                ' where r.%4$I in (%10$L, %11$L)
                    and r.%3$I::text in (select j.account_key from lifecycle.deletion_jobs j where j.request_id = any ($1))') using requests;
    end if;
    perform lifecycle.report_outcome(p.job, p.cause, null) from lifecycle.open_problems p
      where p.job = 'erase_personal_data' and p.cause in (select 'status of request ' || r from unnest(requests) r);
end $$;

-- The same where nothing depends on it: one that does not take its word keeps what it said, which is told, and nobody else
-- waits for it. Whose row somebody has locked is told at the next occasion.
create or replace function lifecycle.tell_requests(requests text[], word text) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    request text;
    code    text;
    error   text;
    context text;
begin
    perform set_config('lock_timeout', (select p.lock_timeout_ms::text from lifecycle.erasure_policy p), true);
    perform lifecycle.set_request_status(requests, word);
exception when others then
    if lifecycle.is_transient(sqlstate) then
        return;
    end if;
    foreach request in array requests loop
        begin
            perform lifecycle.set_request_status(array[request], word);
        exception when others then
            get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context;
            perform lifecycle.report_outcome('erase_personal_data', 'status of request ' || request,
                format('it does not take the status %L: %s; its erasure goes on', word, lifecycle.told_error(code, error, context, '', '')));
        end;
    end loop;
end $$;

-- The request under which this one is carried out: its own, or another of the same account. Null when there is none.
create or replace function lifecycle.carried_out_under(request_id text) returns text
language plpgsql stable set search_path = ''
as $$
declare
    found text;
begin
    execute lifecycle.request_statement(
        'select j.request_id from lifecycle.deletion_jobs j
          where j.request_id = $1 or j.account_key in (select r.%3$I::text from %1$s r where r.%2$I::text = $1)
          order by j.request_id = $1 desc, j.state in (''verified'', ''cancelled''), j.id desc limit 1')
       into found using request_id;
    return found;
end $$;

-- The job of a request, locked; an error that says what to do when there is none.
create or replace function lifecycle.job_of_request(request_id text) returns lifecycle.deletion_jobs
language plpgsql set search_path = ''
as $$
declare
    job lifecycle.deletion_jobs;
begin
    perform from public.enqueue_deletion_jobs();
    select * into job from lifecycle.deletion_jobs j
     where j.request_id = (select lifecycle.carried_out_under(job_of_request.request_id)) for update;
    if not found then
        raise exception 'no deletion request % in %', request_id, lifecycle.request_statement('%1$s')
            using errcode = 'no_data_found', hint = 'Name the id of the request, not of the person.';
    end if;
    return job;
end $$;

-- Kept from being erased, for a reason, until a moment or (null) until somebody releases it.
create or replace function public.hold_deletion_request(request_id text, reason text, until timestamptz default null) returns text
language plpgsql set search_path = ''
as $$
declare
    job lifecycle.deletion_jobs := lifecycle.job_of_request(request_id);
begin
    if coalesce(btrim(reason), '') = '' then
        raise exception 'a hold needs a reason' using errcode = 'invalid_parameter_value';
    elsif until <= now() then
        raise exception 'the hold would end before it began: %', until using errcode = 'invalid_parameter_value';
    elsif job.state not in ('queued', 'held', 'failed') or job.erased_at is not null then
        raise exception 'request % is % and can no longer be held', request_id, job.state
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update lifecycle.deletion_jobs j
       set state = 'held', hold_reason = case when job.held_by_reach then concat_ws('; ', reason, job.hold_reason) else reason end,
           hold_until = case when not job.held_by_reach then until end, held_by_rule = false
     where j.id = job.id;
    return 'held';
end $$;

-- What somebody held is queued again. What a rule holds is released by the rule alone, what reaches far only by somebody who
-- says that they have looked.
create or replace function public.release_deletion_request(request_id text, confirm boolean default false) returns text
language plpgsql set search_path = ''
as $$
declare
    job lifecycle.deletion_jobs := lifecycle.job_of_request(request_id);
begin
    if job.state <> 'held' then
        raise exception 'request % is not held but %', request_id, job.state
            using errcode = 'object_not_in_prerequisite_state';
    elsif job.held_by_rule or job.held_by_reach and not confirm then
        raise exception 'request % is held because: %', request_id, job.hold_reason
            using errcode = 'object_not_in_prerequisite_state',
                  hint = case when job.held_by_rule then 'It is released by itself once that is no longer so.' else 'Confirm it.' end;
    end if;
    update lifecycle.deletion_jobs j
       set state = 'queued', hold_reason = null, hold_until = null, next_attempt_at = now(), held_by_reach = false,
           reach_confirmed = j.reach_confirmed or job.held_by_reach
     where j.id = job.id;
    if job.held_by_reach then
        perform lifecycle.report_outcome('erase_personal_data', 'request ' || job.request_id, null);
    end if;
    return 'queued';
end $$;

-- Before anything was erased. The request's own status has no word for it: it says failed, and the notes say why.
create or replace function public.cancel_deletion_request(request_id text, reason text) returns text
language plpgsql set search_path = ''
as $$
declare
    job lifecycle.deletion_jobs := lifecycle.job_of_request(request_id);
begin
    if coalesce(btrim(reason), '') = '' then
        raise exception 'a cancellation needs a reason' using errcode = 'invalid_parameter_value';
    elsif job.state not in ('queued', 'held', 'failed') or job.erased_at is not null then
        raise exception 'request % is % and can no longer be cancelled', request_id, job.state
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    delete from lifecycle.erasure_keys k where k.job_id = job.id;
    update lifecycle.deletion_jobs j
       set state = 'cancelled', hold_reason = null, hold_until = null, held_by_rule = false, held_by_reach = false,
           collected_at = null
     where j.id = job.id;
    perform lifecycle.set_request_status(array[job.request_id], 'failed', 'cancelled before it started: ' || reason);
    perform lifecycle.report_outcome('erase_personal_data', 'request ' || job.request_id, null);
    return 'cancelled';
end $$;

-- What a worker may claim: it waited long enough, or whoever had it was not heard of for a lease.
create or replace function lifecycle.is_due(job lifecycle.deletion_jobs) returns boolean
language sql stable set search_path = ''
as $$
    select job.state in ('queued', 'failed') and job.not_before <= now() and job.next_attempt_at <= now()
        or job.state in ('running', 'erased') and job.lease_until <= now()
$$;

-- The most urgent jobs become a batch of this caller; null when nothing waits. Commit before going on: others who
-- erase at the same moment must see that these people are leaving.
create or replace function lifecycle.claim_deletion_jobs(batch_size int default null, only_request text default null) returns uuid
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    policy  lifecycle.erasure_policy;
    batch   uuid := gen_random_uuid();
    claimed text[];
begin
    select p.* into policy from lifecycle.erasure_policy p;
    delete from lifecycle.erasure_needles n
     where not exists (select from lifecycle.deletion_jobs j
                        where j.batch_id = n.batch_id and j.state = 'erased' and j.lease_until > now());
    with chosen as (
        select j.id from lifecycle.deletion_jobs j
         where j.state not in ('verified', 'cancelled')
           -- A step that takes longer than the lease holds a lock of its batch meanwhile.
           and case when lifecycle.is_due(j) then
                   j.batch_id is null
                   or pg_try_advisory_xact_lock(hashtextextended('lifecycle.erasure_batch.' || j.batch_id, 0)) end
           and (only_request is null or j.request_id = only_request)
         order by j.due_at, j.id
         limit coalesce(batch_size, policy.batch_size)
           for update skip locked
    ), done as (
        update lifecycle.deletion_jobs j
           set state = case j.state when 'erased' then 'erased' else 'running' end, batch_id = batch,
               lease_until = now() + policy.lease, attempts = j.attempts + 1, started_at = coalesce(j.started_at, now())
          from chosen c where c.id = j.id
        returning j.request_id
    )
    select array_agg(d.request_id) into claimed from done d;
    if claimed is null then
        return null;
    end if;
    perform lifecycle.tell_requests(claimed, 'processing');
    return batch;
end $$;

-- Whoever works on a batch says so at the beginning of each step; jobs that another has claimed meanwhile are lost to
-- it. In such a step nobody's live traffic waits behind us for long.
create or replace function lifecycle.renew_erasure_lease(batch uuid) returns void
language plpgsql set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.erasure_batch.' || batch, 0));
    perform set_config('lock_timeout', (select p.lock_timeout_ms::text from lifecycle.erasure_policy p), true);
    if exists (select from lifecycle.deletion_jobs j where j.batch_id = batch and j.state in ('running', 'erased')) then
        -- Not at each of a hundred steps: a thousand jobs are a thousand rows.
        update lifecycle.deletion_jobs j set lease_until = now() + p.lease
          from lifecycle.erasure_policy p
         where j.batch_id = batch and j.state in ('running', 'erased') and j.lease_until < now() + p.lease / 2;
    else
        raise exception 'batch % is no longer this session''s: its lease ran out, or all of its jobs failed', batch
            using errcode = 'object_not_in_prerequisite_state', hint = 'Nothing is lost; whoever claimed the jobs finishes them.';
    end if;
end $$;

-- These jobs wait longer after each failure. People are told at once; of what passes by itself when it did not.
create or replace function lifecycle.fail_deletion_jobs(jobs bigint[], error text, transient boolean) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    policy  lifecycle.erasure_policy;
    failed  lifecycle.deletion_jobs;
begin
    select p.* into policy from lifecycle.erasure_policy p;
    for failed in
        update lifecycle.deletion_jobs j
           set state = 'failed', batch_id = null, lease_until = null, last_error = error,
               next_attempt_at = now() + least(policy.first_pause * power(2, least(j.attempts, 20) - 1), policy.longest_pause)
         where j.id = any (jobs) and j.state in ('running', 'erased')
        returning j.*
    loop
        perform lifecycle.tell_requests(array[failed.request_id],
            case when failed.attempts >= policy.tries_until_failed then 'failed' else 'processing' end);
        perform lifecycle.record_outcome('erase_personal_data', 'request ' || failed.request_id, error,
            jsonb_build_object('attempts', failed.attempts, 'next_attempt_at', failed.next_attempt_at),
            not transient or failed.attempts > 1);
    end loop;
end $$;

-- What passes by itself: a lock that stayed taken, a deadlock, a connection or a server that went away.
create or replace function lifecycle.is_transient(code text) returns boolean
language sql immutable set search_path = ''
as $$ select code in ('55P03', '40P01', '40001', '57014') or left(code, 2) in ('08', '57') $$;

-- What is left of a batch that failed with this SQLSTATE.
create or replace function lifecycle.fail_erasure_batch(batch uuid, error text, code text) returns void
language sql set search_path = ''
as $$
    select lifecycle.fail_deletion_jobs(array_agg(j.id), error, lifecycle.is_transient(code))
      from lifecycle.deletion_jobs j where j.batch_id = batch and j.state in ('running', 'erased')
$$;
