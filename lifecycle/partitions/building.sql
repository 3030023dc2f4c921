-- Take away from everybody but the owner what default privileges gave a new table, materialized view or sequence. A partition
-- gives its rows to whoever may read it directly. Not by row-level security, which the tools of Supabase that compare schemas
-- cannot read of a partition.
create or replace function lifecycle.close_to_api(target regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    grantee text;
begin
    for grantee in
        select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
          from pg_catalog.pg_class c, aclexplode(c.relacl) a
         where c.oid = target and a.grantee <> c.relowner
    loop
        execute format('revoke all on table %s from %s cascade', target, grantee);
    end loop;
end $$;

-- What LIKE does not copy of columns: how finely they and extended statistics are sampled, what the planner was told.
create or replace function lifecycle.copy_column_settings(source regclass, target regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    found_column record;
    found_statistics record;
begin
    for found_column in
        select a.attname, a.attstattarget, array_to_string(a.attoptions, ', ') as options
          from pg_catalog.pg_attribute a
         where a.attrelid = source and a.attnum > 0 and not a.attisdropped
           and (a.attstattarget >= 0 or a.attoptions <> '{}')
    loop
        if found_column.attstattarget >= 0 then
            execute format('alter table only %s alter column %I set statistics %s', target, found_column.attname, found_column.attstattarget);
        end if;
        if found_column.options <> '' then
            execute format('alter table only %s alter column %I set (%s)', target, found_column.attname, found_column.options);
        end if;
    end loop;
    for found_statistics in
        select n.nspname, t.stxname, s.stxstattarget
          from pg_catalog.pg_statistic_ext s
          join pg_catalog.pg_statistic_ext t on t.stxrelid = target and t.stxkind = s.stxkind
           and pg_catalog.pg_get_statisticsobjdef_columns(t.oid) = pg_catalog.pg_get_statisticsobjdef_columns(s.oid)
          join pg_catalog.pg_namespace n on n.oid = t.stxnamespace
         where s.stxrelid = source and s.stxstattarget >= 0
    loop
        execute format('alter statistics %I.%I set statistics %s', found_statistics.nspname, found_statistics.stxname, found_statistics.stxstattarget);
    end loop;
end $$;

-- A table like the parent, beside it, with the parent's indexes and the storage options of the original
-- table, marked and closed. With bounds it gets a CHECK that says the same, so that ATTACH scans nothing.
create or replace function lifecycle.build_partition(parent regclass, partition_name text, marker text, time_column text,
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
    place    name;
begin
    if target is not null then
        leftover := obj_description(target, 'pg_class') like 'lifecycle:% of %'
            and not exists (select from pg_catalog.pg_inherits i where i.inhrelid = target);
        if leftover then
            execute format('select not exists (select from %s)', target) into leftover;
        end if;
        if leftover is distinct from true then
            raise exception 'table event_partitions.% already exists and is not an empty leftover of ours', quote_ident(partition_name)
                using errcode = 'duplicate_table', hint = 'Rename it or move its rows, then run the rotation again.';
        end if;
        execute format('drop table %s', target);
    end if;
    select c.relowner::regrole::text into owner from pg_catalog.pg_class c where c.oid = parent;
    select string_agg(o, ', ') into options
      from lifecycle.partition_conversions v cross join lateral unnest(v.storage_options) o
      join pg_catalog.pg_namespace n on n.nspname = v.schema_name
      join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = v.table_name
     where c.oid = parent;
    select t.spcname into place from pg_catalog.pg_class c join pg_catalog.pg_tablespace t on t.oid = c.reltablespace
     where c.oid = parent;
    execute format('create table event_partitions.%I (like %s including all excluding identity) %s %s', partition_name, parent,
                   case when options <> '' then 'with (' || options || ')' else '' end, 'tablespace ' || quote_ident(place));
    target := format('event_partitions.%I', partition_name)::regclass;
    perform lifecycle.copy_column_settings(parent, target);
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

-- What a partition has of its parent's indexes only once they are attached: its replica identity (logical replication
-- of an UPDATE reads that of the partition) and how finely expressions are sampled.
create or replace function lifecycle.copy_index_settings(parent regclass, partition regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    kind  "char" := (select c.relreplident from pg_catalog.pg_class c where c.oid = parent);
    index_name text;
    sampled record;
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
    for sampled in
        select i.indexrelid::regclass as index_of_partition, a.attnum, a.attstattarget
          from pg_catalog.pg_index p
          join pg_catalog.pg_attribute a on a.attrelid = p.indexrelid and a.attstattarget >= 0
          join pg_catalog.pg_inherits h on h.inhparent = p.indexrelid
          join pg_catalog.pg_index i on i.indexrelid = h.inhrelid and i.indrelid = partition
         where p.indrelid = parent
    loop
        execute format('alter index %s alter column %s set statistics %s', sampled.index_of_partition, sampled.attnum, sampled.attstattarget);
    end loop;
end $$;
