-- What is wrong now, and the messages about it. Both are written in the transaction that found the fault, so a
-- message cannot be lost between the two; a sensor hands the messages to Slack until Slack says ok.
create table lifecycle.open_problems (
    job       text not null,
    cause     text not null,
    error     text not null,
    run_id    text,
    times     int not null default 1,
    since     timestamptz not null default now(),
    last_seen timestamptz not null default now(),
    primary key (job, cause)
);
comment on table lifecycle.open_problems is 'What fails at present. One row per job and cause (a view, a table, a check, or the run itself); gone when it works again.';

create table lifecycle.notifications (
    id              bigint generated always as identity primary key,
    kind            text not null check (kind in ('failure', 'recovery', 'report')),
    job             text not null,
    content         jsonb not null default '{}',
    created_at      timestamptz not null default now(),
    closed_at       timestamptz,
    version         int not null default 1,
    sent_version    int not null default 0,
    channel         text,
    message_ts      text,
    in_doubt        boolean not null default false,
    attempts        int not null default 0,
    next_attempt_at timestamptz not null default now(),
    claimed_until   timestamptz,
    last_error      text
);
comment on table lifecycle.notifications is 'Outbox of messages for people. Waiting while sent_version < version; a message that was sent and then changed is edited in place.';
comment on column lifecycle.notifications.in_doubt is 'An attempt to send it ended without an answer: Slack may have it, so it is looked for before it is sent again.';
create unique index notifications_open_failure_idx on lifecycle.notifications (job)
    where kind = 'failure' and closed_at is null;
create index notifications_waiting_idx on lifecycle.notifications (id) where sent_version < version;

-- PostgreSQL's further lines quote rows, its first line a value that it cannot read; and neither the ledger nor Slack
-- holds personal data. Values go before lines are told apart: a value may hold the end of a line.
create function lifecycle.first_line(message text) returns text
language sql immutable set search_path = ''
as $$
    select left(split_part(btrim(
               regexp_replace(regexp_replace(regexp_replace(message,
                    '((invalid|out of range|malformed)[^"\n]*: )".*', '\1"..."'),
                    '(invalid value |time zone |value |^|: )".*"( for "| not recognized| is out of range)', '\1"..."\2'),
                    '[^[:space:]"''(<]+@[^[:space:]"'')>]+', '...', 'g'), E' \t\r\n'), E'\n', 1), 500)
$$;

-- The open message of a job tells its problems anew. Slack edits the message it has, so people see one, not many.
create function lifecycle.describe_problems(job text) returns void
language sql set search_path = ''
as $$
    update lifecycle.notifications n
       set content = n.content || jsonb_build_object('problems', p.problems), version = n.version + 1
      from (select jsonb_agg(jsonb_build_object('cause', o.cause, 'error', o.error, 'run_id', o.run_id,
                                                'times', o.times, 'since', o.since)
                             order by o.since, o.cause) as problems
              from lifecycle.open_problems o where o.job = describe_problems.job) p
     where n.job = describe_problems.job and n.kind = 'failure' and n.closed_at is null and p.problems is not null
$$;

-- One job, one conversation: the first fault opens a message, further faults and repetitions only change it, and
-- when the last cause is gone one message says so. An error of null means that this cause is well.
create function lifecycle.report_outcome(job text, cause text, error text, run_id text default null) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    closed lifecycle.notifications;
begin
    if report_outcome.error is null and not exists (
        select from lifecycle.open_problems p where p.job = report_outcome.job and p.cause = report_outcome.cause) then
        return;  -- nearly every outcome; it shall wait for nobody
    end if;
    -- A recovery and a new fault at the same moment would each describe the job without the other.
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.report_outcome.' || report_outcome.job, 0));
    if report_outcome.error is not null then
        insert into lifecycle.open_problems as p (job, cause, error, run_id)
        values (report_outcome.job, report_outcome.cause, lifecycle.first_line(report_outcome.error), report_outcome.run_id)
        on conflict (job, cause) do update
           set error = excluded.error, run_id = coalesce(excluded.run_id, p.run_id), times = p.times + 1,
               last_seen = excluded.last_seen;
        insert into lifecycle.notifications as n (kind, job, version, content)
        values ('failure', report_outcome.job, 0, '{"failures": 1}')
        on conflict (job) where kind = 'failure' and closed_at is null
           do update set content = n.content || jsonb_build_object('failures', (n.content ->> 'failures')::int + 1);
        perform lifecycle.describe_problems(report_outcome.job);
        return;
    end if;
    delete from lifecycle.open_problems p where p.job = report_outcome.job and p.cause = report_outcome.cause;
    if exists (select from lifecycle.open_problems p where p.job = report_outcome.job) then
        perform lifecycle.describe_problems(report_outcome.job);
        return;
    end if;
    update lifecycle.notifications n set closed_at = now(), version = n.version + 1
     where n.job = report_outcome.job and n.kind = 'failure' and n.closed_at is null
    returning n.* into closed;
    if found then
        insert into lifecycle.notifications (kind, job, content)
        values ('recovery', closed.job, jsonb_build_object('failure_id', closed.id, 'since', closed.created_at,
                                                           'failures', closed.content -> 'failures'));
    end if;
end $$;

-- What a database function has reported needs no second mention when Dagster's run that called it fails in turn: the
-- run is linked to it. False when nothing was reported since the run started.
create function lifecycle.link_run(job text, run_id text, started timestamptz) returns boolean
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
begin
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.report_outcome.' || link_run.job, 0));
    update lifecycle.open_problems p set run_id = link_run.run_id
     where p.job = link_run.job and p.last_seen >= link_run.started
       and p.cause <> '' and p.cause !~ '^(run of|check|stale) ';
    if not found then
        return false;
    end if;
    perform lifecycle.describe_problems(link_run.job);
    return true;
end $$;

-- The ledger and the message in one transaction. `details` are counts and names, never a value of a row; its
-- `seen_in_run` is the run that the message links to. `alert` is false for what passes by itself and is tried again,
-- such as a lock that stayed taken.
create function lifecycle.record_outcome(job text, cause text, error text, details jsonb default '{}',
                                         alert boolean default true)
returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
begin
    insert into public.audit_events (entity_type, entity_id, event_type, payload)
    values ('job', job, case when error is null then 'job_success' else 'job_failure' end,
            details || jsonb_build_object('object', nullif(cause, ''), 'error', lifecycle.first_line(error)));
    if error is null or alert then
        perform lifecycle.report_outcome(job, cause, error, details ->> 'seen_in_run');
    end if;
end $$;

-- Rotation started by psql or by Supabase's scheduler is heard of, too. A lock that stayed taken passes; Dagster
-- tries again and reports the run when it does not.
create or replace function lifecycle.audit_rotation(table_name text, action text, partition_name text, row_count bigint,
                                                    bytes bigint, outcome text, error text, started timestamptz)
returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
begin
    insert into public.audit_events (entity_type, entity_id, event_type, payload)
    values ('job', 'rotate_event_partitions', 'job_' || outcome,
            jsonb_build_object(
                'table', table_name, 'action', action, 'partition', partition_name, 'rows', row_count, 'bytes', bytes,
                'duration_ms', round(extract(epoch from clock_timestamp() - started) * 1000),
                'error', lifecycle.first_line(error)));
    if outcome = 'failure' then
        if error like 'no lock on %' then
            return;
        end if;
        perform lifecycle.report_outcome('rotate_event_partitions', table_name, coalesce(error, 'failed without a message'));
    elsif not exists (  -- One rotation skips somebody else's partition and does the rest: the table is not well then.
        select from lifecycle.event_table_policies p
         cross join lateral lifecycle.expired_event_partitions(p, now()) e
         where p.table_name = audit_rotation.table_name and e.marker is null) then
        perform lifecycle.report_outcome('rotate_event_partitions', table_name, null);
    end if;
end $$;

-- New functions are open to everyone until somebody says otherwise.
do $$
declare
    reader text;
begin
    for reader in
        select 'public' union all select quote_ident(r.rolname) from pg_roles r where r.rolname in ('anon', 'authenticated')
    loop
        execute format('revoke all on table lifecycle.open_problems, lifecycle.notifications from %s', reader);
        execute format('revoke all on function lifecycle.first_line(text), lifecycle.describe_problems(text),
                            lifecycle.report_outcome(text, text, text, text), lifecycle.link_run(text, text, timestamptz),
                            lifecycle.record_outcome(text, text, text, jsonb, boolean) from %s', reader);
    end loop;
end $$;
