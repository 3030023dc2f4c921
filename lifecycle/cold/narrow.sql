-- The narrow table: of each cold month the columns that views read, row for row, a partition a month. Whoever changes it here
-- moves rows, which changes no figure, and says so for the rest of its transaction (lifecycle.moves_rows).

-- The narrow table of an event table; null while no view needs one.
create or replace function lifecycle.narrow_table(policy lifecycle.event_table_policies) returns regclass
language sql stable set search_path = ''
as $$ select pg_catalog.to_regclass(pg_catalog.format('event_partitions.%I', policy.stem || '_narrow')) $$;

-- Names of a month's partition, and of one that is being filled beside it.
create or replace function lifecycle.narrow_month_name(policy lifecycle.event_table_policies, month timestamptz, beside boolean) returns text
language sql immutable set search_path = ''
as $$
    select policy.stem || '_narrow_' || pg_catalog.to_char(month at time zone 'UTC', case when beside then 'YYYYMM' else 'YYYY_MM' end)
$$;

-- The columns of a relation, in their order.
create or replace function lifecycle.columns_of(relation regclass) returns text[]
language sql stable set search_path = ''
as $$
    select coalesce(array_agg(a.attname::text order by a.attnum), '{}') from pg_catalog.pg_attribute a
     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
$$;

-- Those of one relation that another one has as well, as a list for a statement: the application may have dropped a column.
create or replace function lifecycle.shared_columns(relation regclass, other regclass) returns text
language sql stable set search_path = ''
as $$
    select string_agg(quote_ident(c), ', ') from unnest(lifecycle.columns_of(relation)) c where c = any (lifecycle.columns_of(other))
$$;

-- Fill a table beside the narrow one with a month's rows of `source`, alone of its kind; how many. Null without a narrow table.
create or replace function lifecycle.build_narrow_month(policy lifecycle.event_table_policies, month timestamptz, source regclass) returns bigint
language plpgsql set search_path = '' set timezone = 'UTC' set row_security = off
as $$
declare
    narrow constant regclass := lifecycle.narrow_table(policy);
    called constant text := lifecycle.narrow_month_name(policy, month, true);
    upper  constant timestamptz := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
    target regclass;
    filled bigint;
begin
    if narrow is null then
        return null;
    end if;
    perform lifecycle.drop_narrow_leftover(policy, month);
    execute format('create table event_partitions.%I (like %s including indexes)', called, narrow);
    target := format('event_partitions.%I', called)::regclass;
    execute format('comment on table %s is %L', target, format('lifecycle:narrow of %s', lifecycle.event_table(policy)));
    perform lifecycle.close_to_api(target);
    execute format('alter table %s add constraint lifecycle_bounds check (%I >= %L and %2$I < %4$L)', target, policy.time_column, month, upper);
    execute format('insert into %s (%s) select %2$s from only %s', target, lifecycle.shared_columns(narrow, source), source);
    get diagnostics filled = row_count;
    execute format('analyze %s', target);
    return filled;
end $$;

-- Drop what was filled beside and is of no use any more.
create or replace function lifecycle.drop_narrow_leftover(policy lifecycle.event_table_policies, month timestamptz) returns void
language plpgsql set search_path = ''
as $$
declare
    called constant text := lifecycle.narrow_month_name(policy, month, true);
begin
    if obj_description(to_regclass(format('event_partitions.%I', called)), 'pg_class') like 'lifecycle:narrow of %' then
        execute format('drop table event_partitions.%I', called);
    end if;
end $$;

-- What was filled beside becomes part of the narrow table, behind rows of the month that are there already, or in their place
-- (`whole`). False when it was not filled, or with other columns than are wanted by now.
create or replace function lifecycle.attach_narrow_month(policy lifecycle.event_table_policies, month timestamptz, whole boolean) returns boolean
language plpgsql set search_path = '' set timezone = 'UTC'
as $$
declare
    narrow constant regclass := lifecycle.narrow_table(policy);
    filled constant regclass := to_regclass(format('event_partitions.%I', lifecycle.narrow_month_name(policy, month, true)));
    called constant text := lifecycle.narrow_month_name(policy, month, false);
    upper  constant timestamptz := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
begin
    perform set_config('lifecycle.moves_rows', 'yes', true);
    if filled is null or lifecycle.columns_of(filled) <> lifecycle.columns_of(narrow) then
        return false;
    end if;
    if whole then
        execute format('drop table if exists event_partitions.%I', called);
    elsif to_regclass(format('event_partitions.%I', called)) is not null then
        execute format('insert into %s (%s) select %2$s from %s', narrow, lifecycle.shared_columns(narrow, filled), filled);
        execute format('drop table %s', filled);
        return true;
    end if;
    execute format('alter table %s rename to %I', filled, called);
    execute format('alter table %s attach partition %s for values from (%L) to (%L)', narrow, filled, month, upper);
    execute format('alter table %s drop constraint lifecycle_bounds', filled);
    -- Of a month with files from before there was a narrow table, late rows are not the whole.
    insert into lifecycle.narrow_months as n (schema_name, table_name, month, column_names)
    select policy.schema_name, policy.table_name, attach_narrow_month.month, lifecycle.columns_of(narrow)
     where whole or not exists (select from lifecycle.cold_files f
                                 where f.schema_name = policy.schema_name and f.table_name = policy.table_name
                                   and f.month = attach_narrow_month.month and f.state = 'live')
    on conflict on constraint narrow_months_pkey do update set column_names = excluded.column_names;
    return true;
end $$;

-- A month leaves the narrow table: it is a partition of the event table again, or past retention. `gone`: its rows are no more,
-- which kept views are told.
create or replace function lifecycle.drop_narrow_month(policy lifecycle.event_table_policies, month timestamptz, gone boolean) returns void
language plpgsql set search_path = ''
as $$
declare
    place constant regclass := to_regclass(format('event_partitions.%I', lifecycle.narrow_month_name(policy, month, false)));
begin
    perform lifecycle.drop_narrow_leftover(policy, month);
    delete from lifecycle.narrow_months n
     where n.schema_name = policy.schema_name and n.table_name = policy.table_name and n.month = drop_narrow_month.month;
    if place is null then
        return;
    end if;
    if gone and to_regprocedure('lifecycle.note_dropped_rows(text,text,regclass)') is not null then
        execute 'select lifecycle.note_dropped_rows($1, $2, $3)' using 'event_partitions', policy.stem || '_narrow', place;
    end if;
    execute format('drop table %s', place);
end $$;

-- Rows of a month that stand in the thawed table leave the narrow one; how many, or null when it does not hold the month whole.
create or replace function lifecycle.thaw_narrow_rows(policy lifecycle.event_table_policies, month timestamptz) returns bigint
language plpgsql set search_path = ''
as $$
declare
    place constant regclass := to_regclass(format('event_partitions.%I', lifecycle.narrow_month_name(policy, month, false)));
    same  text;
    gone  bigint;
begin
    perform set_config('lifecycle.moves_rows', 'yes', true);
    if place is null then
        return null;
    end if;
    select string_agg(format('n.%1$I = t.%1$I::%2$s', a.attname, format_type(a.atttypid, a.atttypmod)), ' and ') into same
      from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
     where i.indrelid = place and i.indisprimary;
    execute format('delete from %s n using event_partitions.%I t where %s', place, policy.stem || '_thawed', same);
    get diagnostics gone = row_count;
    if not exists (select from lifecycle.narrow_months n
                    where n.schema_name = policy.schema_name and n.table_name = policy.table_name and n.month = thaw_narrow_rows.month) then
        return null;
    end if;
    return gone;
end $$;

-- The other way round, before they leave the thawed table for a file.
create or replace function lifecycle.freeze_narrow_rows(policy lifecycle.event_table_policies, month timestamptz) returns void
language plpgsql set search_path = '' set timezone = 'UTC'
as $$
declare
    narrow constant regclass := lifecycle.narrow_table(policy);
    upper  constant timestamptz := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
begin
    perform set_config('lifecycle.moves_rows', 'yes', true);
    if exists (select from lifecycle.narrow_months n
                where n.schema_name = policy.schema_name and n.table_name = policy.table_name and n.month = freeze_narrow_rows.month) then
        execute format('insert into %s (%s) select %2$s from event_partitions.%I where %I >= $1 and %4$I < $2', narrow,
                       lifecycle.shared_columns(narrow, to_regclass(format('event_partitions.%I', policy.stem || '_thawed'))),
                       policy.stem || '_thawed', policy.time_column)
          using month, upper;
    end if;
end $$;
