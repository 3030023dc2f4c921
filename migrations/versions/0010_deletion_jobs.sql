-- Deletion requests carried out: jobs, the keys of a person, what is done in which table, the search for what is left,
-- receipts. Everything here works from psql and from Supabase's scheduler: call public.process_deletion_jobs().
--
-- A batch goes through: claim -> collect keys -> erase -> sign-in users -> refresh -> scan -> conclude. Each is a
-- transaction or more of its own; whatever is killed is claimed again once its lease has run out.

do $$
declare
    missing text;
begin
    select string_agg('public.' || t, ', ') into missing
      from unnest(array['accounts', 'audit_events', 'chat_sessions', 'data_deletion_requests', 'form_submissions',
                        'search_queries', 'user_behavior_events', 'business_metrics_events', 'vendor_members']) t
     where to_regclass('public.' || t) is null;
    if missing is not null then
        raise exception 'this database lacks tables of the application: %', missing
            using hint = 'A person is found through them. Name the application''s own database, and migrate again.';
    end if;
end $$;

-- Policy -----------------------------------------------------------------------------------------------------

create table lifecycle.erasure_policy (
    singleton        boolean primary key default true check (singleton),
    version          text not null,
    grace            interval not null check (grace >= interval '0'),
    deadline         interval not null,
    lease            interval not null check (lease > interval '0'),
    batch_size       int not null check (batch_size > 0),
    chunk_size       int not null check (chunk_size > 0),
    first_pause      interval not null,
    longest_pause    interval not null,
    tries_until_failed int not null,
    lock_timeout_ms  int not null,
    late_window      interval not null,
    calendar         text not null,
    managed_schemas  text[] not null
);
comment on table lifecycle.erasure_policy is 'One row: copy of lifecycle/policy.py, written by `lifecycle migrate`. Change it there.';

create table lifecycle.erasure_steps (
    step           int primary key,
    table_name     text not null,
    key_column     text not null,
    key_kind       text not null,
    action         text not null check (action in ('delete', 'scrub')),
    unowned_column text,
    replacements   jsonb not null default '{}',
    reason         text not null
);
comment on table lifecycle.erasure_steps is 'What is done to a person''s rows, in this order: copy of lifecycle/erasures/data_map.py, written by `lifecycle migrate`.';
comment on column lifecycle.erasure_steps.unowned_column is 'Only rows in which this column is null: they are nobody else''s.';
comment on column lifecycle.erasure_steps.replacements is 'Column to {"with": "null" | "value" | "redacted" | "location" | "allowed", ...}.';

create table lifecycle.personal_data_columns (
    table_name  text not null,
    column_name text not null,
    treatment   text not null check (treatment in ('deleted', 'cleared', 'redacted', 'refreshed', 'exempt', 'clean')),
    reason      text not null,
    primary key (table_name, column_name)
);
comment on table lifecycle.personal_data_columns is 'Every column that can hold text or an id, and what that means for a person: copy of lifecycle/erasures/data_map.py. Column * stands for all others of the table.';

-- Jobs -------------------------------------------------------------------------------------------------------

create table lifecycle.deletion_jobs (
    id              bigint generated always as identity primary key,
    request_id      uuid not null unique,
    account_id      uuid not null,
    state           text not null default 'queued' check (state in
        ('queued', 'held', 'running', 'erased', 'verified', 'failed', 'cancelled')),
    requested_at    timestamptz not null,
    not_before      timestamptz not null,
    due_at          timestamptz not null,
    hold_reason     text,
    hold_until      timestamptz,
    held_by_rule    boolean not null default false,
    batch_id        uuid,
    lease_until     timestamptz,
    attempts        int not null default 0,
    next_attempt_at timestamptz not null default now(),
    last_error      text,
    recurrences     int not null default 0,
    sign_in_user    text,
    started_at      timestamptz,
    collected_at    timestamptz,
    erased_at       timestamptz,
    verified_at     timestamptz,
    check ((state = 'held') = (hold_reason is not null))
);
create index deletion_jobs_waiting_idx on lifecycle.deletion_jobs (due_at, id) where state not in ('verified', 'cancelled');
create index deletion_jobs_account_id_idx on lifecycle.deletion_jobs (account_id);
create index deletion_jobs_batch_id_idx on lifecycle.deletion_jobs (batch_id);
comment on table lifecycle.deletion_jobs is 'One job per row of public.data_deletion_requests, with the finer states that the request''s own status has no word for.';
comment on column lifecycle.deletion_jobs.held_by_rule is 'Held by this project, not by a person; asked again at each enqueue_deletion_jobs().';
comment on column lifecycle.deletion_jobs.recurrences is 'How often data of the person came back after it was erased, and was erased again.';

-- Queue ------------------------------------------------------------------------------------------------------

-- Who is being erased, or was. Held, cancelled and not yet due ones are alive: what may still be theirs stays.
create function lifecycle.is_leaving(account uuid) returns boolean
language sql stable
return exists (select from lifecycle.deletion_jobs d
                where d.account_id = account
                  and (d.state in ('running', 'erased', 'verified', 'failed')
                       or d.state = 'queued' and d.not_before <= now()))
       or exists (select from public.accounts a where a.id = account and a.status = 'deleted');

-- Why an account must not be erased yet; null when nothing speaks against it.
create function lifecycle.reason_to_hold(account uuid) returns text
language sql stable
return (select 'the only admin of a vendor; make somebody else admin first'
         where exists (select from public.vendor_members m
                        where m.account_id = account and m.role = 'admin' and m.status = 'active'
                          and not exists (select from public.vendor_members o
                                           where o.vendor_id = m.vendor_id and o.role = 'admin' and o.status = 'active'
                                             and o.account_id is not null and o.account_id <> account
                                             and not lifecycle.is_leaving(o.account_id))));

-- Jobs for the requests that have none; a request set back to pending is tried again. One row per job that changed.
create function public.enqueue_deletion_jobs()
returns table (request_id uuid, job_id bigint, state text, reason text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    started constant timestamptz := clock_timestamp();
    policy  lifecycle.erasure_policy;
    changed bigint[];
begin
    select * into policy from lifecycle.erasure_policy;
    if not found then
        raise exception 'lifecycle.erasure_policy is empty' using hint = 'Run lifecycle migrate.';
    end if;
    with made as (
        insert into lifecycle.deletion_jobs (request_id, account_id, requested_at, not_before, due_at)
        select r.id, r.account_id, r.requested_at, r.requested_at + policy.grace,
               -- A month is one of the people who count it, whatever the session's time zone.
               (r.requested_at at time zone policy.calendar + policy.deadline) at time zone policy.calendar
          from public.data_deletion_requests r
         where r.status in ('pending', 'processing')
           and not exists (select from lifecycle.deletion_jobs j where j.request_id = r.id)
         order by r.requested_at, r.id
        on conflict (request_id) do nothing
        returning id
    ), again as (  -- somebody asks anew
        update lifecycle.deletion_jobs j
           set state = 'queued', next_attempt_at = now(), attempts = 0, last_error = null
          from public.data_deletion_requests r
         where r.id = j.request_id and r.status = 'pending' and j.state in ('failed', 'cancelled', 'verified')
        returning j.id
    ), released as (
        update lifecycle.deletion_jobs j
           set state = 'queued', hold_reason = null, hold_until = null, held_by_rule = false, next_attempt_at = now()
         where j.state = 'held'
           and (j.hold_until <= now() or j.held_by_rule and lifecycle.reason_to_hold(j.account_id) is null)
        returning j.id
    )
    select array_agg(c.id) into changed
      from (select id from made union select id from again union select id from released) c;
    with held as (
        update lifecycle.deletion_jobs j
           set state = 'held', hold_reason = h.reason, hold_until = null, held_by_rule = true
          from (select q.id, lifecycle.reason_to_hold(q.account_id) as reason
                  from lifecycle.deletion_jobs q where q.state in ('queued', 'failed')) h
         where h.id = j.id and h.reason is not null and j.state in ('queued', 'failed')
        returning j.id
    )
    select changed || array_agg(h.id) into changed from held h;
    if changed is null then
        return;
    end if;
    insert into public.audit_events (entity_type, entity_id, event_type, payload)
    values ('job', 'enqueue_deletion_jobs', 'job_success',
            jsonb_build_object('rows', cardinality(changed), 'duration_ms', lifecycle.milliseconds_since(started)));
    return query select j.request_id, j.id, j.state, j.hold_reason from lifecycle.deletion_jobs j
                  where j.id = any (changed) order by j.due_at, j.id;
end $$;

-- The job of a request, locked; an error that says what to do when there is none.
create function lifecycle.job_of_request(request_id uuid) returns lifecycle.deletion_jobs
language plpgsql set search_path = ''
as $$
declare
    job lifecycle.deletion_jobs;
begin
    perform from public.enqueue_deletion_jobs();
    select * into job from lifecycle.deletion_jobs j where j.request_id = job_of_request.request_id for update;
    if not found then
        raise exception 'no deletion request % in public.data_deletion_requests', request_id
            using errcode = 'no_data_found', hint = 'Name the id of the request, not of the account.';
    end if;
    return job;
end $$;

-- Kept from being erased, for a reason, until a moment or (null) until somebody releases it.
create function public.hold_deletion_request(request_id uuid, reason text, until timestamptz default null) returns text
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
       set state = 'held', hold_reason = reason, hold_until = until, held_by_rule = false
     where j.id = job.id;
    return 'held';
end $$;

create function public.release_deletion_request(request_id uuid) returns text
language plpgsql set search_path = ''
as $$
declare
    job lifecycle.deletion_jobs := lifecycle.job_of_request(request_id);
begin
    if job.state <> 'held' then
        raise exception 'request % is not held but %', request_id, job.state
            using errcode = 'object_not_in_prerequisite_state';
    elsif job.held_by_rule then
        raise exception 'request % is held because: %', request_id, job.hold_reason
            using errcode = 'object_not_in_prerequisite_state', hint = 'It is released by itself once that is no longer so.';
    end if;
    update lifecycle.deletion_jobs j
       set state = 'queued', hold_reason = null, hold_until = null, next_attempt_at = now() where j.id = job.id;
    return 'queued';
end $$;

-- Before anything was erased. The request's own status has no word for it: it says failed, and the notes say why.
create function public.cancel_deletion_request(request_id uuid, reason text) returns text
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
       set state = 'cancelled', hold_reason = null, hold_until = null, held_by_rule = false, collected_at = null
     where j.id = job.id;
    update public.data_deletion_requests r
       set status = 'failed', notes = concat_ws(E'\n', r.notes, 'cancelled before it started: ' || reason)
     where r.id = request_id;
    perform lifecycle.report_outcome('erase_personal_data', 'request ' || request_id, null);
    return 'cancelled';
end $$;

-- What a worker may claim: it waited long enough, or whoever had it was not heard of for a lease.
create function lifecycle.is_due(job lifecycle.deletion_jobs) returns boolean
language sql stable
return job.state in ('queued', 'failed') and job.not_before <= now() and job.next_attempt_at <= now()
       or job.state in ('running', 'erased') and job.lease_until <= now();

-- The most urgent jobs become a batch of this caller; null when nothing waits. Commit before going on: others who
-- erase at the same moment must see that these people are leaving.
create function lifecycle.claim_deletion_jobs(batch_size int default null, only_request uuid default null) returns uuid
language plpgsql set search_path = ''
as $$
declare
    policy lifecycle.erasure_policy;
    batch  uuid := gen_random_uuid();
begin
    select * into policy from lifecycle.erasure_policy;
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
    ), claimed as (
        update lifecycle.deletion_jobs j
           set state = case j.state when 'erased' then 'erased' else 'running' end, batch_id = batch,
               lease_until = now() + policy.lease, attempts = j.attempts + 1, started_at = coalesce(j.started_at, now())
          from chosen c where c.id = j.id
        returning j.request_id
    )
    update public.data_deletion_requests r
       set status = 'processing', processed_at = coalesce(r.processed_at, now()), processed_by = 'lifecycle'
      from claimed c where c.request_id = r.id;
    return (select batch where exists (select from lifecycle.deletion_jobs j where j.batch_id = batch));
end $$;

-- Whoever works on a batch says so at the beginning of each step; jobs that another has claimed meanwhile are lost to
-- it. In such a step nobody's live traffic waits behind us for long.
create function lifecycle.renew_erasure_lease(batch uuid) returns void
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

create function lifecycle.fail_deletion_jobs(jobs bigint[], error text, transient boolean) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    policy  lifecycle.erasure_policy;
    failed  lifecycle.deletion_jobs;
begin
    select * into policy from lifecycle.erasure_policy;
    for failed in
        update lifecycle.deletion_jobs j
           set state = 'failed', batch_id = null, lease_until = null, last_error = error,
               next_attempt_at = now() + least(policy.first_pause * power(2, least(j.attempts, 20) - 1), policy.longest_pause)
         where j.id = any (jobs) and j.state in ('running', 'erased')
        returning j.*
    loop
        update public.data_deletion_requests r
           set status = case when failed.attempts >= policy.tries_until_failed then 'failed' else 'processing' end::public.deletion_request_status
         where r.id = failed.request_id;
        perform lifecycle.record_outcome('erase_personal_data', 'request ' || failed.request_id, error,
            jsonb_build_object('attempts', failed.attempts, 'next_attempt_at', failed.next_attempt_at),
            not transient or failed.attempts >= policy.tries_until_failed);
    end loop;
end $$;

-- What passes by itself: a lock that stayed taken, a deadlock, a connection or a server that went away.
create function lifecycle.is_transient(code text) returns boolean
language sql immutable
return code in ('55P03', '40P01', '40001', '57014') or left(code, 2) in ('08', '57');

create function lifecycle.fail_erasure_batch(batch uuid, error text, code text) returns void
language sql set search_path = ''
as $$
    select lifecycle.fail_deletion_jobs(array_agg(j.id), error, lifecycle.is_transient(code))
      from lifecycle.deletion_jobs j where j.batch_id = batch and j.state in ('running', 'erased')
$$;

-- Closed to everyone but the owner: new functions are open until somebody says otherwise, and so is, in some projects,
-- all that is new in public.
create function lifecycle.close_to_readers(relations regclass[], routines text[]) returns void
language plpgsql set search_path = ''
as $$
declare
    reader  text;
    closing text;
begin
    for reader in
        select 'public' union all select quote_ident(r.rolname) from pg_catalog.pg_roles r
         where r.rolname in ('anon', 'authenticated', 'service_role')
    loop
        for closing in
            select format('revoke all on table %s from %s', c, reader) from unnest(relations) c
             union all
            select format('revoke all on routine %s from %s', p.oid::regprocedure, reader)
              from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
             where format('%I.%I', n.nspname, p.proname) = any (routines)
        loop
            execute closing;
        end loop;
    end loop;
end $$;
select lifecycle.close_to_readers(
    array['lifecycle.erasure_policy', 'lifecycle.erasure_steps', 'lifecycle.personal_data_columns',
          'lifecycle.deletion_jobs']::regclass[],
    array['lifecycle.claim_deletion_jobs', 'lifecycle.close_to_readers', 'lifecycle.fail_deletion_jobs',
          'lifecycle.fail_erasure_batch', 'lifecycle.is_due', 'lifecycle.is_leaving',
          'lifecycle.is_transient', 'lifecycle.job_of_request', 'lifecycle.reason_to_hold',
          'lifecycle.renew_erasure_lease', 'public.cancel_deletion_request',
          'public.enqueue_deletion_jobs', 'public.hold_deletion_request',
          'public.release_deletion_request']);
