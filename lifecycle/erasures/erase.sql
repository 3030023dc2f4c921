-- What is done to the rows of a person, step by step, and the sign-in user.

-- What may be told of an error: PostgreSQL's own words without the values that they quote, and ours. What somebody
-- else's function raises may be a row's values, so only the place is told.
create or replace function lifecycle.told_error(code text, message text, context text, relation text, constraint_name text) returns text
language sql stable set search_path = ''
as $$
    select case when code = '55P03'
            -- PostgreSQL does not say what it waited for, but who holds what at this moment.
            then format('a lock on %s stayed taken; end that transaction, or wait: it is tried again',
                        coalesce((select string_agg(distinct format('%s (pid %s)', l.relation::regclass, l.pid), ', ')
                                    from pg_locks l join lifecycle.erasure_steps s on lifecycle.reachable(s.table_name) = l.relation
                                   where l.granted and l.pid <> pg_backend_pid()
                                     and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')),
                                 'rows of another transaction'))
            when context !~ '^PL/pgSQL function lifecycle\.' and (context ~ '^[^\n]* at RAISE' or code like 'P%')
            then format('%s raised an error (SQLSTATE %s)',
                        coalesce(substring(context from '^(PL/pgSQL function [^ (]+)'), 'a function of the application'), code)
            else lifecycle.redacted(lifecycle.first_line(message)) end
       || case when relation <> '' then ', table ' || relation else '' end
       || case when constraint_name <> '' then ', constraint ' || constraint_name else '' end
$$;

-- An expression over `t` for 32 letters and digits that no other row has, the same whenever it is asked, and by which nobody
-- can tell the row: what a column gets that must not hold a value twice.
create or replace function lifecycle.letters_of_row(relation regclass) returns text
language plpgsql stable set search_path = ''
as $$
declare
    key text := (select string_agg(format('t.%I', a.attname), ', ' order by k.place)
                   from pg_index i cross join unnest(i.indkey) with ordinality k(number, place)
                   join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
                  where i.indrelid = relation and i.indisprimary);
begin
    if key is null then
        raise exception 'table % has no primary key, and the map of personal data asks for a value that no other row has', relation
            using errcode = 'undefined_object', hint = 'Give it one, or correct personal_data.yaml and run lifecycle migrate.';
    end if;
    return format('left(encode(lifecycle.keyed_hash(row(%s)::text), ''hex''), 32)', key);
end $$;

-- The assignment of one column: `t.column` becomes what the map says.
create or replace function lifecycle.replacement(relation regclass, column_name text, rule jsonb) returns text
language plpgsql stable set search_path = ''
as $$
declare
    type text := (select format_type(a.atttypid, a.atttypmod) from pg_attribute a
                   where a.attrelid = relation and a.attname = column_name and not a.attisdropped);
begin
    if type is null then
        raise exception 'column % of % is on the map of personal data and does not exist', column_name, relation
            using errcode = 'undefined_column', hint = 'Correct personal_data.yaml and run lifecycle migrate.';
    end if;
    return case rule ->> 'with'
        when 'null' then 'null'
        when 'value' then format('%L::%s', rule ->> 'value', type)
        when 'unique' then format('replace(%L, ''*'', %s)::%s', rule ->> 'value', lifecycle.letters_of_row(relation), type)
        when 'redacted' then format(case when type in ('json', 'jsonb') then 'lifecycle.redacted_document(t.%I::jsonb)::%s'
                                         else 'lifecycle.redacted(t.%I::text)::%s' end, column_name, type)
        when 'location' then format('lifecycle.location_only(t.%I::text)::%s', column_name, type)
        when 'allowed' then format('lifecycle.allowed_only(t.%I::jsonb, %L::text[])::%s', column_name,
                                   array(select jsonb_array_elements_text(rule -> 'keys')), type)
    end;
end $$;

-- A step as a statement over one table or partition: $1 are keys, $2 jobs. It counts per job what it did, or, when
-- `counting`, returns what there is to do. A row that is as it should be is left alone.
create or replace function lifecycle.erasure_statement(step lifecycle.erasure_steps, relation regclass, counting boolean) returns text
language plpgsql stable set search_path = ''
as $$
declare
    key_type constant text := lifecycle.type_of_column(relation, step.key_column);
    keys     text := format('unnest($1::text[]::%s[]) k(key)', key_type);
    chosen   text := format('t.%I = k.key', step.key_column) || case when step.unowned_column is null then '' else format(' and t.%I is null', step.unowned_column) end
        || lifecycle.but_what_jobs_wrote(relation);
    changes  text;
    held     text;
    wanted   text;
begin
    if key_type is null then
        raise exception 'column % of % is on the map of personal data and does not exist', step.key_column, relation
            using errcode = 'undefined_column', hint = 'Correct personal_data.yaml and run lifecycle migrate.';
    end if;
    if step.action = 'scrub' then
        select string_agg(format('%I = %s', r.key, w.new), ', '), string_agg(format('t.%I', r.key), ', '),
               string_agg(format('(%s)', w.new), ', ')
          into changes, held, wanted
          from jsonb_each(step.replacements) r
         cross join lateral (select lifecycle.replacement(relation, r.key, r.value) as new) w
         where r.key <> all (step.optional_columns) or lifecycle.type_of_column(relation, r.key) is not null;
        if not step.replacements ? step.key_column then
            -- Compared as text: json has no equality.
            chosen := format('%s and row(%s)::text is distinct from row(%s)::text', chosen, held, wanted);
        end if;
    end if;
    if counting then
        return format('select j.job_id, count(*) from %s t, %s, lifecycle.erasure_keys j
                        where %s and j.kind = %L and j.key = k.key::text and j.job_id = any ($2) group by 1',
                      relation, keys, chosen, step.key_kind);
    end if;
    return format('with done as (%s returning k.key::text as key), counted as (select d.key, count(*) as rows from done d group by 1)
                   insert into lifecycle.erasure_counts as c (job_id, table_name, action, rows)
                   select j.job_id, %L, %L, sum(d.rows) from counted d
                     join lifecycle.erasure_keys j on j.kind = %L and j.key = d.key and j.job_id = any ($2)
                    group by 1
                   on conflict (job_id, table_name, action) do update set rows = c.rows + excluded.rows',
                  case step.action
                      when 'delete' then format('delete from %s t using %s where %s', relation, keys, chosen)
                      else format('update %s t set %s from %s where %s', relation, changes, keys, chosen) end,
                  step.table_name, step.action, step.key_kind);
end $$;

-- The tables that hold rows of these keys: of a partitioned one only the partitions that do, or the whole of it once
-- those are so many that one statement is cheaper.
create or replace function lifecycle.relations_of_step(step lifecycle.erasure_steps, keys text[]) returns regclass[]
language plpgsql stable set search_path = ''
as $$
declare
    parent constant regclass := lifecycle.reachable(step.table_name);
    found  regclass[];
begin
    if keys is null or parent is null and not lifecycle.is_there(step.table_name) then
        return '{}';
    elsif parent is null then
        raise exception 'table % is on the map of personal data and this role may not read it', step.table_name
            using errcode = 'insufficient_privilege', hint = 'Grant it, or correct personal_data.yaml and run lifecycle migrate.';
    elsif (select c.relkind from pg_class c where c.oid = parent) <> 'p' or cardinality(keys) > 20 then
        return array[parent];
    end if;
    execute format('select array_agg(distinct t.tableoid::regclass) from %s t where t.%I = any ($1::text[]::%s[])%s', parent,
                   step.key_column, lifecycle.type_of_column(parent, step.key_column),
                   case when step.unowned_column is null then '' else format(' and t.%I is null', step.unowned_column) end)
       into found using keys;
    return coalesce(found, '{}');
end $$;

-- All steps for these jobs, in this transaction. Repeating it changes nothing. EXECUTE plans for the keys at hand by itself;
-- were it forced, each trigger of a row would be planned anew for each row, which takes longer than all the rest.
create or replace function lifecycle.erase_jobs(jobs bigint[]) returns void
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'auto'
as $$
declare
    step     lifecycle.erasure_steps;
    keys     text[];
    relation regclass;
begin
    for step in select s.* from lifecycle.erasure_steps s order by s.step loop
        keys := lifecycle.keys_of(jobs, step.key_kind);
        foreach relation in array lifecycle.relations_of_step(step, keys) loop
            execute lifecycle.erasure_statement(step, relation, false) using keys, jobs;
        end loop;
    end loop;
end $$;

-- Rows of these jobs that are still to be erased: as many per step as erase_jobs() would change.
create or replace function lifecycle.rows_to_erase(jobs bigint[])
returns table (job_id bigint, step int, rows bigint)
language plpgsql stable set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    todo     lifecycle.erasure_steps;
    keys     text[];
    relation regclass;
begin
    for todo in select s.* from lifecycle.erasure_steps s order by s.step loop
        keys := lifecycle.keys_of(jobs, todo.key_kind);
        foreach relation in array lifecycle.relations_of_step(todo, keys) loop
            return query execute format('select d.job_id, %s, d.count from (%s) d', todo.step,
                                        lifecycle.erasure_statement(todo, relation, true)) using keys, jobs;
        end loop;
    end loop;
end $$;

-- One step for these jobs in this transaction: all together, and one by one when that fails, so that one with which it
-- cannot be done keeps nobody else waiting. Returns how many failed; these say why.
create or replace function lifecycle.do_with_jobs(step text, jobs bigint[], outside jsonb default null) returns int
language plpgsql set search_path = ''
as $$
declare
    job    bigint;
    failed int := 0;
    code   text;
    error  text;
    context text;
    relation text;
    violated text;
begin
    begin
        execute format('select lifecycle.%I($1%s)', step, case when outside is null then '' else ', $2' end) using jobs, outside;
    exception when others then
        foreach job in array jobs loop
            begin
                execute format('select lifecycle.%I($1%s)', step, case when outside is null then '' else ', $2' end)
                  using array[job], outside;
            exception when others then
                get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context,
                    relation = table_name, violated = constraint_name;
                perform lifecycle.fail_deletion_jobs(array[job], lifecycle.told_error(code, error, context, relation, violated),
                                                     lifecycle.is_transient(code));
                failed := failed + 1;
            end;
        end loop;
    end;
    return failed;
end $$;

-- The next jobs of a batch, in this transaction.
create or replace function lifecycle.erase_chunk(batch uuid, chunk_size int default null)
returns table (erased int, failed int, remaining int)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    policy lifecycle.erasure_policy;
    jobs   bigint[];
begin
    select p.* into policy from lifecycle.erasure_policy p;
    perform lifecycle.renew_erasure_lease(batch);
    jobs := array(select j.id from lifecycle.deletion_jobs j
                   where j.batch_id = batch and j.state = 'running' and j.collected_at is not null
                   order by j.id limit coalesce(chunk_size, policy.chunk_size) for update);
    failed := lifecycle.do_with_jobs('erase_jobs', jobs);
    erased := cardinality(jobs) - failed;
    update lifecycle.deletion_jobs j set state = 'erased', erased_at = now()
     where j.id = any (jobs) and j.state = 'running';
    remaining := (select count(*) from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'running');
    return next;
end $$;

-- The sign-in user, where this role may delete it; somebody else's call otherwise, whose outcome is recorded here.
create or replace function lifecycle.erase_sign_in_users(batch uuid) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    policy lifecycle.erasure_policy;
    jobs  constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    people regclass;
    users text[];
    left_over text[] := '{}';
    refused text[] := '{}';
    sign_in_user text;
    statement text;
    refusal text;
    key_type text;
    outcome text;
begin
    perform lifecycle.renew_erasure_lease(batch);
    select p.* into policy from lifecycle.erasure_policy p;
    users := lifecycle.keys_of(jobs, policy.sign_in_kind);
    people := lifecycle.reachable(policy.sign_in_table);
    outcome := format('left: this role may not delete from %s', coalesce(policy.sign_in_table, 'any table of sign-in users'));
    if users is not null and people is not null and has_table_privilege(people, 'delete') then
        key_type := lifecycle.type_of_column(people, policy.sign_in_id);
        -- An account that stays may share it.
        statement := format('delete from %1$s u where u.%2$I = any ($1::%3$s[])', people, policy.sign_in_id, key_type)
            || case when policy.sign_in_used_table is null then ''
                    else format(' and not exists (select from %s l where l.%I = u.%I)', policy.sign_in_used_table,
                                policy.sign_in_used_column, policy.sign_in_id) end;
        outcome := 'deleted';
        begin
            execute statement using users;
        exception when others then
            foreach sign_in_user in array users loop
                begin
                    execute statement using array[sign_in_user];
                exception when others then
                    refused := refused || sign_in_user;
                    refusal := format('left: the database refused (SQLSTATE %s)', sqlstate);
                end;
            end loop;
        end;
        execute format('select array(select u.%2$I::text from %1$s u where u.%2$I = any ($1::%3$s[]))',
                       people, policy.sign_in_id, key_type) into left_over using users;
    elsif users is not null then
        left_over := users;
    end if;
    update lifecycle.deletion_jobs j
       set sign_in_user = case
               when not exists (select from lifecycle.erasure_keys k where k.job_id = j.id and k.kind = policy.sign_in_kind) then 'none'
               when exists (select from lifecycle.erasure_keys k
                             where k.job_id = j.id and k.kind = policy.sign_in_kind and k.key = any (refused)) then refusal
               when exists (select from lifecycle.erasure_keys k
                             where k.job_id = j.id and k.kind = policy.sign_in_kind and k.key = any (left_over)) and outcome = 'deleted'
               then 'left: another account signs in with it'
               else outcome end
     where j.id = any (jobs) and j.sign_in_user is distinct from 'deleted';
end $$;
