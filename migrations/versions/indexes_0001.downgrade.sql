-- Indexes that carry our comment; those of the application that serve in their place have none.
do $$
declare
    found record;
begin
    for found in
        select c.oid::regclass as index from pg_index i join pg_class c on c.oid = i.indexrelid
         where obj_description(c.oid, 'pg_class') like 'lifecycle: %' and not i.indisunique
    loop
        execute format('drop index %s', found.index);
    end loop;
end $$;
-- The extension stays, since others may use it by now.
drop table lifecycle.index_plans;
