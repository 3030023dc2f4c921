-- The declared tables that a name means: schema.name, or the name alone where only one schema has it. Null means all.
create or replace function lifecycle.event_table_policies_of(only_table text)
returns setof lifecycle.event_table_policies
language plpgsql stable set search_path = ''
as $$
declare
    found_tables text[];
begin
    select array_agg(format('%I.%I', p.schema_name, p.table_name) order by p.schema_name) into found_tables
      from lifecycle.event_table_policies p
     where only_table is null
        or only_table in (p.table_name, format('%I', p.table_name), format('%I.%I', p.schema_name, p.table_name),
                          p.schema_name || '.' || p.table_name);
    if found_tables is null then
        raise exception 'no event table named % is declared', coalesce(only_table, '(any)')
            using errcode = 'undefined_table',
                  hint = 'Declare it in event_tables.yaml and run lifecycle migrate, or correct the name.';
    elsif only_table is not null and cardinality(found_tables) > 1 then
        raise exception '% can be any of %', only_table, array_to_string(found_tables, ', ')
            using errcode = 'ambiguous_alias', hint = 'Write schema.name.';
    end if;
    return query
        select p.* from lifecycle.event_table_policies p
         where format('%I.%I', p.schema_name, p.table_name) = any (found_tables)
         order by p.schema_name, p.table_name;
end $$;

-- One thing that rotation did, in the ledger; a failure is told to people too. A lock that stayed taken passes:
-- Dagster tries again and reports the run when it does not.
create or replace function lifecycle.audit_rotation(table_name text, action text, partition_name text, row_count bigint,
                                                    bytes bigint, outcome text, error text, started timestamptz)
returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
begin
    perform lifecycle.write_ledger('rotate_event_partitions', outcome = 'success',
        jsonb_build_object(
            'table', table_name, 'action', action, 'partition', partition_name, 'rows', row_count, 'bytes', bytes,
            'duration_ms', lifecycle.milliseconds_since(started), 'error', lifecycle.first_line(error)));
    if outcome = 'failure' and coalesce(error, '') not like 'no lock on %' then
        perform lifecycle.report_outcome('rotate_event_partitions', table_name, coalesce(error, 'failed without a message'));
    end if;
end $$;

-- Months ahead are made, months past retention dropped, the default partition emptied as far as it can be.
-- One row for each thing done, each written to the ledger; a failure is a row and does not stop other tables.
create or replace function public.rotate_event_partitions(as_of timestamptz default now(), only_table text default null)
returns table (table_name text, action text, partition_name text, row_count bigint, bytes bigint,
               outcome text, error text)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    policy  lifecycle.event_table_policies;
    called  text;
    result  record;
    started timestamptz;
    failed  boolean;
    holds_locks boolean := false;
begin
    if as_of is null or not isfinite(as_of) then
        raise exception 'as_of must be a point in time, not %', coalesce(as_of::text, 'null')
            using errcode = 'invalid_parameter_value', hint = 'Leave it out to rotate as of now.';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('lifecycle.rotate_event_partitions', 0)) then
        raise exception 'rotate_event_partitions already runs in another session'
            using errcode = 'lock_not_available', hint = 'Wait until it is done; nothing was changed.';
    end if;
    for policy in select p.* from lifecycle.event_table_policies_of(only_table) p loop
        called := format('%I.%I', policy.schema_name, policy.table_name);
        started := clock_timestamp();
        failed := false;
        if holds_locks then
            -- Locks last until the transaction ends: nobody shall wait for one table while we retry another.
            policy.lock_tries := 1;
        end if;
        begin
            for result in select r.* from lifecycle.rotate_event_table(policy, as_of) r loop
                perform lifecycle.audit_rotation(result.table_name, result.action, result.partition_name,
                    result.row_count, result.bytes, result.outcome, result.error, started);
                failed := failed or result.outcome = 'failure';
                holds_locks := holds_locks or result.action in ('create', 'move', 'drop');
                return query select result.table_name, result.action, result.partition_name, result.row_count,
                    result.bytes, result.outcome, result.error;
            end loop;
        exception when others then
            failed := true;
            perform lifecycle.audit_rotation(called, 'skipped', null, 0, 0, 'failure', sqlerrm, started);
            return query select called, 'skipped', null::text, 0::bigint, 0::bigint, 'failure', sqlerrm;
        end;
        if not failed then
            perform lifecycle.report_outcome('rotate_event_partitions', called, null);
        end if;
    end loop;
end $$;
