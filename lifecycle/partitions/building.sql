-- A partition gives its rows to whoever may read it directly: nobody but the owner may. Not by row-level security, which the
-- tools of Supabase that compare schemas cannot read of a partition.
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
        execute format('revoke all on table %s from %s', target, grantee);
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
create or replace function lifecycle.copy_replica_identity(parent regclass, partition regclass) returns void
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
