-- The way back. Partitioned tables stay as they are and keep working, but nothing rotates them any more;
-- docs/how-to/undo.md turns one back into a plain table first. Refuses while partitions exist.
do $$
begin
    if exists (select from pg_class c where c.relnamespace = 'event_partitions'::regnamespace and c.relkind in ('r', 'p')) then
        raise exception 'schema event_partitions still holds tables'
            using hint = 'Turn the event tables back into plain tables first: docs/how-to/undo.md.';
    end if;
end $$;
drop function public.rotate_event_partitions(timestamptz, text);
do $$
declare
    original lifecycle.original_functions;
    executor text;
begin
    select * into original from lifecycle.original_functions where signature = 'public.run_daily_maintenance()';
    if found then
        execute original.definition;
        foreach executor in array original.executors loop
            execute format('grant execute on function public.run_daily_maintenance() to %s', executor);
        end loop;
    else
        drop function public.run_daily_maintenance();
    end if;
end $$;
drop function lifecycle.audit_rotation(text, text, text, bigint, bigint, text, text, timestamptz);
drop function lifecycle.rotate_event_table(lifecycle.event_table_policies, timestamptz);
drop function lifecycle.copy_replica_identity(regclass, regclass);
drop function lifecycle.build_partition(regclass, text, text, text, timestamptz, timestamptz);
drop function lifecycle.close_to_api(regclass);
drop function lifecycle.expired_event_partitions(lifecycle.event_table_policies, timestamptz);
drop function lifecycle.missing_event_months(lifecycle.event_table_policies, timestamptz);
drop function lifecycle.first_kept_month(lifecycle.event_table_policies, timestamptz);
drop function lifecycle.event_table(lifecycle.event_table_policies);
drop function lifecycle.event_partitions_of(regclass);
drop table lifecycle.original_functions, lifecycle.partition_conversions, lifecycle.event_table_policies;
drop schema event_partitions;
