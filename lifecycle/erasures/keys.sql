-- The keys by which a person's rows are found: collected kind by kind, as personal_data.yaml declares them.

-- Keys of one kind from one source, for these jobs. `people` are planned for at hand: with unknown arrays the planner
-- would read whole tables, and for `column = any (<thousands of values>)` it would compare each with the most common ones.
create or replace function lifecycle.collect_keys_from(jobs bigint[], kind lifecycle.erasure_key_kinds, source lifecycle.erasure_key_sources)
returns void
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan' set jit = off
as $$
#variable_conflict use_variable
declare
    relation constant regclass := lifecycle.reachable(source.table_name);
    by_type  constant text := lifecycle.type_of_column(relation, source.by_column);
    taken_type constant text := lifecycle.type_of_column(relation, source.taken_column);
    holders  bigint[];
    keys     text[];
    taken    text;
    chosen   text;
begin
    if source.table_name is null then
        insert into lifecycle.erasure_keys (job_id, kind, key)
        select k.job_id, kind.kind, k.key from lifecycle.erasure_keys k
         where k.job_id = any (jobs) and k.kind = any (source.key_kinds)
        on conflict do nothing;
        return;
    elsif relation is null and (source.optional or not lifecycle.is_there(source.table_name)) then
        return;
    elsif by_type is null or taken_type is null then
        raise exception 'personal_data.yaml takes keys of kind % from %.% by %, which does not exist or cannot be read',
            kind.kind, source.table_name, source.taken_column, source.by_column
            using errcode = 'undefined_column', hint = 'Correct the declaration and run lifecycle migrate.';
    end if;
    select array_agg(k.job_id), array_agg(k.key) into holders, keys
      from (select distinct e.job_id, case when source.any_case then lower(e.key) else e.key end as key
              from lifecycle.erasure_keys e
             where e.job_id = any (jobs) and e.kind = any (source.key_kinds)
               and (by_type <> 'uuid' or e.key ~ ('^' || lifecycle.id_pattern() || '$'))) k;
    if keys is null then
        return;
    end if;
    taken := format(case when kind.form = 'address' then 'lower(btrim(t.%I))'
                         when taken_type in ('inet', 'cidr') then 'host(t.%I)'
                         else 't.%I::text' end, source.taken_column);
    chosen := format('t.%I is not null', source.taken_column)
        || case when kind.form = 'address' then format(' and t.%I like ''%%@%%''', source.taken_column) else '' end
        -- The constant of scrubbed rows is nobody's.
        || case when kind.form = 'name' then format(' and t.%I <> ''erased''', source.taken_column) else '' end
        || case when source.given_column is not null then format(' and t.%I is not null', source.given_column) else '' end
        || case when source.unowned_column is not null then format(' and t.%I is null', source.unowned_column) else '' end;
    execute format('insert into lifecycle.erasure_keys (job_id, kind, key)
                    select distinct k.job, %L, %s from unnest($1, $2::%s[]) k(job, key) join %s t on %s where %s
                    on conflict do nothing',
                   kind.kind, taken, case when source.any_case then 'text' else by_type end, relation,
                   format(case when source.any_case then 'lower(btrim(t.%I::text)) = k.key' else 't.%I = k.key' end, source.by_column),
                   chosen)
      using holders, keys;
end $$;

-- Of these keys of one kind those that are not followed by one of its limits.
create or replace function lifecycle.keys_of_others(bound lifecycle.erasure_key_limits, keys text[]) returns text[]
language plpgsql stable set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan' set jit = off
as $$
#variable_conflict use_variable
declare
    relation constant regclass := lifecycle.reachable(bound.table_name);
    key_type constant text := lifecycle.type_of_column(relation, bound.column_name);
    rows_of  text;
    names    text[];
    owners   text[];
begin
    if bound.function_name is not null then
        execute format('select array(select distinct f.key from %s($1) f(key))', bound.function_name) into names using keys;
        return names;
    elsif relation is null and (bound.optional or not lifecycle.is_there(bound.table_name)) then
        return '{}';
    elsif key_type is null then
        raise exception 'personal_data.yaml asks %.% who else has a key, which does not exist or cannot be read',
            bound.table_name, bound.column_name
            using errcode = 'undefined_column', hint = 'Correct the declaration and run lifecycle migrate.';
    end if;
    rows_of := format(case when key_type in ('inet', 'cidr') then 'unnest($1) k(key) join %1$s t on host(t.%2$I) = k.key'
                           else 'unnest($1::%4$s[]) k(key) join %1$s t on t.%2$I = k.key' end || ' where t.%3$I is not null',
                      relation, bound.column_name, bound.owner_column, key_type);
    if bound.more_than is not null then
        execute format('select array(select k.key::text from %s group by 1 having count(distinct t.%I) > %s)',
                       rows_of, bound.owner_column, bound.more_than) into names using keys;
        return names;
    end if;
    execute format('select array_agg(v.key), array_agg(v.owner)
                      from (select distinct k.key::text as key, t.%I::text as owner from %s) v', bound.owner_column, rows_of)
       into names, owners using keys;
    return array(select distinct u.key from unnest(names, owners) u(key, owner)
                   join lifecycle.staying(owners) s(person) on s.person = u.owner);
end $$;

-- Everything that a person's rows are found by, for these jobs and their people. What was collected earlier stays: once
-- the events are scrubbed it cannot be found again.
create or replace function lifecycle.collect_keys(jobs bigint[], people text[]) returns void
language plpgsql set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_variable
declare
    kind   lifecycle.erasure_key_kinds;
    source lifecycle.erasure_key_sources;
    bound  lifecycle.erasure_key_limits;
    others text[];
begin
    insert into lifecycle.erasure_keys (job_id, kind, key)
    select j.job, 'person', j.person from unnest(jobs, people) j(job, person)
    on conflict do nothing;
    for kind in select k.* from lifecycle.erasure_key_kinds k order by k.position loop
        for source in select s.* from lifecycle.erasure_key_sources s where s.kind = kind.kind order by s.position loop
            perform lifecycle.collect_keys_from(jobs, kind, source);
        end loop;
        for bound in select l.* from lifecycle.erasure_key_limits l where l.kind = kind.kind order by l.position loop
            others := lifecycle.keys_of_others(bound, lifecycle.keys_of(jobs, kind.kind));
            delete from lifecycle.erasure_keys k
             where k.job_id = any (jobs) and k.kind = kind.kind
               -- As a condition, not as a join: of keys that were made just now the planner expects one, and would go
               -- through the others for each of thousands.
               and (k.key in (select unnest(others))) is true;
        end loop;
    end loop;
end $$;

-- Keys of one kind that were collected for these jobs; null where there is none.
create or replace function lifecycle.keys_of(jobs bigint[], kind text) returns text[]
language sql stable set search_path = ''
as $$ select array_agg(distinct k.key) from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.kind = keys_of.kind $$;

-- The keys of all jobs of a batch that run.
create or replace function lifecycle.collect_erasure_keys(batch uuid) returns void
language plpgsql set search_path = ''
as $$
declare
    jobs   bigint[];
    people text[];
begin
    perform lifecycle.renew_erasure_lease(batch);
    select array_agg(j.id order by j.id), array_agg(j.account_key order by j.id) into jobs, people
      from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'running';
    if jobs is not null then
        perform lifecycle.collect_keys(jobs, people);
        analyze lifecycle.erasure_keys;  -- each step joins them
    end if;
    update lifecycle.deletion_jobs j set collected_at = coalesce(j.collected_at, now()) where j.id = any (jobs);
end $$;
