-- PostgreSQL's further lines quote rows, its first line a value that it cannot read; and neither the ledger nor Slack
-- holds personal data. Values go before lines are told apart: a value may hold the end of a line.
create or replace function lifecycle.first_line(message text) returns text
language sql immutable set search_path = ''
as $$
    select left(split_part(btrim(
               regexp_replace(regexp_replace(regexp_replace(message,
                    '((invalid|out of range|malformed)[^"\n]*: )".*', '\1"..."'),
                    '(invalid value |time zone |value |^|: )".*"( for "| not recognized| is out of range)', '\1"..."\2'),
                    '[^[:space:]"''(<]+@[^[:space:]"'')>]+', '...', 'g'), E' \t\r\n'), E'\n', 1), 500)
$$;

-- The open message of a job tells its problems anew. Slack edits the message it has, so people see one, not many.
create or replace function lifecycle.describe_problems(job text) returns void
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
create or replace function lifecycle.report_outcome(job text, cause text, error text, run_id text default null) returns void
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
create or replace function lifecycle.link_run(job text, run_id text, started timestamptz) returns boolean
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

-- The ledger: the application's as declared, ours where none is; null while the declared one does not exist.
create or replace function lifecycle.ledger() returns regclass
language sql stable set search_path = ''
as $$ select pg_catalog.to_regclass(pg_catalog.format('%I.%I', p.schema_name, p.table_name)) from lifecycle.ledger_policy p $$;

-- A statement over the ledger (1: table, 2: kind, 3: subject, 4: event, 5: payload, 6: written at), written
-- with format's numbered places; null without a ledger.
create or replace function lifecycle.ledger_statement(template text) returns text
language sql stable set search_path = ''
as $$
    select format(template, l.ledger, p.kind_column, p.subject_column, p.event_column, p.payload_column, p.at_column)
      from lifecycle.ledger_policy p cross join lifecycle.ledger() l(ledger)
     where l.ledger is not null
$$;

-- One row of the ledger. Without a ledger nothing is lost but history: what fails is told all the same.
create or replace function lifecycle.write_ledger(job text, success boolean, payload jsonb) returns void
language plpgsql set search_path = ''
as $$
declare
    statement constant text := lifecycle.ledger_statement(
        'insert into %1$s (%2$I, %3$I, %4$I, %5$I) values (''job'', $1, $2, $3)');
begin
    if statement is not null then
        execute statement using job, case when success then 'job_success' else 'job_failure' end, payload;
    end if;
end $$;

-- What jobs wrote there since a moment, under names of ours.
create or replace function lifecycle.ledger_entries(since timestamptz, until timestamptz default 'infinity')
returns table (job text, event text, payload jsonb, written_at timestamptz)
language plpgsql stable set search_path = ''
as $$
declare
    statement constant text := lifecycle.ledger_statement(
        'select l.%3$I::text, l.%4$I::text, l.%5$I::jsonb, l.%6$I::timestamptz from %1$s l
          where l.%2$I = ''job'' and l.%4$I in (''job_success'', ''job_failure'') and l.%6$I >= $1 and l.%6$I < $2');
begin
    if statement is not null then
        return query execute statement using since, until;
    end if;
end $$;

-- By the clock on the wall, not by the time of the transaction.
create or replace function lifecycle.milliseconds_since(started timestamptz) returns bigint
language sql volatile set search_path = ''
as $$ select pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - started) * 1000)::bigint $$;

-- A run of Dagster in the ledger, once, however many sensors look. True when this call wrote it.
create or replace function lifecycle.write_run(job text, success boolean, payload jsonb, error text) returns boolean
language plpgsql set search_path = ''
as $$
declare
    run constant text := payload ->> 'run_id';
begin
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.audit.' || run, 0));
    if exists (select from lifecycle.recorded_runs r where r.run_id = run) then
        return false;
    end if;
    insert into lifecycle.recorded_runs (run_id) values (run);
    perform lifecycle.write_ledger(job, success, case when error is null then payload
        else payload || jsonb_build_object('error', lifecycle.first_line(error)) end);
    return true;
end $$;

-- The ledger and the message in one transaction. `details` are counts and names, never a value of a row; its
-- `seen_in_run` is the run that the message links to. `alert` is false for what passes by itself and is tried again,
-- such as a lock that stayed taken.
create or replace function lifecycle.record_outcome(job text, cause text, error text, details jsonb default '{}',
                                         alert boolean default true)
returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
begin
    perform lifecycle.write_ledger(job, error is null,
        details || jsonb_build_object('object', nullif(cause, ''), 'error', lifecycle.first_line(error)));
    if error is null or alert then
        perform lifecycle.report_outcome(job, cause, error, details ->> 'seen_in_run');
    end if;
end $$;
