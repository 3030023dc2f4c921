-- Which rows of a table are past their time, as a condition on row t with the moment as $1. A moment that is null does
-- not count, unless it is the first. Null when the table is optional and not there.
create or replace function lifecycle.expired_condition(expiring lifecycle.expiring_tables) returns text
language plpgsql stable set search_path = ''
as $$
declare
    target constant regclass := to_regclass(format('%I.%I', expiring.schema_name, expiring.table_name));
    keys   name[];
    told   text;
    holder jsonb;
begin
    if target is null then
        if expiring.optional then
            return null;
        end if;
        raise exception 'there is no table %.%', expiring.schema_name, expiring.table_name
            using errcode = 'undefined_table', hint = 'Correct expiry.yaml, then run lifecycle migrate.';
    end if;
    select string_agg(case when c.number = 1 then format('t.%I < $1', c.name)
                           else format('coalesce(t.%I, t.%I) < $1', c.name, expiring.time_columns[1]) end, ' and '
                      order by c.number)
      into told from unnest(expiring.time_columns) with ordinality c(name, number);
    for holder in select h from jsonb_array_elements(expiring.held_by) h loop
        select array_agg(a.attname) into keys
          from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
         where i.indrelid = target and i.indisprimary;
        if cardinality(keys) is distinct from 1 then
            raise exception '% has no primary key of one column, by which %.% could name a row', target,
                            holder ->> 'table', holder ->> 'column'
                using errcode = 'object_not_in_prerequisite_state', hint = 'Take unless_referenced_by out of expiry.yaml.';
        end if;
        told := told || format(' and not exists (select from %I.%I r where r.%I = t.%I)', holder ->> 'schema',
                               holder ->> 'table', holder ->> 'column', keys[1]);
    end loop;
    return told;
end $$;

-- Deletes what is past its time: at most `batch` rows of each table of the job, in their order. Call it until it deletes
-- none. One row, and one row in the ledger; an error is in both, and then nothing was deleted. What somebody else holds
-- waits for the next call. `deleted` has a number for each table by its name.
create or replace function lifecycle.delete_expired_rows(job text, batch int default null)
returns table (deleted jsonb, outcome text, error text)
language plpgsql set search_path = '' set timezone = 'UTC'
as $$
#variable_conflict use_variable
declare
    started  constant timestamptz := clock_timestamp();
    policy   lifecycle.expiring_rows;
    expiring lifecycle.expiring_tables;
    most     int;
    cutoff   timestamptz;
    parts    oid[];
    places   tid[];
    expired  text;
    gone     bigint;
begin
    select p.* into policy from lifecycle.expiring_rows p where p.job = delete_expired_rows.job;
    if policy.job is null then
        raise exception 'no job % is declared in expiry.yaml', job using hint = 'Declare it, then run lifecycle migrate.';
    end if;
    most := coalesce(batch, policy.batch);
    if most < 1 then
        raise exception 'a batch must be at least 1, not %', most
            using errcode = 'invalid_parameter_value', hint = 'Leave it out for what is declared.';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('lifecycle.delete_expired_rows.' || job, 0)) then
        raise exception '% already runs in another session', job
            using errcode = 'lock_not_available', hint = 'Wait until it is done; nothing was deleted.';
    end if;
    cutoff := now() - policy.keep_for;
    deleted := '{}';
    begin
        for expiring in select t.* from lifecycle.expiring_tables t where t.job = policy.job order by t.position loop
            expired := lifecycle.expired_condition(expiring);
            continue when expired is null;
            execute format(
                'select array_agg(c.part), array_agg(c.place)
                   from (select t.tableoid as part, t.ctid as place from %1$I.%2$I t where %3$s
                          limit $2 for update of t skip locked) c',
                expiring.schema_name, expiring.table_name, expired)
              into parts, places using cutoff, most;
            -- Again, under the locks: what was named a moment ago is not seen by the statement above.
            execute format(
                'delete from %1$I.%2$I t using unnest($2, $3) c(part, place)
                  where t.ctid = c.place and t.tableoid = c.part and %3$s',
                expiring.schema_name, expiring.table_name, expired)
              using cutoff, parts, places;
            get diagnostics gone = row_count;
            deleted := deleted || jsonb_build_object(expiring.table_name, gone);
        end loop;
        outcome := 'success';
    exception when others then
        select coalesce(jsonb_object_agg(t.table_name, 0), '{}') into deleted
          from lifecycle.expiring_tables t where t.job = policy.job;
        outcome := 'failure';
        error := lifecycle.first_line(sqlerrm);
    end;
    perform lifecycle.record_outcome(job, '', error, deleted || jsonb_build_object(
        'duration_ms', lifecycle.milliseconds_since(started)));
    return next;
end $$;

-- About how many rows wait: the planner's estimate for each table, as the next call would see them.
create or replace function lifecycle.expired_estimate(job text)
returns table (schema_name text, table_name text, rows bigint)
language plpgsql set search_path = '' set timezone = 'UTC'
as $$
#variable_conflict use_variable
declare
    policy   lifecycle.expiring_rows;
    expiring lifecycle.expiring_tables;
    plan     json;
    expired  text;
begin
    select p.* into policy from lifecycle.expiring_rows p where p.job = expired_estimate.job;
    for expiring in select t.* from lifecycle.expiring_tables t where t.job = policy.job order by t.position loop
        expired := lifecycle.expired_condition(expiring);
        continue when expired is null;
        execute format('explain (format json) select from %I.%I t where %s', expiring.schema_name, expiring.table_name,
                       replace(expired, '$1', quote_literal(now() - policy.keep_for) || '::timestamptz'))
           into plan;
        schema_name := expiring.schema_name;
        table_name := expiring.table_name;
        rows := (plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::bigint;
        return next;
    end loop;
end $$;
