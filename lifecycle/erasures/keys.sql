-- The keys by which a person's rows are found: collected kind by kind, as personal_data.yaml declares them.

-- Rows that jobs wrote into the ledger are nobody's, whatever a person's key is called.
create or replace function lifecycle.but_what_jobs_wrote(relation regclass) returns text
language sql stable set search_path = ''
as $$
    select coalesce((select format(' and t.%I::text is distinct from ''job''', p.kind_column)
                       from lifecycle.ledger_policy p where lifecycle.ledger() = relation), '')
$$;

-- Types of columns that hold nothing but ids and numbers.
create or replace function lifecycle.is_id_type(type_name text) returns boolean
language sql immutable parallel safe set search_path = ''
as $$ select type_name in ('uuid', 'bigint', 'integer', 'smallint') $$;

-- Whether a key is a whole number that is no larger than this, above or below zero.
create or replace function lifecycle.is_whole_number(key text, largest numeric) returns boolean
language sql immutable parallel safe set search_path = ''
as $$ select case when key ~ '^-?[0-9]{1,19}$' then abs(key::numeric) <= largest else false end $$;

-- Whether a key can be a value of this type: what is none could not be cast to it.
create or replace function lifecycle.could_be(key text, type_name text) returns boolean
language sql immutable parallel safe set search_path = ''
as $$
    select case type_name when 'uuid' then key ~ ('^' || lifecycle.id_pattern() || '$')
                          when 'bigint' then lifecycle.is_whole_number(key, 9223372036854775807)
                          when 'integer' then lifecycle.is_whole_number(key, 2147483647)
                          when 'smallint' then lifecycle.is_whole_number(key, 32767)
                          else true end
$$;

-- Kinds whose keys are ids that a client may choose. They are followed into columns of ids, where a foreign key ties them to
-- the person's row; whoever chose an id that stands in others' texts would have it taken out of these.
create or replace function lifecycle.claimed_kinds() returns setof text
language sql stable set search_path = ''
as $$
    select k.kind from lifecycle.erasure_key_kinds k
     where k.form = 'id' and exists (select from lifecycle.erasure_key_sources s where s.kind = k.kind and not s.bound)
$$;

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
         where k.job_id = any (jobs) and k.kind = any (source.key_kinds) and k.unfollowed is null
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
               and (by_type = 'uuid' and e.unfollowed = 'ambiguous'
                    or e.unfollowed is null and (lifecycle.is_id_type(by_type) or e.kind not in (select lifecycle.claimed_kinds())))
               and lifecycle.could_be(e.key, by_type)) k;
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
    -- Of a form that a client may type, only the beginning is kept: it is counted and never compared with anything.
    execute format('insert into lifecycle.erasure_keys (job_id, kind, key, unfollowed)
                    select distinct f.job, %L, case when f.fits then f.key else left(f.key, 100) end, case when not f.fits then ''form'' end
                      from (select k.job, %s as key, %s as fits from unnest($1, $2::%s[]) k(job, key) join %s t on %s where %s%s) f
                    on conflict do nothing',
                   kind.kind, taken,
                   case when source.bound or kind.pattern is null then 'true'
                        else format('%s ~ %L', taken, '^(?:' || kind.pattern || ')$') end,
                   case when source.any_case then 'text' else by_type end, relation,
                   format(case when source.any_case then 'lower(btrim(t.%I::text)) = k.key' else 't.%I = k.key' end, source.by_column),
                   chosen, lifecycle.but_what_jobs_wrote(relation))
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
    -- Distinct: of an array the planner takes many values to be the same, and would rather hash the whole table.
    rows_of := format(case when key_type in ('inet', 'cidr') then '(select distinct unnest($1)) k(key) join %1$s t on host(t.%2$I) = k.key'
                           else '(select distinct unnest($1::%4$s[])) k(key) join %1$s t on t.%2$I = k.key' end || ' where t.%3$I is not null',
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

-- Of these ids of one kind, which a client may have chosen, those that are also the id of something else, or that nobody
-- drew at random: where they stand elsewhere, they mean that, and nobody need look for them.
create or replace function lifecycle.ambiguous_ids(kind text, keys text[]) returns text[]
language plpgsql stable set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan' set jit = off
as $$
declare
    place record;
    part  text[];
    ids   constant uuid[] := array(select k::uuid from unnest(keys) k where k ~ ('^' || lifecycle.id_pattern() || '$'));
    found text[] := array(select k::text from unnest(ids) k
                           where (select count(distinct d) from regexp_split_to_table(replace(k::text, '-', ''), '') d) < 8);
begin
    for place in
        select c.oid::regclass as relation, a.attname
          from pg_index i
          join pg_class c on c.oid = i.indrelid and c.relkind = 'r' and not c.relispartition
          join pg_namespace n on n.oid = c.relnamespace
          join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] and a.atttypid = 'uuid'::regtype
         cross join lateral (select format('%I.%I', n.nspname, c.relname) as name) t
          join lifecycle.erasure_policy p on n.nspname <> all (array_append(p.managed_schemas, 'lifecycle')) or t.name = p.sign_in_table
         where i.indisunique and i.indnkeyatts = 1 and i.indpred is null and has_table_privilege(c.oid, 'select')
           -- Rows that belong to one of this kind have its id for their own.
           and not exists (select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f' and f.conkey = array[a.attnum])
           and not exists (select from lifecycle.erasure_steps s
                            where s.table_name = t.name and s.key_column = a.attname and s.key_kind = ambiguous_ids.kind)
           and not exists (select from lifecycle.erasure_key_sources s
                            where s.kind = ambiguous_ids.kind and s.table_name = t.name and s.taken_column = a.attname)
    loop
        execute format('select array(select k::text from unnest($1) k where exists (select from %s t where t.%I = k))',
                       place.relation, place.attname) into part using ids;
        found := found || part;
    end loop;
    return found;
end $$;

-- Of these jobs' keys of one kind those that could mean something else's row: columns of that id are followed, and texts are
-- not searched for it.
create or replace function lifecycle.mark_ambiguous_keys(jobs bigint[], kind lifecycle.erasure_key_kinds) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    ids text[];
begin
    if kind.searched and kind.kind in (select lifecycle.claimed_kinds()) then
        ids := lifecycle.ambiguous_ids(kind.kind, lifecycle.keys_of(jobs, kind.kind));
        update lifecycle.erasure_keys k set unfollowed = 'ambiguous'
         where k.job_id = any (jobs) and k.kind = kind.kind and (k.key in (select unnest(ids))) is true;
    end if;
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
        -- Whoever shared it may have left since. Where owners are counted, this person is no longer one in a second run.
        update lifecycle.erasure_keys k set unfollowed = null
         where k.job_id = any (jobs) and k.kind = kind.kind and k.unfollowed = 'shared'
           and not exists (select from lifecycle.erasure_key_limits l where l.kind = kind.kind and l.more_than is not null);
        for bound in select l.* from lifecycle.erasure_key_limits l where l.kind = kind.kind order by l.position loop
            others := lifecycle.keys_of_others(bound, lifecycle.keys_of(jobs, kind.kind));
            update lifecycle.erasure_keys k set unfollowed = 'shared'
             where k.job_id = any (jobs) and k.kind = kind.kind
               -- As a condition, not as a join: of keys that were made just now the planner expects one, and would go
               -- through the others for each of thousands.
               and (k.key in (select unnest(others))) is true;
        end loop;
        perform lifecycle.mark_ambiguous_keys(jobs, kind);
    end loop;
end $$;

-- Keys of one kind that were collected for these jobs and are followed; null where there is none.
create or replace function lifecycle.keys_of(jobs bigint[], kind text) returns text[]
language sql stable set search_path = ''
as $$
    select array_agg(distinct k.key) from lifecycle.erasure_keys k
     where k.job_id = any (jobs) and k.kind = keys_of.kind and (k.unfollowed is null or k.unfollowed = 'ambiguous')
$$;

-- Whether an id that is no uuid is so long and random that where it stands in a text, it means this: ids of identity providers
-- (user_2NNEqL2nrIRdJ194ndJqAHwEfxC, auth0|5f7c8ec7c33c6c004bbafe82), cuid, ulid. A number, a name and a short one mean anything.
create or replace function lifecycle.is_long_token(key text) returns boolean
language sql immutable parallel safe set search_path = ''
as $$
    select length(key) between 20 and 200 and key ~ '[0-9]' and key ~ '[A-Za-z]' and key !~ '[[:space:]@]'
       and (select count(distinct d) from regexp_split_to_table(lower(key), '') d) >= 10
$$;

-- What these jobs' people are recognised by in texts. What is `claimed` is looked for and taken out of nobody's.
create or replace function lifecycle.searched_keys(jobs bigint[])
returns table (job_id bigint, kind text, form text, key text, claimed boolean)
language sql stable set search_path = ''
as $$
    select k.job_id, k.kind,
           case when coalesce(kinds.form, 'id') = 'id' and k.key !~ ('^' || lifecycle.id_pattern() || '$')
                     and k.kind not in (select lifecycle.claimed_kinds()) and lifecycle.is_long_token(k.key) then 'name'
                else coalesce(kinds.form, 'id') end,
           k.key, k.kind in (select lifecycle.claimed_kinds())
      from lifecycle.erasure_keys k left join lifecycle.erasure_key_kinds kinds on kinds.kind = k.kind
     where k.job_id = any (jobs) and (kinds.searched or k.kind = 'person') and k.unfollowed is null
$$;

-- The keys of these jobs, which run.
create or replace function lifecycle.collect_keys_of_jobs(jobs bigint[]) returns void
language plpgsql set search_path = ''
as $$
begin
    perform lifecycle.collect_keys(j.jobs, j.people)
       from (select array_agg(d.id order by d.id) as jobs, array_agg(d.account_key order by d.id) as people
               from lifecycle.deletion_jobs d where d.id = any (collect_keys_of_jobs.jobs)) j;
    update lifecycle.deletion_jobs j set collected_at = coalesce(j.collected_at, now()) where j.id = any (jobs);
end $$;

-- The keys of all jobs of a batch that run.
create or replace function lifecycle.collect_erasure_keys(batch uuid) returns void
language plpgsql set search_path = ''
as $$
declare
    jobs bigint[];
begin
    perform lifecycle.renew_erasure_lease(batch);
    perform lifecycle.wait_for_unread(batch);
    jobs := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'running' order by j.id);
    perform lifecycle.do_with_jobs('collect_keys_of_jobs', jobs);
    analyze lifecycle.erasure_keys;  -- each step joins them
    perform lifecycle.hold_far_reaching((select jsonb_agg(to_jsonb(r)) from lifecycle.reach_of_names(jobs) r));
end $$;
