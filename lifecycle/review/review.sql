-- Measuring takes the weakest lock on one table after the other, so it may stand behind an ALTER TABLE: it gives up
-- rather than waiting for long. Rows of the day are written anew, so that a dropped table leaves none behind. Once a day what
-- is remembered of jobs and runs goes, too, when its time is past.
create or replace function lifecycle.record_storage() returns table (relation text, bytes bigint, row_estimate bigint)
language plpgsql
set search_path = '' set lock_timeout = '2s'
as $$
#variable_conflict use_column
declare
    kept_days constant int := 400;
    today     constant date := (now() at time zone 'UTC')::date;
    started   constant timestamptz := clock_timestamp();
    measured  bigint;
begin
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.record_storage', 0));
    delete from lifecycle.storage_history h where h.measured_on = today or h.measured_on < today - kept_days;
    insert into lifecycle.storage_history (measured_on, relation, bytes, row_estimate)
    select today, format('%I.%I', n.nspname, c.relname), sizes.bytes, sizes.row_estimate
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     cross join lateral (
           select coalesce(sum(pg_total_relation_size(part.oid)), 0)::bigint as bytes,
                  coalesce(sum(greatest(part.reltuples, 0)), 0)::bigint as row_estimate
             from pg_catalog.pg_class part
            where part.oid = c.oid
               or c.relkind = 'p' and part.oid in (select t.relid from pg_catalog.pg_partition_tree(c.oid) t
                                                    where t.isleaf)) sizes
     where (n.nspname in ('lifecycle', 'event_partitions')
            or n.nspname in (select s.schema_name from lifecycle.storage_schemas s))
       and c.relkind in ('r', 'p', 'm') and not c.relispartition and c.relpersistence <> 't';
    get diagnostics measured = row_count;
    delete from lifecycle.job_history h where h.at < now() - interval '13 months';
    delete from lifecycle.recorded_runs r where r.recorded_at < now() - interval '90 days';
    perform lifecycle.record_outcome('record_storage', 'storage_history', null, jsonb_build_object(
        'rows', measured, 'duration_ms', lifecycle.milliseconds_since(started)));
    return query select h.relation, h.bytes, h.row_estimate from lifecycle.storage_history h
                  where h.measured_on = today order by h.bytes desc, h.relation;
end $$;

-- Deletion requests that are not carried out, each with its deadline, where personal data is declared: what the weekly
-- review, the check of the deadline and `lifecycle erasure status` count. A failed job is tried again until its tries are
-- used up: then it needs a person. A request that no job was made of yet, and that says itself that it failed, needs one,
-- too. `told` is why it waits, `until` the end of a hold or the next try.
create or replace function lifecycle.deletions_asked_for()
returns table (requested_at timestamptz, due_at timestamptz, open boolean, given_up boolean,
               request_id text, state text, until timestamptz, told text)
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
declare
    policy record;
begin
    if to_regclass('lifecycle.deletion_jobs') is null then
        return;
    end if;
    select p.deadline, p.calendar, p.tries_until_failed into policy from lifecycle.erasure_policy p;
    if not found then
        return;
    end if;
    return query select j.seen_at, j.due_at, true, j.state = 'failed' and j.attempts >= policy.tries_until_failed,
                        j.request_id, j.state,
                        case j.state when 'held' then j.hold_until when 'queued' then greatest(j.not_before, j.next_attempt_at)
                                     when 'failed' then j.next_attempt_at end,
                        coalesce(j.hold_reason, j.last_error)
                   from lifecycle.deletion_jobs j where j.state not in ('verified', 'cancelled');
    begin
        return query execute lifecycle.request_statement(
            'select r.%5$I::timestamptz, (r.%5$I::timestamptz at time zone $2 + $1) at time zone $2,
                    r.%4$I <> %13$L, r.%4$I = %13$L, r.%2$I::text,
                    case when r.%4$I = %13$L then ''failed'' else ''not enqueued yet'' end, null::timestamptz,
                    case when r.%4$I = %13$L
                         then concat(''it failed before this project came; to try it: update '', %1$L, '' set '', quote_ident(%4$L),
                                     '' = '', quote_literal(%10$L), '' where '', quote_ident(%2$L), '' = '',
                                     quote_literal(r.%2$I::text), '';'') end
               from %1$s r
              where r.%4$I in (%10$L, %11$L, %13$L)
                and not exists (select from lifecycle.deletion_jobs j where j.request_id = r.%2$I::text)
                and not exists (select from lifecycle.deletion_jobs j
                                 where j.account_key = r.%3$I::text and j.state not in (''verified'', ''cancelled''))')
            using policy.deadline, policy.calendar;
    exception when undefined_table or undefined_column then
        null;  -- what the declarations lack is told by `lifecycle check`
    end;
end $$;
