-- Schemas that the API never exposes. Nothing of the application's is touched but run_daily_maintenance(),
-- whose former text is kept in lifecycle.original_functions.
create schema if not exists lifecycle;
create schema if not exists event_partitions;
comment on schema lifecycle is 'State of the data life cycle. Not exposed.';
comment on schema event_partitions is 'Monthly partitions of the event tables. Not exposed: a partition inherits no row-level security.';
revoke all on schema lifecycle, event_partitions from public;

create table lifecycle.event_table_policies (
    schema_name     text not null,
    table_name      text not null,
    time_column     text not null,
    retention       interval not null,
    months_ahead    int not null check (months_ahead >= 1),
    lock_timeout_ms int not null check (lock_timeout_ms between 1 and 10000),
    lock_tries      int not null check (lock_tries >= 1),
    primary key (schema_name, table_name)
);
comment on table lifecycle.event_table_policies is 'Copy of lifecycle/policy.py, written by `lifecycle migrate`. Change it there.';

create table lifecycle.partition_conversions (
    table_name      text primary key,
    storage_options text[] not null default '{}',
    started_at      timestamptz not null default now(),
    attached_at     timestamptz,
    finished_at     timestamptz
);
comment on table lifecycle.partition_conversions is 'One row per converted table: when, and the storage options that its partitions inherit.';

create table lifecycle.original_functions (
    signature  text primary key,
    definition text not null,
    executors  text[] not null,
    kept_at    timestamptz not null default now()
);
comment on table lifecycle.original_functions is 'Functions of the application, and who might execute them, as they were before a migration replaced them: the way back.';

-- Partitions with their bounds as timestamps; -infinity and infinity stand for MINVALUE and MAXVALUE.
-- `marker` is the kind written into the comment of each partition that this project made (month, default,
-- before, legacy), null for anybody else's.
create function lifecycle.event_partitions_of(parent regclass)
returns table (partition regclass, name text, lower_bound timestamptz, upper_bound timestamptz,
               is_default boolean, marker text)
language sql stable
set search_path = '' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $$
    select c.oid::regclass, c.relname::text,
           case when b.bound ~ 'FROM [(]MINVALUE[)]' then '-infinity'
                else substring(b.bound from 'FROM [(]''([^'']*)''[)]') end::timestamptz,
           case when b.bound ~ 'TO [(]MAXVALUE[)]' then 'infinity'
                else substring(b.bound from 'TO [(]''([^'']*)''[)]') end::timestamptz,
           b.bound = 'DEFAULT',
           substring(pg_catalog.obj_description(c.oid, 'pg_class') from '^lifecycle:([a-z]+) of ')
      from pg_catalog.pg_inherits i
      join pg_catalog.pg_class c on c.oid = i.inhrelid
      cross join lateral (select pg_catalog.pg_get_expr(c.relpartbound, c.oid)) b(bound)
     where i.inhparent = parent
     order by 5, 3, 2
$$;

create function lifecycle.event_table(policy lifecycle.event_table_policies) returns regclass
language sql stable set search_path = ''
as $$ select pg_catalog.to_regclass(pg_catalog.format('%I.%I', policy.schema_name, policy.table_name)) $$;

-- The first instant of the oldest month that is kept. Everything before it is past retention.
create function lifecycle.first_kept_month(policy lifecycle.event_table_policies, as_of timestamptz)
returns timestamptz
language sql immutable set search_path = ''
as $$
    select pg_catalog.date_trunc('month', (as_of at time zone 'UTC') - policy.retention) at time zone 'UTC'
$$;

-- Months (their first instants) that should have a partition and have none: from the oldest partition that
-- is kept to the months ahead, and months of kept rows that wait in the default partition.
create function lifecycle.missing_event_months(policy lifecycle.event_table_policies, as_of timestamptz)
returns setof timestamptz
language plpgsql stable
set search_path = '' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $$
declare
    parent       constant regclass := lifecycle.event_table(policy);
    first_kept   constant timestamptz := lifecycle.first_kept_month(policy, as_of);
    this_month   constant timestamptz := date_trunc('month', as_of at time zone 'UTC') at time zone 'UTC';
    after_last   constant timestamptz :=
        (this_month at time zone 'UTC' + make_interval(months => policy.months_ahead + 1)) at time zone 'UTC';
    default_part regclass;
    start_month  timestamptz;
    waiting      timestamptz[] := '{}';
begin
    select p.partition into default_part from lifecycle.event_partitions_of(parent) p where p.is_default;
    if default_part is not null then
        execute format('select coalesce(array_agg(distinct date_trunc(''month'', %1$I at time zone ''UTC'') at time zone ''UTC''), ''{}'')
                          from only %2$s where %1$I >= $1 and %1$I < $2', policy.time_column, default_part)
           into waiting using first_kept, after_last;
    end if;
    select greatest(first_kept, least(min(p.lower_bound), this_month)) into start_month
      from lifecycle.event_partitions_of(parent) p where isfinite(p.lower_bound);
    return query
        select m from (
            select g at time zone 'UTC' as m
              from generate_series(start_month at time zone 'UTC', (after_last at time zone 'UTC') - interval '1 month',
                                   interval '1 month') g
             union
            select unnest(waiting)
        ) wanted
        where not exists (
            select from lifecycle.event_partitions_of(parent) p
             where not p.is_default and p.lower_bound <= m
               and p.upper_bound >= (m at time zone 'UTC' + interval '1 month') at time zone 'UTC')
        order by 1;
end $$;

-- Partitions whose whole range is past retention, by `as_of` and by the server's own clock: a mistyped date
-- must not drop a month that is still to be kept.
create function lifecycle.expired_event_partitions(policy lifecycle.event_table_policies, as_of timestamptz)
returns table (partition regclass, name text, marker text)
language sql stable set search_path = ''
as $$
    select p.partition, p.name, p.marker
      from lifecycle.event_partitions_of(lifecycle.event_table(policy)) p
     where not p.is_default
       and p.upper_bound <= lifecycle.first_kept_month(policy, least(as_of, pg_catalog.now()))
     order by p.upper_bound
$$;

-- A partition gives its rows to whoever may read it directly: close it.
create function lifecycle.close_to_api(target regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    grantee text;
begin
    execute format('alter table %s enable row level security', target);
    for grantee in
        select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
          from pg_catalog.pg_class c, aclexplode(c.relacl) a
         where c.oid = target and a.grantee <> c.relowner
    loop
        execute format('revoke all on table %s from %s', target, grantee);
    end loop;
end $$;

-- A table like the parent, beside it, with the parent's indexes and the storage options of the original
-- table, marked and closed. With bounds it gets a CHECK that says the same, so that ATTACH scans nothing.
create function lifecycle.build_partition(parent regclass, partition_name text, marker text, time_column text,
                                          lower_bound timestamptz, upper_bound timestamptz)
returns regclass
language plpgsql
set search_path = '' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $$
declare
    target   regclass := to_regclass(format('event_partitions.%I', partition_name));
    leftover boolean;
    owner    name;
    options  text;
begin
    if target is not null then
        leftover := obj_description(target, 'pg_class') like 'lifecycle:% of %'
            and not exists (select from pg_catalog.pg_inherits i where i.inhrelid = target);
        if leftover then
            execute format('select not exists (select from %s)', target) into leftover;
        end if;
        if leftover is distinct from true then
            raise exception 'table event_partitions.% already exists and is not an empty leftover of ours', partition_name
                using errcode = 'duplicate_table', hint = 'Rename it or move its rows, then run the rotation again.';
        end if;
        execute format('drop table %s', target);
    end if;
    select c.relowner::regrole::text into owner from pg_catalog.pg_class c where c.oid = parent;
    select string_agg(o, ', ') into options
      from lifecycle.partition_conversions v, unnest(v.storage_options) o
     where v.table_name = parent::text;
    execute format('create table event_partitions.%I (like %s including all) %s', partition_name, parent,
                   case when options <> '' then 'with (' || options || ')' else '' end);
    target := format('event_partitions.%I', partition_name)::regclass;
    execute format('comment on table %s is %L', target, format('lifecycle:%s of %s', marker, parent));
    if lower_bound is not null then
        execute format('alter table %s add constraint lifecycle_bounds check (%I >= %L and %I < %L)',
                       target, time_column, lower_bound, time_column, upper_bound);
    end if;
    perform lifecycle.close_to_api(target);
    if owner <> current_user then
        execute format('alter table %s owner to %s', target, owner);
    end if;
    return target;
end $$;

-- Logical replication of an UPDATE reads the identity of the partition, not of its parent.
create function lifecycle.copy_replica_identity(parent regclass, partition regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    kind  "char" := (select c.relreplident from pg_catalog.pg_class c where c.oid = parent);
    index_name text;
begin
    if kind = 'i' then
        select c.relname into index_name
          from pg_catalog.pg_index p
          join pg_catalog.pg_inherits h on h.inhparent = p.indexrelid
          join pg_catalog.pg_index i on i.indexrelid = h.inhrelid and i.indrelid = partition
          join pg_catalog.pg_class c on c.oid = i.indexrelid
         where p.indrelid = parent and p.indisreplident;
        execute format('alter table %s replica identity using index %I', partition, index_name);
    elsif kind in ('f', 'n') then
        execute format('alter table %s replica identity %s', partition, case kind when 'f' then 'full' else 'nothing' end);
    end if;
end $$;

-- Everything rotation does to one table. New partitions are built beside it first; then one attempt takes
-- all contended locks (referenced tables, default partition, parent), and gives them back before it pauses: no
-- reader or writer waits behind us for longer than the lock timeout. Only an ALTER TABLE waits for the pauses too.
create function lifecycle.rotate_event_table(policy lifecycle.event_table_policies, as_of timestamptz)
returns table (table_name text, action text, partition_name text, row_count bigint, bytes bigint,
               outcome text, error text)
language plpgsql
set search_path = '' set timezone = 'UTC' set datestyle = 'ISO, YMD' set lock_timeout = 0
as $$
#variable_conflict use_variable
declare
    purge_batch  constant bigint := 50000;
    longest_pause constant double precision := 2;
    parent       constant regclass := lifecycle.event_table(policy);
    first_kept   constant timestamptz := lifecycle.first_kept_month(policy, least(as_of, now()));
    default_name constant text := policy.table_name || '_default';
    default_part regclass;
    old_default  regclass;
    columns      text;
    missing      timestamptz[];
    built        regclass[] := '{}';
    expired      regclass[];
    month        timestamptz;
    next_month   timestamptz;
    part         record;
    referenced   regclass;
    affected     bigint;
    purged       bigint := 0;
    must_move    boolean := false;
    pause        double precision := 0.1;
    done         jsonb[] := '{}';
    position     int;
    tried        int;
    -- The caller's statement_timeout would undo everything and leave no row in the ledger: give up before it strikes.
    give_up_at   constant timestamptz := statement_timestamp() + (
        select 0.7 * s.setting::int * interval '1 ms' from pg_catalog.pg_settings s
         where s.name = 'statement_timeout' and s.setting <> '0');
begin
    table_name := policy.table_name; outcome := 'success'; row_count := 0; bytes := 0;

    if parent is null or (select c.relkind from pg_catalog.pg_class c where c.oid = parent) <> 'p' then
        action := 'skipped'; outcome := 'failure';
        error := format('%s.%s is not partitioned yet: run the job convert_event_tables', policy.schema_name, policy.table_name);
        return next; return;
    end if;
    if exists (select from lifecycle.event_partitions_of(parent) p where p.marker = 'legacy') then
        action := 'skipped'; outcome := 'failure';
        error := format('%s is attached whole, not split into months yet: run the job convert_event_tables', parent);
        return next; return;
    end if;
    if not exists (select from lifecycle.event_partitions_of(parent) p where p.marker is not null) then
        action := 'skipped'; outcome := 'failure';
        error := format('the partitions of %s were not made by this project: rotate it with the tool that made them', parent);
        return next; return;
    end if;
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into columns
      from pg_catalog.pg_attribute a
     where a.attrelid = parent and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
    select p.partition into old_default from lifecycle.event_partitions_of(parent) p where p.is_default;

    -- Late rows past retention have no partition to go with: a bounded number is deleted each time.
    if old_default is not null then
        execute format('with late as (select d.ctid from only %1$s d where d.%2$I < $1 limit $2)
                        delete from only %1$s d using late where d.ctid = late.ctid and d.%2$I < $1',
                       old_default, policy.time_column)
          using first_kept, purge_batch;
        get diagnostics purged = row_count;
        if purged > 0 then
            action := 'purge'; partition_name := default_name; row_count := purged;
            return next;
        end if;
    end if;

    for part in select * from lifecycle.expired_event_partitions(policy, as_of) p where p.marker is null loop
        action := 'skipped'; partition_name := part.name; row_count := 0; outcome := 'failure';
        error := format('%s is past retention but was not made by this project: drop it by hand', part.partition);
        return next;
    end loop;
    outcome := 'success'; error := null;

    missing := array(select lifecycle.missing_event_months(policy, as_of));
    expired := array(select p.partition from lifecycle.expired_event_partitions(policy, as_of) p where p.marker is not null);
    if missing = '{}' and expired = '{}' and old_default is not null then
        if purged = 0 then
            action := 'unchanged'; partition_name := null; row_count := 0;
            return next;
        end if;
        return;
    end if;

    begin  -- undone as a whole when the tries run out: no half-built table stays behind
        default_part := old_default;
        if default_part is null then
            default_part := lifecycle.build_partition(parent, default_name, 'default', policy.time_column, null, null);
        end if;
        foreach month in array missing loop
            next_month := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
            built := built || lifecycle.build_partition(
                parent, format('%s_%s', policy.table_name, to_char(month at time zone 'UTC', 'YYYY_MM')), 'month',
                policy.time_column, month, next_month);
        end loop;
        if old_default is not null and missing <> '{}' then
            execute format('select exists (select from only %1$s where %2$I >= $1 and %2$I < $2)', old_default, policy.time_column)
               into must_move using missing[1], next_month;
        end if;

        for attempt in 1 .. policy.lock_tries loop
            begin
                done := '{}';
                tried := attempt;
                perform set_config('lock_timeout', policy.lock_timeout_ms::text, true);
                if missing <> '{}' or old_default is null then
                    for referenced in select distinct k.confrelid::regclass from pg_catalog.pg_constraint k
                                       where k.conrelid = parent and k.contype = 'f' loop
                        execute format('lock table only %s in share row exclusive mode', referenced);
                    end loop;
                end if;
                if old_default is not null and missing <> '{}' then
                    execute format('lock table only %s in access exclusive mode', old_default);
                end if;
                -- A row that leaves the default partition is out of sight of a reader that planned without the
                -- new month: such a reader must wait. Otherwise writers alone are kept out, so that no row is
                -- refused by a default partition that no longer takes its month.
                execute format('lock table only %s in %s mode', parent,
                               case when expired <> '{}' or must_move or old_default is null
                                    then 'access exclusive' else 'share row exclusive' end);

                if old_default is null then
                    execute format('alter table %s attach partition %s default', parent, default_part);
                    done := done || jsonb_build_object('action', 'create', 'name', default_name, 'rows', 0, 'bytes', 0);
                end if;
                position := 0;
                foreach month in array missing loop
                    position := position + 1;
                    next_month := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
                    affected := 0;
                    if old_default is not null then
                        if must_move then
                            execute format('create temp table lifecycle_moved (like %s) on commit drop', parent);
                            execute format('with gone as (delete from only %1$s where %2$I >= $1 and %2$I < $2 returning %3$s)
                                            insert into pg_temp.lifecycle_moved (%3$s) select %3$s from gone',
                                           old_default, policy.time_column, columns)
                              using month, next_month;
                            get diagnostics affected = row_count;
                        else
                            execute format('select exists (select from only %1$s where %2$I >= $1 and %2$I < $2)',
                                           old_default, policy.time_column)
                               into must_move using month, next_month;
                            if must_move then  -- they came after the look above
                                raise lock_not_available using message = 'rows to move: the parent needs a stronger lock';
                            end if;
                        end if;
                    end if;
                    execute format('alter table %s attach partition %s for values from (%L) to (%L)',
                                   parent, built[position], month, next_month);
                    execute format('alter table %s drop constraint lifecycle_bounds', built[position]);
                    if must_move then
                        -- Into the attached partition: subscribers of a publication would not see rows put in before.
                        execute format('insert into %1$s (%2$s) select %2$s from pg_temp.lifecycle_moved', built[position], columns);
                        drop table pg_temp.lifecycle_moved;
                    end if;
                    perform lifecycle.copy_replica_identity(parent, built[position]);
                    done := done || jsonb_build_object('action', 'create', 'bytes', 0, 'rows', affected, 'name',
                        (select c.relname from pg_catalog.pg_class c where c.oid = built[position]));
                    if affected > 0 then
                        done := done || jsonb_build_object('action', 'move', 'bytes', 0, 'rows', affected, 'name', default_name);
                    end if;
                end loop;
                -- The condition is asked again under the lock; only a marked partition is ever dropped.
                for part in
                    select p.partition, p.name, greatest(c.reltuples, 0)::bigint as estimate,
                           pg_total_relation_size(p.partition) as size
                      from lifecycle.expired_event_partitions(policy, as_of) p
                      join pg_catalog.pg_class c on c.oid = p.partition
                     where p.marker is not null and p.partition = any (expired)
                     order by p.name
                loop
                    execute format('drop table %s', part.partition);
                    done := done || jsonb_build_object('action', 'drop', 'name', part.name, 'rows', part.estimate, 'bytes', part.size);
                end loop;
                exit;
            exception when lock_not_available or deadlock_detected then
                if attempt = policy.lock_tries or clock_timestamp() + pause * interval '1 s' > give_up_at then
                    raise;
                end if;
            end;
            perform pg_sleep(pause * (0.5 + random() / 2));
            pause := least(pause * 1.3, longest_pause);
        end loop;
    exception when lock_not_available or deadlock_detected then
        action := 'skipped'; partition_name := null; row_count := 0; outcome := 'failure';
        error := format('no lock on %s within %s ms (tries: %s); nothing was changed. End the long transaction or wait for it, then rotate again',
                        parent, policy.lock_timeout_ms, tried);
        return next; return;
    end;

    for part in select d.v ->> 'action' as a, d.v ->> 'name' as n, (d.v ->> 'rows')::bigint as r, (d.v ->> 'bytes')::bigint as b
                  from unnest(done) with ordinality d(v, o) order by d.o loop
        action := part.a; partition_name := part.n; row_count := part.r; bytes := part.b;
        return next;
    end loop;
end $$;

-- Months ahead are made, months past retention dropped, the default partition emptied as far as it can be.
-- One row for each thing done, each written to audit_events; a failure is a row and does not stop other tables.
create function public.rotate_event_partitions(as_of timestamptz default now(), only_table text default null)
returns table (table_name text, action text, partition_name text, row_count bigint, bytes bigint,
               outcome text, error text)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    policy  lifecycle.event_table_policies;
    result  record;
    started timestamptz;
    found_table boolean := false;
    holds_locks boolean := false;
begin
    if as_of is null or not isfinite(as_of) then
        raise exception 'as_of must be a point in time, not %', coalesce(as_of::text, 'null')
            using errcode = 'invalid_parameter_value', hint = 'Leave it out to rotate as of now.';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('lifecycle.rotate_event_partitions', 0)) then
        raise exception 'rotate_event_partitions already runs in another session'
            using errcode = 'lock_not_available', hint = 'Wait until it is done; nothing was changed.';
    end if;
    for policy in
        select p.* from lifecycle.event_table_policies p
         where only_table is null or p.table_name = only_table order by p.table_name
    loop
        found_table := true;
        started := clock_timestamp();
        if holds_locks then
            -- Locks last until the transaction ends: nobody shall wait for one table while we retry another.
            policy.lock_tries := 1;
        end if;
        begin
            for result in select r.* from lifecycle.rotate_event_table(policy, as_of) r loop
                perform lifecycle.audit_rotation(result.table_name, result.action, result.partition_name,
                    result.row_count, result.bytes, result.outcome, result.error, started);
                holds_locks := holds_locks or result.action in ('create', 'move', 'drop');
                return query select result.table_name, result.action, result.partition_name, result.row_count,
                    result.bytes, result.outcome, result.error;
            end loop;
        exception when others then
            perform lifecycle.audit_rotation(policy.table_name, 'skipped', null, 0, 0, 'failure', sqlerrm, started);
            return query select policy.table_name, 'skipped', null::text, 0::bigint, 0::bigint, 'failure', sqlerrm;
        end;
    end loop;
    if not found_table then
        raise exception 'no event table named % in lifecycle.event_table_policies', coalesce(only_table, '(any)')
            using errcode = 'undefined_table', hint = 'Run lifecycle migrate, or correct the name.';
    end if;
end $$;

create function lifecycle.audit_rotation(table_name text, action text, partition_name text, row_count bigint,
                                         bytes bigint, outcome text, error text, started timestamptz)
returns void
language sql set search_path = ''
as $$
    insert into public.audit_events (entity_type, entity_id, event_type, payload)
    values ('job', 'rotate_event_partitions', 'job_' || outcome,
            pg_catalog.jsonb_build_object(
                'table', table_name, 'action', action, 'partition', partition_name, 'rows', row_count, 'bytes', bytes,
                'duration_ms', pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - started) * 1000),
                'error', error))
$$;

-- The application's maintenance under its own name. What rotation drops is no longer deleted row by row; a
-- table that is not partitioned yet is cleaned as before. An error ends it and reaches the caller.
insert into lifecycle.original_functions (signature, definition, executors)
select 'public.run_daily_maintenance()', pg_get_functiondef(p.oid),
       array(select case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
               from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a)
  from pg_proc p where p.oid = to_regprocedure('public.run_daily_maintenance()');

create or replace function public.run_daily_maintenance() returns text
language plpgsql
set search_path = ''
as $$
declare
    policy  lifecycle.event_table_policies;
    deleted bigint;
    report  text[] := '{}';
begin
    for policy in select p.* from lifecycle.event_table_policies p order by p.table_name loop
        if lifecycle.event_table(policy) is null then
            report := report || format('%s: does not exist', policy.table_name);
            continue;
        end if;
        if (select c.relkind from pg_catalog.pg_class c where c.oid = lifecycle.event_table(policy)) = 'r' then
            execute format('delete from %s where %I < $1', lifecycle.event_table(policy), policy.time_column)
              using now() - policy.retention;
            get diagnostics deleted = row_count;
            report := report || format('%s: %s rows deleted', policy.table_name, deleted);
        else
            report := report || format('%s: rotated by month', policy.table_name);
        end if;
        execute format('analyze %s', lifecycle.event_table(policy));
    end loop;
    if (select c.relispopulated from pg_catalog.pg_class c where c.oid = to_regclass('public.account_function_usage')) then
        refresh materialized view concurrently public.account_function_usage;
    else
        refresh materialized view public.account_function_usage;
    end if;
    report := report || 'account_function_usage: refreshed'::text;
    return array_to_string(report, '; ');
end $$;

revoke all on function public.rotate_event_partitions(timestamptz, text) from public;
revoke all on function public.run_daily_maintenance() from public;
do $$
declare
    api_role name;
begin
    for api_role in select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated') loop
        execute format('revoke all on schema lifecycle, event_partitions from %I', api_role);
        execute format('revoke all on function public.rotate_event_partitions(timestamptz, text) from %I', api_role);
        execute format('revoke all on function public.run_daily_maintenance() from %I', api_role);
    end loop;
end $$;
