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
    attempts        int not null default 0,
    next_attempt_at timestamptz not null default now(),
    claimed_until   timestamptz,
    last_error      text
);
comment on table lifecycle.notifications is 'Outbox of messages for people. Waiting while sent_version < version; a message that was sent and then changed is edited in place.';
create unique index notifications_open_failure_idx on lifecycle.notifications (job)
    where kind = 'failure' and closed_at is null;
create index notifications_waiting_idx on lifecycle.notifications (id) where sent_version < version;

-- PostgreSQL's further lines quote rows, and neither the ledger nor Slack holds personal data.
create function lifecycle.first_line(message text) returns text
language sql immutable set search_path = ''
as $$ select left(split_part(btrim(message, E' \t\r\n'), E'\n', 1), 500) $$;

-- One job, one conversation: the first fault opens a message, further faults and repetitions only change it, and
-- when the last cause is gone one message says so. An error of null means that this cause is well.
create function lifecycle.report_outcome(job text, cause text, error text, run_id text default null) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    failing constant boolean := report_outcome.error is not null;
    closed  lifecycle.notifications;
begin
    if failing then
        insert into lifecycle.open_problems as p (job, cause, error, run_id)
        values (report_outcome.job, report_outcome.cause, lifecycle.first_line(report_outcome.error), report_outcome.run_id)
        on conflict (job, cause) do update
           set error = excluded.error, run_id = coalesce(excluded.run_id, p.run_id), times = p.times + 1,
               last_seen = now();
        insert into lifecycle.notifications as n (kind, job)
        values ('failure', report_outcome.job)
        on conflict (job) where kind = 'failure' and closed_at is null do update set version = n.version + 1;
    else
        delete from lifecycle.open_problems p where p.job = report_outcome.job and p.cause = report_outcome.cause;
        if not found then
            return;
        end if;
    end if;
    update lifecycle.notifications n
       set content = jsonb_build_object('problems', p.problems), version = n.version + (not failing)::int
      from (select jsonb_agg(jsonb_build_object('cause', p.cause, 'error', p.error, 'run_id', p.run_id,
                                                'times', p.times, 'since', p.since)
                             order by p.since, p.cause) as problems
              from lifecycle.open_problems p where p.job = report_outcome.job) p
     where n.job = report_outcome.job and n.kind = 'failure' and n.closed_at is null and p.problems is not null;
    if not failing and not exists (select from lifecycle.open_problems p where p.job = report_outcome.job) then
        update lifecycle.notifications n set closed_at = now()
         where n.job = report_outcome.job and n.kind = 'failure' and n.closed_at is null
        returning n.* into closed;
        if found then
            insert into lifecycle.notifications (kind, job, content)
            values ('recovery', closed.job, jsonb_build_object('failure_id', closed.id, 'since', closed.created_at));
        end if;
    end if;
end $$;

-- The ledger and the message in one transaction. `details` are counts and names, never a value of a row. `alert`
-- is false for what passes by itself and is tried again, such as a lock that stayed taken.
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
        perform lifecycle.report_outcome(job, cause, error);
    end if;
end $$;

-- Rotation started by psql or by Supabase's scheduler is heard of, too. A lock that stayed taken passes; Dagster
-- tries again and reports the run when it does not.
create or replace function lifecycle.audit_rotation(table_name text, action text, partition_name text, row_count bigint,
                                                    bytes bigint, outcome text, error text, started timestamptz)
returns void
language sql set search_path = ''
as $$
    insert into public.audit_events (entity_type, entity_id, event_type, payload)
    values ('job', 'rotate_event_partitions', 'job_' || outcome,
            pg_catalog.jsonb_build_object(
                'table', table_name, 'action', action, 'partition', partition_name, 'rows', row_count, 'bytes', bytes,
                'duration_ms', pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - started) * 1000),
                'error', error));
    select lifecycle.report_outcome('rotate_event_partitions', table_name,
                                    case when outcome = 'failure' then coalesce(error, 'failed without a message') end)
     where outcome = 'success' or error not like 'no lock on %';
$$;
