-- What the search cannot read (damaged pages, a type that raises, a refusal): named with its cure, while everything else is
-- searched. Nobody gets a receipt before it could be read, and nothing else is done again for whoever waits for it.

-- A query that reads these columns of a relation to their ends.
create or replace function lifecycle.reading(relation regclass, names text[], types text[]) returns text
language sql stable set search_path = ''
as $$
    select format('select count(strpos(concat_ws('' '', %s), ''@'')) from %s t',
                  coalesce(string_agg(lifecycle.searched_expression(c.name, c.type), ', '), 'null'), relation)
      from unnest(names, types) c(name, type)
$$;

-- The searched columns that cannot be read; null when all can, an empty array when none can.
create or replace function lifecycle.unread_columns(relation regclass) returns text[]
language plpgsql set search_path = '' set row_security = off
as $$
declare
    names   text[];
    types   text[];
    unread  text[] := '{}';
begin
    select array_agg(s.column_name order by s.column_name), array_agg(s.type_name order by s.column_name)
      into names, types from lifecycle.searched_columns(unread_columns.relation) s;
    for i in 1 .. coalesce(cardinality(names), 0) loop
        begin
            execute lifecycle.reading(relation, names[i:i], types[i:i]);
        exception when others then
            if lifecycle.is_transient(sqlstate) then
                raise;
            end if;
            unread := unread || names[i];
        end;
    end loop;
    return case when unread = names then '{}' else nullif(unread, '{}') end;
end $$;

-- A relation that the search of a batch could not read, and what to do about it. `error` is what may be told of the reason.
create or replace function lifecycle.note_unread(batch uuid, relation regclass, code text, error text) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    searched constant text := (select format('%I.%I', n.nspname, c.relname) from pg_class c
                                 join pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
    columns  constant text := array_to_string(lifecycle.unread_columns(relation), ', ');
begin
    insert into lifecycle.erasure_unread as u (job_id, table_name, error)
    select j.id, searched, format('%s could not be searched (%s); %s; nobody is told that they are erased before it can be read',
               searched || case when columns <> '' then format(' (column %s)', columns) else '' end, error,
               case when code = '42501' then format('let the role %s read all its rows', current_user)
                    when code ~ '^(XX|58)' then 'it is damaged: restore its rows from a backup, or delete those that cannot be read'
                    else 'mend what raises this when a row is read' end)
      from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased' and searched is not null
    on conflict (job_id, table_name) do update set error = excluded.error;
end $$;

-- Why a job waits for relations that could not be read; null when it does not.
create or replace function lifecycle.unread_error(job bigint) returns text
language sql stable set search_path = ''
as $$ select string_agg(u.error, '. ' order by u.table_name) from lifecycle.erasure_unread u where u.job_id = job $$;

-- Of a batch those who are erased and waited for nothing but what could not be read wait on while it cannot be: reading that
-- again is all that it costs.
create or replace function lifecycle.wait_for_unread(batch uuid) returns void
language plpgsql set search_path = '' set row_security = off
as $$
#variable_conflict use_variable
declare
    unread  record;
    waiting record;
begin
    for unread in
        select u.table_name, array_agg(u.job_id) as jobs, to_regclass(u.table_name) as relation
          from lifecycle.erasure_unread u join lifecycle.deletion_jobs j on j.id = u.job_id
         where j.batch_id = batch group by 1
    loop
        begin
            if unread.relation is not null then
                execute (select lifecycle.reading(unread.relation, array_agg(s.column_name), array_agg(s.type_name))
                           from lifecycle.searched_columns(unread.relation) s);
            end if;
            delete from lifecycle.erasure_unread u where u.job_id = any (unread.jobs) and u.table_name = unread.table_name;
        exception when others then
            if lifecycle.is_transient(sqlstate) then
                raise;
            end if;
        end;
    end loop;
    for waiting in
        select j.last_error as error, array_agg(j.id) as jobs from lifecycle.deletion_jobs j
         where j.batch_id = batch and j.state = 'running' and j.erased_at is not null
           and j.last_error = lifecycle.unread_error(j.id)
         group by 1
    loop
        perform lifecycle.fail_deletion_jobs(waiting.jobs, waiting.error, false);
    end loop;
end $$;
