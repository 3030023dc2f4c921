-- Partitioned tables would keep working, but nothing would rotate them any more: first they become plain tables again.
do $$
begin
    if exists (select from pg_class c where c.relnamespace = 'event_partitions'::regnamespace and c.relkind in ('r', 'p')) then
        raise exception 'schema event_partitions still holds tables'
            using hint = 'Turn the event tables back into plain tables first: docs/how-to/undo.md.';
    end if;
end $$;
drop table lifecycle.partition_conversions, lifecycle.event_table_policies;
drop schema event_partitions;
