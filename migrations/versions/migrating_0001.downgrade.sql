drop table lifecycle.own_functions;
drop table lifecycle.sql_files;
drop table lifecycle.migrated_declarations;
drop table lifecycle.releases;

-- Functions of the application's own folder may have been its last.
do $$
begin
    if obj_description(to_regnamespace('private'), 'pg_namespace') like 'lifecycle: %' then
        drop schema private;
    end if;
exception when dependent_objects_still_exist then
    raise notice 'schema private stays: it holds objects of others';
end $$;
