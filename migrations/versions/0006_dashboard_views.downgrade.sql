-- The application's own definitions come back, as they stand now: a table that was converted meanwhile is read under
-- its name. The materialized view is filled and indexed again, with the grants of the view that stood for it.
do $$
declare
    original lifecycle.original_relations;
    found    pg_class;
    index_definition text;
begin
    for original in select o.* from lifecycle.original_relations o order by o.name loop
        select * into found from pg_class where oid = to_regclass(format('public.%I', original.name));
        if original.kind = 'missing' then
            execute format('drop view if exists public.%I', original.name);
            continue;
        elsif original.kind = 'm' then
            execute format('alter view public.%I rename to lifecycle_former', original.name);
            execute format('create materialized view public.%I %s as %s', original.name,
                           case when original.options <> '{}' then 'with (' || array_to_string(original.options, ', ') || ')' else '' end,
                           pg_get_viewdef(to_regclass(format('lifecycle.%I', 'original_' || original.name))));
            foreach index_definition in array original.indexes loop
                execute index_definition;
            end loop;
            perform lifecycle.copy_access(found, original.name);
            drop view public.lifecycle_former;
            if original.comment is not null then
                execute format('comment on materialized view public.%I is %L', original.name, original.comment);
            end if;
        else
            execute format('create or replace view public.%I %s as %s', original.name,
                           case when original.options <> '{}' then 'with (' || array_to_string(original.options, ', ') || ')' else '' end,
                           pg_get_viewdef(to_regclass(format('lifecycle.%I', 'original_' || original.name))));
        end if;
        execute format('drop view lifecycle.%I', 'original_' || original.name);
    end loop;
end $$;
create or replace function public.run_daily_maintenance() returns text
language plpgsql
set search_path = ''
as $$
declare
    policy  lifecycle.event_table_policies;
    deleted bigint;
    report  text[] := '{}';
begin
    for policy in select p.* from lifecycle.event_table_policies p order by p.table_name loop
        if lifecycle.event_table(policy) is null then
            report := report || format('%s: does not exist', policy.table_name);
            continue;
        end if;
        if (select c.relkind from pg_catalog.pg_class c where c.oid = lifecycle.event_table(policy)) = 'r' then
            execute format('delete from %s where %I < $1', lifecycle.event_table(policy), policy.time_column)
              using now() - policy.retention;
            get diagnostics deleted = row_count;
            report := report || format('%s: %s rows deleted', policy.table_name, deleted);
        else
            report := report || format('%s: rotated by month', policy.table_name);
        end if;
        execute format('analyze %s', lifecycle.event_table(policy));
    end loop;
    if (select c.relispopulated from pg_catalog.pg_class c where c.oid = to_regclass('public.account_function_usage')) then
        refresh materialized view concurrently public.account_function_usage;
    else
        refresh materialized view public.account_function_usage;
    end if;
    report := report || 'account_function_usage: refreshed'::text;
    return array_to_string(report, '; ');
end $$;
drop function lifecycle.replace_materialized_view(text, text[], text);
drop function lifecycle.replace_view(text, text[], text);
drop function lifecycle.copy_access(pg_class, text);
drop function lifecycle.let_owner_read(text);
drop function lifecycle.keep_original(text);
drop table lifecycle.original_relations;
