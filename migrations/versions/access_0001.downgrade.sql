-- Policies and grants as they were before `lifecycle migrate` changed them; the newest change goes back first.
do $$
declare
    found record;
begin
    for found in
        select p.polname, p.polrelid::regclass as relation from pg_policy p
         where p.polname like 'lifecycle: %'
    loop
        execute format('drop policy %I on %s', found.polname, found.relation);
    end loop;
    for found in
        select c.*, case when c.object like '%)' then 'routine' else 'table' end as what,
               case when c.subject = 'public' then 'public' else quote_ident(c.subject) end as grantee
          from lifecycle.access_changes c
         where case when c.object like '%)' then to_regprocedure(c.object)::oid else to_regclass(c.object)::oid end is not null
           and not c.repaired
           and (c.change not in ('revoke', 'grant', 'grant option') or c.subject = 'public' or to_regrole(quote_ident(c.subject)) is not null)
         order by c.id desc
    loop
        case found.change
            when 'revoke', 'grant option' then
                execute format('grant %s on %s %s to %s %s', found.detail, found.what, found.object, found.grantee,
                               case when found.grantable then 'with grant option' else '' end);
            when 'grant' then
                execute format('revoke %s on %s %s from %s', found.detail, found.what, found.object, found.grantee);
            when 'row security' then
                execute format('alter table %s disable row level security', found.object);
            when 'policy roles' then
                if exists (select from pg_policy p where p.polrelid = found.object::regclass and p.polname = found.subject) then
                    execute format('alter policy %I on %s to %s', found.subject, found.object, found.detail);
                end if;
        end case;
    end loop;
end $$;
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
