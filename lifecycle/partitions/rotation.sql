-- Everything rotation does to one table. New partitions are built beside it first; then one attempt takes
-- all contended locks (referenced tables, default partition, parent), and gives them back before it pauses: no
-- reader or writer waits behind us for longer than the lock timeout. Only an ALTER TABLE waits for the pauses too.
create or replace function lifecycle.rotate_event_table(policy lifecycle.event_table_policies, as_of timestamptz)
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
    default_name text;
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
    held_by      text;
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
    table_name := format('%I.%I', policy.schema_name, policy.table_name); outcome := 'success'; row_count := 0; bytes := 0;

    if parent is null then
        action := 'skipped'; outcome := 'failure';
        error := format('%s: the declared table does not exist. Declare its new name in event_tables.yaml, or take it out, '
                        'then run lifecycle migrate', table_name);
        return next; return;
    end if;
    if (select c.relkind from pg_catalog.pg_class c where c.oid = parent) <> 'p' then
        action := 'skipped'; outcome := 'failure';
        error := format('%s is not partitioned yet: run the job convert_event_tables', parent);
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
    if not exists (select from pg_catalog.pg_partitioned_table t
                     join pg_catalog.pg_attribute a on a.attrelid = t.partrelid and a.attnum = t.partattrs[0]
                    where t.partrelid = parent and a.attname = policy.time_column) then
        action := 'skipped'; outcome := 'failure';
        error := format('%s is not partitioned by its declared time column %I. Declare the present name in event_tables.yaml, '
                        'then run lifecycle migrate', parent, policy.time_column);
        return next; return;
    end if;
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into columns
      from pg_catalog.pg_attribute a
     where a.attrelid = parent and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
    select p.partition, p.name into old_default, default_name
      from lifecycle.event_partitions_of(parent) p where p.is_default;
    default_name := coalesce(default_name, policy.stem || '_default');

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
                parent, format('%s_%s', policy.stem, to_char(month at time zone 'UTC', 'YYYY_MM')), 'month',
                policy.time_column, month, next_month);
        end loop;
        if old_default is not null and missing <> '{}' then
            execute format('select exists (select from only %1$s where %2$I >= $1 and %2$I < $2)', old_default, policy.time_column)
               into must_move using missing[1], next_month;
        end if;

        -- Dropping a partition fires no trigger: kept views are told beforehand, while nobody waits.
        if to_regprocedure('lifecycle.note_dropped_rows(text,text,regclass)') is not null then
            execute 'select lifecycle.note_dropped_rows($1, $2, p) from unnest($3) p'
              using policy.schema_name, policy.table_name, expired;
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
                        execute format('insert into %1$s (%2$s) overriding system value select %2$s from pg_temp.lifecycle_moved', built[position], columns);
                        drop table pg_temp.lifecycle_moved;
                    end if;
                    perform lifecycle.copy_index_settings(parent, built[position]);
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
                    begin  -- one that something holds keeps no other one
                        execute format('drop table %s', part.partition);
                        done := done || jsonb_build_object('action', 'drop', 'name', part.name, 'rows', part.estimate, 'bytes', part.size);
                    exception when dependent_objects_still_exist then
                        get stacked diagnostics held_by = pg_exception_detail;
                        done := done || jsonb_build_object('action', 'skipped', 'name', part.name, 'rows', 0, 'bytes', 0, 'error',
                            format('%s is past retention and cannot be dropped: %s. Drop what depends on it, or let it '
                                   'read %s, then rotate again', part.partition, translate(held_by, E'\n', ';'), parent));
                    end;
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

    for part in select d.v ->> 'action' as a, d.v ->> 'name' as n, (d.v ->> 'rows')::bigint as r, (d.v ->> 'bytes')::bigint as b,
                       d.v ->> 'error' as e
                  from unnest(done) with ordinality d(v, o) order by d.o loop
        action := part.a; partition_name := part.n; row_count := part.r; bytes := part.b; error := part.e;
        outcome := case when part.e is null then 'success' else 'failure' end;
        return next;
    end loop;
end $$;
