drop table lifecycle.access_changes, lifecycle.accepted_access;

do $$
begin
    if obj_description('private'::regnamespace, 'pg_namespace') like 'lifecycle: %' then
        drop schema private;
    end if;
exception when dependent_objects_still_exist then
    raise notice 'schema private stays: it holds objects of others';
end $$;

-- The role is the whole server's: it stays while another database grants it anything.
do $$
begin
    revoke usage on schema public from ops;
    drop role ops;
exception when dependent_objects_still_exist or insufficient_privilege then
    raise notice 'role ops stays: it holds privileges elsewhere, or another role made it';
end $$;
