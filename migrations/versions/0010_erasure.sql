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

create table lifecycle.erasure_needles (
    batch_id        uuid primary key,
    words           text[] not null,
    odd_words       text[] not null,
    ids             uuid[] not null,
    addresses       text[] not null,
    session_length  int
);
comment on column lifecycle.erasure_needles.session_length is 'Of the shortest session name that is looked for in texts; null when there is none.';
comment on table lifecycle.erasure_needles is 'What the search of a batch looks for, made once from its keys; gone with them.';

create table lifecycle.erasure_scans (
    batch_id   uuid not null,
    table_name text not null,
    columns    int not null,
    rows       bigint not null,
    duration_ms bigint not null,
    scanned_at timestamptz not null default now(),
    primary key (batch_id, table_name)
);
create table lifecycle.erasure_findings (
    batch_id    uuid not null,
    job_id      bigint not null,
    table_name  text not null,
    column_name text not null,
    treatment   text not null check (treatment in ('residual', 'redacted', 'exempt')),
    rows        bigint not null,
    primary key (batch_id, job_id, table_name, column_name, treatment)
);
comment on table lifecycle.erasure_counts is 'Rows deleted, scrubbed or redacted, per job and table.';
comment on table lifecycle.erasure_scans is 'Relations that the search for what is left went through, per batch.';
comment on table lifecycle.erasure_findings is 'Where that search found a person: never what it found.';

create table lifecycle.erasure_receipts (
    id            bigint generated always as identity primary key,
    request_id    uuid not null,
    body          jsonb not null,
    previous_hash bytea not null,
    hash          bytea not null,
    issued_at     timestamptz not null default now()
);
create index erasure_receipts_request_id_idx on lifecycle.erasure_receipts (request_id);
comment on table lifecycle.erasure_receipts is 'The proof of each erasure, without identifiers. Each holds the hash of the one before it: one that is changed or taken away breaks the chain.';

-- Two blocks of HMAC-SHA256 (RFC 2104): what is hashed with them cannot be guessed by whoever knows an id.
create table lifecycle.erasure_secret (
    singleton boolean primary key default true check (singleton),
    inner_pad bytea not null,
    outer_pad bytea not null
);
do $$
declare
    secret bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    inner_pad bytea := decode(repeat('36', 64), 'hex');
    outer_pad bytea := decode(repeat('5c', 64), 'hex');
begin
    for i in 0 .. 31 loop
        inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # get_byte(secret, i));
        outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # get_byte(secret, i));
    end loop;
    insert into lifecycle.erasure_secret (inner_pad, outer_pad) values (inner_pad, outer_pad);
end $$;
comment on table lifecycle.erasure_secret is 'The key of the hashes in lifecycle.suppressions and in receipts. Never leaves the database.';

create table lifecycle.suppressions (
    hash       bytea not null,
    kind       text not null check (kind in ('account', 'web_session')),
    request_id uuid not null,
    erased_at  timestamptz not null,
    expires_at timestamptz,
    primary key (kind, hash)
);
comment on table lifecycle.suppressions is 'Keyed hashes of who was erased and of the sessions that were theirs: what comes back, with a late beacon or from a backup, is known by them.';

create function lifecycle.keyed_hash(content text) returns bytea
language sql stable strict
return (select sha256(s.outer_pad || sha256(s.inner_pad || convert_to(content, 'UTF8'))) from lifecycle.erasure_secret s);

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
        select r.id, r.account_id, r.requested_at, r.requested_at + policy.grace, r.requested_at + policy.deadline
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
        update lifecycle.deletion_jobs j set state = 'queued', hold_reason = null, hold_until = null, held_by_rule = false
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
    update lifecycle.deletion_jobs j set state = 'queued', hold_reason = null, hold_until = null where j.id = job.id;
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
         where (j.state in ('queued', 'failed') and j.not_before <= now() and j.next_attempt_at <= now()
                -- A step that takes longer than the lease holds a lock of its batch meanwhile.
                or case when j.state in ('running', 'erased') and j.lease_until <= now()
                        then pg_try_advisory_xact_lock(hashtextextended('lifecycle.erasure_batch.' || j.batch_id, 0)) end)
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
    update lifecycle.deletion_jobs j set lease_until = now() + p.lease
      from lifecycle.erasure_policy p
     where j.batch_id = batch and j.state in ('running', 'erased');
    if not found then
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
    -- A trigger of the application may put what it likes into its message.
    message constant text := lifecycle.redacted(lifecycle.first_line(error));
begin
    select * into policy from lifecycle.erasure_policy;
    for failed in
        update lifecycle.deletion_jobs j
           set state = 'failed', batch_id = null, lease_until = null, last_error = message,
               next_attempt_at = now() + least(policy.first_pause * power(2, least(j.attempts, 20) - 1), policy.longest_pause)
         where j.id = any (jobs) and j.state in ('running', 'erased')
        returning j.*
    loop
        update public.data_deletion_requests r
           set status = case when failed.attempts >= policy.tries_until_failed then 'failed' else 'processing' end::public.deletion_request_status
         where r.id = failed.request_id;
        perform lifecycle.record_outcome('erase_personal_data', 'request ' || failed.request_id, message,
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
            else lifecycle.redacted_document((select coalesce(jsonb_object_agg(e.key, e.value), '{}')
                                                from jsonb_each(document) e where e.key = any (allowed))) end;

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
                get stacked diagnostics code = returned_sqlstate, error = message_text;
                perform lifecycle.fail_deletion_jobs(array[job], error, lifecycle.is_transient(code));
                failed := failed + 1;
            end;
        end loop;
    end;
    update lifecycle.deletion_jobs j set state = 'erased', erased_at = now()
     where j.id = any (jobs) and j.state = 'running';
    remaining := (select count(*) from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'running');
    return next;
end $$;

-- The sign-in user, where this role may delete it; somebody else's call otherwise, whose outcome is recorded here.
create function lifecycle.erase_sign_in_users(batch uuid) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    jobs  constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    users constant uuid[] := lifecycle.keys_of(jobs, 'sign_in_user')::uuid[];
    left_over uuid[] := '{}';
    outcome text := 'left: this role may not delete from auth.users';
begin
    perform lifecycle.renew_erasure_lease(batch);
    if users is not null and to_regclass('auth.users') is not null and has_schema_privilege('auth', 'usage')
       and has_table_privilege('auth.users', 'select, delete') then
        begin
            -- An account that stays may share it.
            execute 'delete from auth.users u where u.id = any ($1)
                        and not exists (select from public.account_linkages l where l.supabase_user_id = u.id)' using users;
            execute 'select array(select u.id from auth.users u where u.id = any ($1))' into left_over using users;
            outcome := 'deleted';
        exception when others then
            outcome := 'left: ' || lifecycle.redacted(lifecycle.first_line(sqlerrm));
            left_over := users;
        end;
    elsif users is not null then
        left_over := users;
    end if;
    update lifecycle.deletion_jobs j
       set sign_in_user = case
               when not exists (select from lifecycle.erasure_keys k where k.job_id = j.id and k.kind = 'sign_in_user') then 'none'
               when exists (select from lifecycle.erasure_keys k
                             where k.job_id = j.id and k.kind = 'sign_in_user' and k.key::uuid = any (left_over)) and outcome = 'deleted'
               then 'left: another account signs in with it'
               else outcome end
     where j.id = any (jobs) and j.sign_in_user is distinct from 'deleted';
end $$;

-- Search for what is left ------------------------------------------------------------------------------------

-- Every relation that holds rows of its own, with the columns in which an id or text could stand; a partition is
-- searched through its parent. What Supabase itself manages is not ours to read.
create function lifecycle.searched_columns(only_relation regclass default null)
returns table (relation regclass, table_name text, column_name text, type_name text, bytes bigint)
language sql stable set search_path = ''
as $$
    select c.oid::regclass, format('%I.%I', n.nspname, c.relname), a.attname::text,
           case when coalesce(d.typname, t.typname) in ('uuid', 'json', 'jsonb', 'inet', 'cidr', 'bytea')
                then coalesce(d.typname, t.typname)::text
                when t.typname = '_uuid' then 'uuid[]' else 'text' end,
           pg_table_size(c.oid)
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type t on t.oid = a.atttypid
      left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
      left join pg_type d on d.oid = t.typbasetype and t.typtype = 'd'
     where (only_relation is null or c.oid = only_relation)
       and c.relkind in ('r', 'p', 'm') and not c.relispartition and c.relpersistence <> 't'
       and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and n.nspname <> all (select unnest(p.managed_schemas) from lifecycle.erasure_policy p)
       and (coalesce(d.typname, t.typname) in ('uuid', 'json', 'jsonb', 'inet', 'cidr', 'bytea', 'hstore', 'xml', 'tsvector')
            or coalesce(d.typcategory, t.typcategory) in ('S', 'C')
            or e.typname in ('uuid', 'json', 'jsonb', 'inet') or e.typcategory in ('S', 'C'))
       and not (n.nspname = 'lifecycle' and c.relname in ('erasure_keys', 'erasure_needles', 'alembic_version'))
$$;

-- How a column is treated; null when the map of personal data does not know it.
create function lifecycle.treatment_of(table_name text, column_name text) returns lifecycle.personal_data_columns
language sql stable
return (select c from lifecycle.personal_data_columns c
         where c.table_name = treatment_of.table_name and c.column_name in (treatment_of.column_name, '*')
         order by c.column_name = '*' limit 1);

-- Columns that could hold personal data and that nobody has said anything about. Expected: none.
create function lifecycle.unmapped_columns() returns table (table_name text, column_name text, type_name text)
language sql stable set search_path = ''
as $$
    select s.table_name, s.column_name, s.type_name from lifecycle.searched_columns() s
     where (lifecycle.treatment_of(s.table_name, s.column_name)).treatment is null
     order by 1, 2
$$;

-- What a person would be recognised by, once per batch. Bookings and vouchers are kept, without the person: their ids
-- prove nothing. Session names that are no ids are looked for as words of a text when they have at least eight
-- characters, others only where they stand alone. A word of a form that no pattern knows is looked for as it is.
create function lifecycle.needles_of(batch uuid) returns lifecycle.erasure_needles
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    needles lifecycle.erasure_needles;
    jobs    constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    plain   constant text := '^[A-Za-z0-9][A-Za-z0-9_-]{6,}[A-Za-z0-9]$';
begin
    select n.* into needles from lifecycle.erasure_needles n where n.batch_id = batch;
    if found then
        return needles;
    end if;
    insert into lifecycle.erasure_needles (batch_id, words, odd_words, ids, addresses, session_length)
    select batch,
           coalesce(array_agg(distinct lower(k.key)) filter (where k.kind <> 'ip'), '{}'),
           coalesce(array_agg(distinct lower(k.key)) filter (
               where k.kind = 'email' and k.key collate "C" !~ ('^' || lifecycle.address_pattern() || '$')
                  or k.kind = 'own_web_session' and length(k.key) >= 8 and k.key collate "C" !~ plain), '{}'),
           coalesce(array_agg(distinct k.key::uuid) filter (where k.kind <> 'ip' and k.key ~ ('^' || lifecycle.id_pattern() || '$')), '{}'),
           coalesce(array_agg(distinct k.key) filter (where k.kind = 'ip'), '{}'),
           min(length(k.key)) filter (where k.kind = 'own_web_session' and k.key collate "C" ~ plain
                                        and k.key !~ ('^' || lifecycle.id_pattern() || '$'))
      from lifecycle.erasure_keys k
     where k.job_id = any (jobs)
       and k.kind in ('account', 'sign_in_user', 'email', 'chat_session', 'quiz_session', 'recommendation_run',
                      'generated_activity', 'own_web_session', 'ip')
    returning * into needles;
    return needles;
end $$;

create function lifecycle.searched_expression(column_name text, type_name text) returns text
language sql immutable set search_path = ''
as $$
    select case when type_name in ('inet', 'cidr') then format('host(t.%I)', column_name)
                -- Compressed text is read outside the server; a byte that is no ASCII ends a word.
                when type_name = 'bytea' then
                    format('case when substring(t.%1$I from 1 for 2) <> ''\x1f8b'' then regexp_replace(encode(t.%1$I, ''escape''), ''\\[0-7]{3}'', '' '', ''g'') end', column_name)
                else format('t.%I::text', column_name) end
$$;

-- The rows of a relation that hold a word in one of these columns, as a query of (relation, place, content): $1 are
-- words, $2 those that are ids, $3 addresses of machines. All columns of text are looked at as one: a pattern costs more
-- to start than to go on. What could hold a word is chosen below, where parallel workers can; which words those are is
-- asked of the few rows that remain.
create function lifecycle.search_rows(relation regclass, names text[], types text[], needles lifecycle.erasure_needles) returns text
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
        odd := format(' or lower(%s collate "default") like any (%L::text[])', body,
                      array(select '%' || regexp_replace(w, '([%_\\])', '\\\1', 'g') || '%' from unnest(needles.odd_words) w));
    end if;
    -- Two simple patterns cost a fifth of one that is both.
    if exists (select from unnest(types) t where t not in ('uuid', 'uuid[]', 'inet', 'cidr')) then
        hints := format('%s ~ %L', body, lifecycle.identifier_hint())
            || case when needles.session_length is null then ''
                    else format(' or %s ~ %L', body, format('[A-Za-z0-9_-]{%s}', needles.session_length)) end;
    end if;
    return format('select c.relation, c.place, c.content
                     from (select t.tableoid as relation, t.ctid as place, %1$s as content, (%2$s%3$s) as hit
                             from %4$s t where %2$s%3$s or %5$s offset 0) c
                    where c.hit or exists (select from lifecycle.words_in(c.content, %6$L) w where w.word = any ($1))',
                  body, alone, odd, relation, hints, pattern);
end $$;

-- One relation: where do the people of this batch still stand? Per job and column, never what was found. It is read
-- once when nothing is left. A word in a column of others' free form (treatment 'redacted') is taken out of it.
-- Searched again, the relation's earlier findings give way.
create function lifecycle.search_relation(batch uuid, relation regclass) returns bigint
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
    -- The planner expects every row to hold a word and would hand none to a worker.
    set min_parallel_table_scan_size = '1MB' set parallel_tuple_cost = 0
as $$
#variable_conflict use_variable
declare
    started   constant timestamptz := clock_timestamp();
    jobs      constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    needles   lifecycle.erasure_needles;
    names     text[];
    types     text[];
    searched  text;
    total     bigint;
    hits      bigint;
    found     bigint := 0;
    col       record;
    rule      lifecycle.personal_data_columns;
    matching  text;
begin
    perform lifecycle.renew_erasure_lease(batch);
    needles := lifecycle.needles_of(batch);
    select array_agg(s.column_name order by s.column_name), array_agg(s.type_name order by s.column_name), min(s.table_name)
      into names, types, searched
      from lifecycle.searched_columns(search_relation.relation) s;
    if names is null then
        return 0;
    end if;
    delete from lifecycle.erasure_findings f
     where f.batch_id = batch and f.table_name = searched and f.treatment <> 'redacted';
    execute format('select (select count(*) from %s), count(*) from (%s) r', relation,
                   lifecycle.search_rows(relation, names, types, needles))
       into total, hits using needles.words, needles.ids, needles.addresses;
    if hits > 0 then
        for col in select c.name, c.type from unnest(names, types) c(name, type) loop
            matching := lifecycle.search_rows(relation, array[col.name], array[col.type], needles);
            rule := lifecycle.treatment_of(searched, col.name);
            -- The treatment of a column that nobody has said anything about is that of one that must hold nothing.
            execute format(
                'with held as materialized (select row_number() over () as number, r.content from (%s) r),
                 word as (select distinct h.number, w.word from held h cross join lateral lifecycle.words_in(h.content, $5) w
                           union
                          select h.number, lower(h.content) from held h where octet_length(h.content) <= 320
                           union
                          select h.number, o.word from held h join unnest($10) o(word) on position(o.word in lower(h.content collate "default")) > 0)
                 insert into lifecycle.erasure_findings as f (batch_id, job_id, table_name, column_name, treatment, rows)
                 select $6, k.job_id, $7, $8, $9, count(distinct w.number)
                   from word w join lifecycle.erasure_keys k on lower(k.key) = w.word and k.job_id = any ($4)
                  group by k.job_id
                 on conflict (batch_id, job_id, table_name, column_name, treatment) do update set rows = f.rows + excluded.rows',
                matching)
              using needles.words, needles.ids, needles.addresses, jobs, lifecycle.session_pattern(needles.session_length), batch, searched, col.name,
                    case rule.treatment when 'exempt' then 'exempt' when 'redacted' then 'redacted' else 'residual' end,
                    needles.odd_words;
            get diagnostics hits = row_count;
            found := found + hits;
            if hits > 0 and rule.treatment = 'redacted' then
                insert into lifecycle.erasure_counts as c (job_id, table_name, action, rows)
                select f.job_id, searched, 'redact', sum(f.rows) from lifecycle.erasure_findings f
                 where f.batch_id = batch and f.table_name = searched and f.column_name = col.name and f.treatment = 'redacted'
                 group by 1
                on conflict on constraint erasure_counts_pkey do update set rows = c.rows + excluded.rows;
                execute format('update %s t set %I = %s from (%s) r where t.tableoid = r.relation and t.ctid = r.place', relation, col.name,
                               (select format(case when col.type = 'uuid' then 'null'
                                                   when a.atttypid in ('json'::regtype, 'jsonb'::regtype)
                                                   then 'lifecycle.document_without_words(t.%I::jsonb, $1, $4, $5)::%s'
                                                   else 'lifecycle.without_words(t.%I::text, $1, $4, $5)::%s' end,
                                              col.name, format_type(a.atttypid, a.atttypmod))
                                  from pg_catalog.pg_attribute a
                                 where a.attrelid = relation and a.attname = col.name),
                               matching)
                  using needles.words, needles.ids, needles.addresses, needles.odd_words, lifecycle.session_pattern(needles.session_length);
                execute format('select count(*) from (%s) r', matching)
                   into hits using needles.words, needles.ids, needles.addresses;
                if hits > 0 then  -- came back while we looked, or stands there in a way that cannot be taken out
                    insert into lifecycle.erasure_findings (batch_id, job_id, table_name, column_name, treatment, rows)
                    select batch, f.job_id, f.table_name, f.column_name, 'residual', hits from lifecycle.erasure_findings f
                     where f.batch_id = batch and f.table_name = searched and f.column_name = col.name and f.treatment = 'redacted'
                    on conflict do nothing;
                end if;
            end if;
        end loop;
    end if;
    insert into lifecycle.erasure_scans as s (batch_id, table_name, columns, rows, duration_ms)
    values (batch, searched, cardinality(names), total, lifecycle.milliseconds_since(started))
    on conflict (batch_id, table_name) do update
       set columns = excluded.columns, rows = excluded.rows, duration_ms = excluded.duration_ms, scanned_at = now();
    return found;
end $$;

-- An erasure touches hours all over the past, and one statement for each of thousands takes longer than one over the days
-- or months that they lie in. Whole buckets are computed either way, so the rows are the same.
create function lifecycle.few_spans(spans tstzmultirange) returns tstzmultirange
language plpgsql stable set search_path = '' set timezone = 'UTC'
as $$
declare
    unit text;
begin
    foreach unit in array array['day', 'month'] loop
        exit when (select count(*) from unnest(spans)) <= 200;
        spans := (select range_agg(tstzrange(date_trunc(unit, lower(s)),
                                             case when upper(s) = date_trunc(unit, upper(s)) then upper(s)
                                                  else date_trunc(unit, upper(s)) + ('1 ' || unit)::interval end))
                    from unnest(spans) s);
    end loop;
    return spans;
end $$;
do $$
declare
    was text := pg_get_functiondef('lifecycle.roll_up_changes(timestamptz, timestamptz)'::regprocedure);
    is_now text := replace(was, 'in select unnest(spans) loop', 'in select unnest(lifecycle.few_spans(spans)) loop');
begin
    if is_now = was then
        raise exception 'lifecycle.roll_up_changes is not the one of revision 0003';
    end if;
    execute is_now;
end $$;

-- Derived tables and materialized views that may hold the batch's people are made anew. False when another session
-- refreshes at this moment: wait for it, then call again. What cannot be refreshed is found by the search.
create function lifecycle.refresh_after_erasure(batch uuid) returns boolean
language plpgsql set search_path = ''
as $$
declare
    jobs constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    ids  constant uuid[] := array(select j.account_id from lifecycle.deletion_jobs j where j.id = any (jobs));
    view record;
    held boolean;
begin
    perform lifecycle.renew_erasure_lease(batch);
    if exists (select from public.refresh_derived_statistics() r where r.outcome = 'busy') then
        return false;
    end if;
    for view in
        select p.view_name, to_regclass(format('%I.%I', p.schema_name, p.view_name)) as relation
          from lifecycle.materialized_view_policies p order by p.view_name
    loop
        if (select c.relkind from pg_class c where c.oid = view.relation) = 'm' then
            select lifecycle.search_relation(batch, view.relation) > 0 into held;
            if held then
                -- Its age is no reason to leave it as it is.
                delete from lifecycle.refresh_states s where s.name = view.view_name;
                perform from public.refresh_analytics_hourly(view.view_name);
            end if;
        end if;
    end loop;
    return true;
end $$;

-- Receipts ---------------------------------------------------------------------------------------------------

create function lifecycle.receipt_body(job lifecycle.deletion_jobs, outside jsonb) returns jsonb
language sql stable set search_path = ''
as $$
    select jsonb_build_object(
        'request_id', job.request_id,
        'subject', encode(lifecycle.keyed_hash(job.account_id::text), 'hex'),
        'policy_version', p.version,
        'requested_at', job.requested_at, 'due_at', job.due_at, 'in_time', clock_timestamp() <= job.due_at,
        'started_at', job.started_at, 'collected_at', job.collected_at, 'erased_at', job.erased_at,
        'verified_at', now(), 'attempts', job.attempts, 'recurrence', job.recurrences,
        'rows', (select coalesce(jsonb_agg(jsonb_build_object('table', c.table_name, 'action', c.action, 'rows', c.rows)
                                           order by c.table_name, c.action), '[]')
                   from lifecycle.erasure_counts c where c.job_id = job.id),
        'exemptions', (select coalesce(jsonb_agg(jsonb_build_object('column', f.table_name || '.' || f.column_name, 'rows', f.rows,
                                                                    'reason', d.reason)
                                                 order by f.table_name, f.column_name), '[]')
                         from lifecycle.erasure_findings f
                        cross join lateral (select * from lifecycle.treatment_of(f.table_name, f.column_name)) d
                        where f.batch_id = job.batch_id and f.job_id = job.id and f.treatment = 'exempt'),
        'search', (select jsonb_build_object('relations', count(*), 'columns', sum(s.columns), 'rows', sum(s.rows),
                                             'milliseconds', sum(s.duration_ms), 'left', 0)
                     from lifecycle.erasure_scans s where s.batch_id = job.batch_id) || outside,
        'sign_in_user', job.sign_in_user,
        'space', 'deleted bytes stay in the data files until VACUUM, in backups until these expire')
      from lifecycle.erasure_policy p
$$;

create function lifecycle.receipt_hash(previous bytea, body jsonb) returns bytea
language sql immutable
return sha256(previous || convert_to(body::text, 'UTF8'));

-- Jobs of which nothing is left get their receipt and lose their keys; the others fail, with the table and the column.
-- `outside` says who searched compressed text, and how much of it.
create function lifecycle.conclude_erasure(batch uuid, outside jsonb default '{"compressed": "not unpacked: the database cannot"}')
returns table (verified int, failed int)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    jobs     bigint[];
    policy   lifecycle.erasure_policy;
    guilty   record;
    job      lifecycle.deletion_jobs;
    previous bytea;
    body     jsonb;
begin
    select * into policy from lifecycle.erasure_policy;
    perform lifecycle.renew_erasure_lease(batch);
    verified := 0; failed := 0;
    jobs := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased' order by j.id for update);
    for guilty in
        select l.job_id, string_agg(distinct l.place, ', ' order by l.place) as places
          from (select f.job_id, format('%s.%s', f.table_name, f.column_name) as place
                  from lifecycle.erasure_findings f where f.batch_id = batch and f.treatment = 'residual'
                 union
                select r.job_id, format('%s (rows by %s)', s.table_name, s.key_column)
                  from lifecycle.rows_to_erase(jobs) r join lifecycle.erasure_steps s on s.step = r.step where r.rows > 0) l
         group by l.job_id
    loop
        perform lifecycle.fail_deletion_jobs(array[guilty.job_id],
            format('something of the person is left in %s; correct the map of personal data or the rows, it is tried again', guilty.places), false);
        failed := failed + 1;
    end loop;
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.erasure_receipts', 0));  -- one chain, one link at a time
    for job in select j.* from lifecycle.deletion_jobs j where j.id = any (jobs) and j.state = 'erased' order by j.due_at, j.id loop
        previous := coalesce((select r.hash from lifecycle.erasure_receipts r order by r.id desc limit 1), '\x');
        body := lifecycle.receipt_body(job, outside);
        insert into lifecycle.erasure_receipts (request_id, body, previous_hash, hash)
        values (job.request_id, body, previous, lifecycle.receipt_hash(previous, body));
        insert into lifecycle.suppressions as s (kind, hash, request_id, erased_at, expires_at)
        select case k.kind when 'account' then 'account' else 'web_session' end, lifecycle.keyed_hash(k.key), job.request_id, now(),
               case k.kind when 'account' then null else now() + policy.late_window end
          from lifecycle.erasure_keys k where k.job_id = job.id and k.kind in ('account', 'own_web_session')
        on conflict (kind, hash) do update set erased_at = excluded.erased_at, expires_at = excluded.expires_at;
        delete from lifecycle.erasure_keys k where k.job_id = job.id;
        perform lifecycle.record_outcome('erase_personal_data', 'request ' || job.request_id, null,
            jsonb_build_object('rows', (select sum(c.rows) from lifecycle.erasure_counts c where c.job_id = job.id),
                               'duration_ms', round(extract(epoch from now() - job.started_at) * 1000)));
        verified := verified + 1;
    end loop;
    delete from lifecycle.erasure_needles n where n.batch_id = batch;
    update public.data_deletion_requests r set status = 'completed', completed_at = now()
      from lifecycle.deletion_jobs j where j.id = any (jobs) and j.state = 'erased' and j.request_id = r.id;
    update lifecycle.deletion_jobs j
       set state = 'verified', verified_at = now(), lease_until = null, last_error = null
     where j.id = any (jobs) and j.state = 'erased';
    return next;
end $$;

-- Receipts that do not fit the one before them, that were changed, or that an erasure lacks. Expected: none.
create function lifecycle.broken_receipts() returns table (id bigint, fault text)
language sql stable set search_path = ''
as $$
    (select c.id, case when c.hash <> lifecycle.receipt_hash(c.previous_hash, c.body) then 'its contents were changed'
                       else 'the receipt before it was changed or taken away' end
       from (select r.*, lag(r.hash, 1, '\x') over (order by r.id) as before from lifecycle.erasure_receipts r) c
      where c.hash <> lifecycle.receipt_hash(c.previous_hash, c.body) or c.previous_hash <> c.before
      order by c.id)
     union all
    -- Nothing follows the last one, so the queue must know of it.
    select null, format('request %s has %s receipts for %s erasures', j.request_id, r.count, j.recurrences + 1)
      from lifecycle.deletion_jobs j
     cross join lateral (select count(*) from lifecycle.erasure_receipts r where r.request_id = j.request_id) r
     where j.state = 'verified' and r.count < j.recurrences + 1
$$;

-- What comes back ----------------------------------------------------------------------------------------------

-- Rows of people who were erased: written with a token that had not expired, by a browser that was away, or restored
-- from a backup. Their jobs are queued again. One row per job and table.
create function public.find_returned_personal_data() returns table (request_id uuid, table_name text, rows bigint)
language plpgsql set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    policy lifecycle.erasure_policy;
    jobs   bigint[];
    again  bigint[] := '{}';
    found  record;
begin
    select * into policy from lifecycle.erasure_policy;
    delete from lifecycle.suppressions s where s.expires_at <= now();
    -- Receipts hold what these say.
    delete from lifecycle.erasure_scans s where s.scanned_at < now() - interval '30 days';
    delete from lifecycle.erasure_findings f
     where not exists (select from lifecycle.erasure_scans s where s.batch_id = f.batch_id)
       and not exists (select from lifecycle.deletion_jobs j where j.batch_id = f.batch_id);
    -- Accounts of a backup that is older than their erasure: the request may be gone with it.
    insert into public.data_deletion_requests (account_id, request_reason)
    select a.id, 'was erased and came back' from public.accounts a
     where a.status <> 'deleted'
       and exists (select from lifecycle.suppressions s where s.kind = 'account' and s.hash = lifecycle.keyed_hash(a.id::text))
       and not exists (select from lifecycle.deletion_jobs j where j.account_id = a.id and j.state <> 'cancelled')
       and not exists (select from public.data_deletion_requests r where r.account_id = a.id and r.status in ('pending', 'processing'));
    perform from public.enqueue_deletion_jobs();

    -- One job per account is enough; its keys are those that never change.
    jobs := array(select distinct on (j.account_id) j.id from lifecycle.deletion_jobs j
                   where j.state = 'verified' order by j.account_id, j.verified_at desc);
    perform lifecycle.collect_keys(jobs, array(select j.account_id from lifecycle.deletion_jobs j
                                                join unnest(jobs) with ordinality o(id, place) using (id) order by o.place));
    for found in
        select j.request_id, r.job_id, s.table_name, sum(r.rows)::bigint as rows
          from lifecycle.rows_to_erase(jobs) r
          join lifecycle.erasure_steps s on s.step = r.step
          join lifecycle.deletion_jobs j on j.id = r.job_id
         where r.rows > 0 group by 1, 2, 3 order by 1, 3
    loop
        again := again || found.job_id;
        request_id := found.request_id; table_name := found.table_name; rows := found.rows;
        return next;
    end loop;
    -- Anonymous rows are known by the session alone, for as long as a browser may hold them back.
    for found in
        with seen as (
            select 'public.user_behavior_events' as table_name, e.session_id, count(*) as rows from public.user_behavior_events e
             where e.account_id is null and e.event_timestamp >= now() - policy.late_window and e.session_id <> 'erased' group by 2
             union all
            select 'public.business_metrics_events', b.session_id, count(*) from public.business_metrics_events b
             where b.account_id is null and b.event_timestamp >= now() - policy.late_window and b.session_id <> 'erased' group by 2
             union all
            select 'public.search_queries', q.session_id, count(*) from public.search_queries q
             where q.account_id is null and q.searched_at >= now() - policy.late_window and q.session_id is not null group by 2
             union all
            select 'public.session_replay_events', r.session_id, count(*) from public.session_replay_events r
             where r."timestamp" >= now() - policy.late_window group by 2
        ), name as materialized (
            select d.session_id, lifecycle.keyed_hash(d.session_id) as hash from (select distinct n.session_id from seen n) d
        )
        select j.id as job_id, j.request_id, n.session_id, v.table_name, v.rows
          from name n
          join lifecycle.suppressions s on s.kind = 'web_session' and s.hash = n.hash
          join lifecycle.deletion_jobs j on j.request_id = s.request_id and j.state = 'verified'
          join seen v on v.session_id = n.session_id
         -- Somebody else goes on in that browser: what is anonymous there may be theirs.
         where not exists (select from (select e.session_id, e.account_id from public.user_behavior_events e
                                        union all select b.session_id, b.account_id from public.business_metrics_events b
                                        union all select q.session_id, q.account_id from public.search_queries q) v
                            where v.session_id = n.session_id and v.account_id is not null
                              and not lifecycle.is_leaving(v.account_id))
         order by 2, 4
    loop
        again := again || found.job_id;
        insert into lifecycle.erasure_keys (job_id, kind, key) values (found.job_id, 'web_session', found.session_id)
        on conflict do nothing;
        request_id := found.request_id; table_name := found.table_name; rows := found.rows;
        return next;
    end loop;

    delete from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.job_id <> all (again);
    delete from lifecycle.erasure_counts c where c.job_id = any (again);
    update lifecycle.deletion_jobs j
       set state = 'queued', recurrences = j.recurrences + 1, attempts = 0, next_attempt_at = now(),
           due_at = now() + policy.deadline, batch_id = null, started_at = null, collected_at = null, erased_at = null
     where j.id = any (again);
end $$;

-- Doing it -----------------------------------------------------------------------------------------------------

-- One step of a batch, with its errors: they fail the jobs, which are tried again later, and never the caller.
-- 'again' asks for the same step once more, 'failed' ends the batch.
create function lifecycle.erasure_step(batch uuid, step text, relation regclass default null, outside jsonb default null)
returns text
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    error text;
    code  text;
begin
    case step
        when 'collect' then
            perform lifecycle.collect_erasure_keys(batch);
        when 'erase' then
            if (select c.remaining from lifecycle.erase_chunk(batch) c) > 0 then
                return 'again';
            end if;
        when 'sign_in_users' then
            perform lifecycle.erase_sign_in_users(batch);
        when 'refresh' then
            if not lifecycle.refresh_after_erasure(batch) then
                return 'again';
            end if;
        when 'search' then
            perform lifecycle.search_relation(batch, relation);
        when 'conclude' then
            perform lifecycle.conclude_erasure(batch, coalesce(outside, '{"compressed": "not unpacked: the database cannot"}'));
    end case;
    return 'done';
exception when others then
    get stacked diagnostics code = returned_sqlstate, error = message_text;
    perform lifecycle.fail_erasure_batch(batch, error, code);
    return 'failed';
end $$;

-- Everything that waits, batch by batch, each step in a transaction of its own. For psql and pg_cron, which let a
-- procedure commit; it cannot run inside a transaction block.
create procedure public.process_deletion_jobs(batch_size int default null)
language plpgsql
as $$
declare
    batch    uuid;
    step     text;
    outcome  text;
    tries    int;
    relation regclass;
begin
    perform from public.enqueue_deletion_jobs();
    commit;
    loop
        batch := lifecycle.claim_deletion_jobs(batch_size);
        commit;
        exit when batch is null;
        foreach step in array array['collect', 'erase', 'sign_in_users', 'refresh', 'search', 'conclude'] loop
            tries := 0;
            if step = 'search' then
                for relation in select distinct s.relation from lifecycle.searched_columns() s loop
                    outcome := lifecycle.erasure_step(batch, step, relation);
                    commit;
                    exit when outcome = 'failed';
                end loop;
            else
                loop
                    outcome := lifecycle.erasure_step(batch, step);
                    commit;
                    exit when outcome <> 'again';
                    if step = 'refresh' then  -- somebody else refreshes
                        tries := tries + 1;
                        if tries > 120 then
                            perform lifecycle.fail_erasure_batch(batch, 'another session kept refreshing the statistics', '55P03');
                            outcome := 'failed';
                            commit;
                            exit;
                        end if;
                        perform pg_sleep(1);
                        commit;
                    end if;
                end loop;
            end if;
            exit when outcome = 'failed';
        end loop;
    end loop;
end $$;

-- What would be done for a request now: its rows by step. Nothing is changed; what had to be written to find out is undone.
create function lifecycle.plan_erasure(request_id uuid)
returns table (step int, table_name text, action text, found_by text, rows bigint, reason text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    job    lifecycle.deletion_jobs;
    counts jsonb;
begin
    begin
        job := lifecycle.job_of_request(plan_erasure.request_id);
        update lifecycle.deletion_jobs j
           set state = 'running', hold_reason = null, batch_id = gen_random_uuid() where j.id = job.id returning * into job;
        perform lifecycle.collect_erasure_keys(job.batch_id);
        select jsonb_object_agg(r.step, r.rows) into counts from lifecycle.rows_to_erase(array[job.id]) r;
        raise exception using errcode = 'LCPLN';
    exception when sqlstate 'LCPLN' then null;
    end;
    return query
        select s.step, s.table_name, s.action, s.key_column, coalesce((counts ->> s.step::text)::bigint, 0), s.reason
          from lifecycle.erasure_steps s order by s.step;
end $$;

-- Closed to everyone: the owner alone calls these functions.
do $$
declare
    reader text;
    object text;
begin
    for reader in
        select 'public' union all select quote_ident(r.rolname) from pg_roles r
         where r.rolname in ('anon', 'authenticated', 'service_role')
    loop
        execute format('revoke all on table lifecycle.erasure_policy, lifecycle.erasure_steps, lifecycle.personal_data_columns,
            lifecycle.deletion_jobs, lifecycle.erasure_keys, lifecycle.erasure_counts, lifecycle.erasure_scans,
            lifecycle.erasure_findings, lifecycle.erasure_receipts, lifecycle.erasure_secret, lifecycle.erasure_needles,
            lifecycle.suppressions from %s', reader);
        for object in
            select p.oid::regprocedure::text from pg_proc p
             where p.pronamespace = 'lifecycle'::regnamespace and p.proname in (
                    'address_pattern', 'allowed_only', 'broken_receipts', 'claim_deletion_jobs', 'collect_erasure_keys',
                    'collect_keys', 'conclude_erasure', 'document_without_words', 'erase_chunk',
                    'erase_jobs', 'erase_sign_in_users', 'erasure_statement', 'erasure_step',
                    'escaped_pattern', 'fail_deletion_jobs', 'fail_erasure_batch', 'few_spans',
                    'id_pattern', 'identifier_hint', 'is_leaving', 'is_transient', 'job_of_request',
                    'keyed_hash', 'keys_of', 'location_only', 'needles_of', 'plan_erasure',
                    'reason_to_hold', 'receipt_body', 'receipt_hash', 'redacted',
                    'redacted_document', 'refresh_after_erasure', 'relations_of_step',
                    'renew_erasure_lease', 'replacement', 'rows_to_erase', 'search_relation',
                    'search_rows', 'searched_columns', 'searched_expression', 'session_pattern',
                    'treatment_of', 'unmapped_columns', 'without_words', 'words_in')
                or p.pronamespace = 'public'::regnamespace and p.proname in (
                    'cancel_deletion_request', 'enqueue_deletion_jobs', 'find_returned_personal_data',
                    'hold_deletion_request', 'process_deletion_jobs', 'release_deletion_request')
        loop
            execute format('revoke all on routine %s from %s', object, reader);
        end loop;
    end loop;
end $$;
