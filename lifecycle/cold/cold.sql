-- A row of a partition that is being exported was changed. SECURITY DEFINER: the application's roles write the table and
-- have no rights in schema lifecycle.
create or replace function lifecycle.note_cold_change() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into lifecycle.cold_changes (relation) values (tg_relid);
    return null;
end $$;

-- Whether every change of a partition is noted: somebody may have switched the triggers off or taken them away.
create or replace function lifecycle.notes_cold_changes(partition regclass) returns boolean
language sql stable set search_path = ''
as $$
    select count(*) = 2 from pg_catalog.pg_trigger t
     where t.tgrelid = partition and t.tgname in ('lifecycle_cold', 'lifecycle_cold_truncate') and t.tgenabled = 'A'
$$;

-- Whether a partition may hold other rows than a move read: a change was noted, somebody keeps changes from being noted, or
-- ALTER TABLE wrote all rows anew, which fires no trigger.
create or replace function lifecycle.changed_since_read(move_id bigint, place regclass) returns boolean
language sql stable set search_path = ''
as $$
    select not lifecycle.notes_cold_changes(place)
        or exists (select from lifecycle.cold_changes c where c.relation = place)
        or not exists (select from lifecycle.cold_moves m
                        where m.id = move_id and m.captured_file = pg_catalog.pg_relation_filenode(place))
$$;

-- Whether a row was changed since a move read its month: what it wrote holds what is not so any more.
create or replace function lifecycle.is_outdated(move_id bigint) returns boolean
language sql stable set search_path = ''
as $$
    select exists (select from lifecycle.cold_moves m join lifecycle.cold_changes c on c.relation = m.captured_from
                    where m.id = move_id and m.state not in ('committed', 'cleaned'))
$$;

-- Note every change of a partition from here on, also what apply workers write. Whoever writes it at this moment is waited for.
create or replace function lifecycle.note_cold_changes_of(partition regclass) returns void
language plpgsql set search_path = ''
as $$
begin
    if lifecycle.notes_cold_changes(partition) then
        return;
    end if;
    execute format('drop trigger if exists lifecycle_cold on %s', partition);
    execute format('drop trigger if exists lifecycle_cold_truncate on %s', partition);
    execute format('create trigger lifecycle_cold after insert or update or delete on %s for each row execute function lifecycle.note_cold_change()', partition);
    execute format('create trigger lifecycle_cold_truncate after truncate on %s for each statement execute function lifecycle.note_cold_change()', partition);
    execute format('alter table %s enable always trigger lifecycle_cold', partition);
    execute format('alter table %s enable always trigger lifecycle_cold_truncate', partition);
end $$;

-- Months of a table that stand in the database and are old enough to leave, the oldest first: partitions of ours whose
-- whole month is older than cold_after, neither past retention nor brought back for a time.
create or replace function lifecycle.months_to_move(policy lifecycle.event_table_policies, as_of timestamptz)
returns table (month timestamptz, partition regclass, name text, bytes bigint)
language sql stable set search_path = ''
as $$
    select p.lower_bound, p.partition, p.name, pg_catalog.pg_total_relation_size(p.partition)
      from lifecycle.event_partitions_of(lifecycle.event_table(policy)) p
     where policy.cold_after is not null and p.marker = 'month'
       and p.upper_bound <= lifecycle.first_hot_month(policy, least(as_of, pg_catalog.now()))
       and p.upper_bound > lifecycle.first_kept_month(policy, as_of)
       and not exists (select from lifecycle.cold_restored r
                        where r.schema_name = policy.schema_name and r.table_name = policy.table_name
                          and r.month = p.lower_bound and r.hot_until > as_of)
     order by 1
$$;

-- Between rows in the database and rows in files lies a border that nothing crosses while somebody reads both together: who
-- does (lifecycle/cold/query.py) holds this lock shared. Whoever attaches or drops a partition that is or was in files calls
-- this first in that transaction, before a lock behind which writers would queue up. Readers that come while it waits, come
-- after it: there may always be one. An error (lock_not_available) when one takes longer.
create or replace function lifecycle.hold_cold_border() returns void
language plpgsql set search_path = ''
as $$
declare
    patience constant text := pg_catalog.current_setting('lock_timeout');
begin
    perform pg_catalog.set_config('lock_timeout', '1s', true);
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('lifecycle.cold_border', 0));
    perform pg_catalog.set_config('lock_timeout', patience, true);
end $$;

-- The partition of a move leaves the database and its files take its place, in the caller's transaction. 'committed', or why
-- not: 'changed' when a row was changed since it was read, 'gone' when the partition is another one or none.
create or replace function lifecycle.commit_cold_move(move_id bigint) returns text
language plpgsql set search_path = ''
as $$
declare
    move   lifecycle.cold_moves;
    policy lifecycle.event_table_policies;
    parent regclass;
    part   record;
begin
    select m.* into strict move from lifecycle.cold_moves m where m.id = move_id for update;
    if move.state <> 'verified' then
        raise exception 'cold move % is %, not verified', move_id, move.state using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform lifecycle.hold_cold_border();
    parent := to_regclass(format('%I.%I', move.schema_name, move.table_name));
    execute format('lock table only %s in access exclusive mode', parent);
    select p.* into part from lifecycle.event_partitions_of(parent) p
     where p.name = move.partition and p.marker = 'month' and p.lower_bound = move.month;
    if not found or part.partition <> move.captured_from then
        return 'gone';
    end if;
    execute format('lock table %s in access exclusive mode', part.partition);
    if lifecycle.changed_since_read(move.id, part.partition) then
        return 'changed';
    end if;
    if (select coalesce(sum(f.rows), 0) from lifecycle.cold_files f where f.move_id = move.id and f.state = 'stored') <> move.rows then
        raise exception 'the files of cold move % hold other rows than were read', move_id using errcode = 'data_corrupted';
    end if;
    select p.* into strict policy from lifecycle.event_table_policies p
     where p.schema_name = move.schema_name and p.table_name = move.table_name;
    if lifecycle.narrow_table(policy) is not null and not lifecycle.attach_narrow_month(policy, move.month, false) then
        return 'changed';
    end if;
    execute format('drop table %s', part.partition);
    update lifecycle.cold_files f set state = 'live', live_at = clock_timestamp() where f.move_id = move.id and f.state = 'stored';
    update lifecycle.cold_moves m set state = 'committed', changed_at = clock_timestamp(), committed_at = clock_timestamp() where m.id = move.id;
    return 'committed';
end $$;

-- Files past retention are of no use to anybody: the month goes as a whole, also from the narrow table. How many.
create or replace function lifecycle.retire_cold_files(policy lifecycle.event_table_policies, as_of timestamptz) returns bigint
language plpgsql set search_path = ''
as $$
declare
    first_kept constant timestamptz := lifecycle.first_kept_month(policy, least(as_of, now()));
    expired    timestamptz;
    retired    bigint;
begin
    for expired in
        select f.month from lifecycle.cold_files f
         where f.schema_name = policy.schema_name and f.table_name = policy.table_name and f.state = 'live' and f.month < first_kept
         union
        select n.month from lifecycle.narrow_months n
         where n.schema_name = policy.schema_name and n.table_name = policy.table_name and n.month < first_kept
    loop
        perform lifecycle.drop_narrow_month(policy, expired, true);
    end loop;
    update lifecycle.cold_files f set state = 'retired', retired_at = clock_timestamp()
     where f.schema_name = policy.schema_name and f.table_name = policy.table_name and f.state = 'live' and f.month < first_kept;
    get diagnostics retired = row_count;
    return retired;
end $$;

-- Columns of a table of ours are called as those of the event table that they follow, also after the application renamed one.
create or replace function lifecycle.follow_columns(parent regclass, target regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    renamed  record;
    followed record;
begin
    for renamed in
        select t.attname as old, p.attname as new from pg_catalog.pg_attribute t
          join pg_catalog.pg_attribute p
            on p.attrelid = parent and p.attnum = substring(col_description(target, t.attnum) from '^lifecycle:follows column ([0-9]+)$')::int
         where t.attrelid = target and t.attnum > 0 and not t.attisdropped and not p.attisdropped and t.attname <> p.attname
           and not exists (select from pg_catalog.pg_attribute s where s.attrelid = parent and s.attname = t.attname and not s.attisdropped)
           and not exists (select from pg_catalog.pg_attribute o where o.attrelid = target and o.attname = p.attname and not o.attisdropped)
    loop
        execute format('alter table %s rename column %I to %I', target, renamed.old, renamed.new);
        update lifecycle.narrow_months n set column_names = array_replace(n.column_names, renamed.old::text, renamed.new::text)
          from lifecycle.event_table_policies p
         where lifecycle.event_table(p) = parent and (n.schema_name, n.table_name) = (p.schema_name, p.table_name);
    end loop;
    for followed in
        select t.attname, p.attnum from pg_catalog.pg_attribute t
          join pg_catalog.pg_attribute p on p.attrelid = parent and p.attname = t.attname and not p.attisdropped
         where t.attrelid = target and t.attnum > 0 and not t.attisdropped
           and col_description(target, t.attnum) is distinct from 'lifecycle:follows column ' || p.attnum
    loop
        execute format('comment on column %s.%I is %L', target, followed.attname, 'lifecycle:follows column ' || followed.attnum);
    end loop;
end $$;

-- The table of rows that were taken out of files to be changed, made when it is first needed: like the event table, without its
-- keys and triggers. Views that read cold months find such rows here. It takes over changed columns while it is empty.
create or replace function lifecycle.thawed_table(policy lifecycle.event_table_policies) returns regclass
language plpgsql set search_path = '' set lock_timeout = '2s'
as $$
declare
    parent  constant regclass := lifecycle.event_table(policy);
    called  constant text := policy.stem || '_thawed';
    target  regclass := to_regclass(format('event_partitions.%I', called));
    changes text;
    waits   boolean;
begin
    if target is null then
        execute format('create table event_partitions.%I (like %s including defaults including generated)', called, parent);
        target := format('event_partitions.%I', called)::regclass;
        execute format('comment on table %s is %L', target, format('lifecycle:thawed of %s', parent));
        execute format('alter table %s replica identity full', target);
        perform lifecycle.close_to_api(target);
        perform lifecycle.follow_columns(parent, target);
        return target;
    end if;
    perform lifecycle.follow_columns(parent, target);
    -- Views that read it stay as they are: no view reads a column that the event table does not have.
    with wanted as (
        select a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attgenerated, a.attnotnull, a.attnum,
               pg_get_expr(d.adbin, d.adrelid) as held
          from pg_catalog.pg_attribute a left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = parent and a.attnum > 0 and not a.attisdropped
    ), there as (
        select a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attgenerated
          from pg_catalog.pg_attribute a where a.attrelid = target and a.attnum > 0 and not a.attisdropped
    )
    select string_agg(c.change, ', ' order by c.place, c.number) into changes
      from (select 1, 0, format('drop column %I', t.attname) from there t
             where not exists (select from wanted w where (w.attname, w.type, w.attgenerated) = (t.attname, t.type, t.attgenerated))
             union all
            select 2, w.attnum, format('add column %I %s %s %s', w.attname, w.type,
                       case when w.attgenerated <> '' then format('generated always as (%s) stored', w.held)
                            when w.held is not null then 'default ' || w.held else '' end,
                       case when w.attnotnull then 'not null' else '' end)
              from wanted w
             where not exists (select from there t where (w.attname, w.type, w.attgenerated) = (t.attname, t.type, t.attgenerated))
           ) c(place, number, change);
    if changes is null then
        return target;
    end if;
    execute format('lock table %s in access exclusive mode', target);
    execute format('select exists (select from %s)', target) into waits;
    if waits then
        raise exception 'rows of % wait in % with other columns than it has by now', parent, target
            using errcode = 'object_in_use', hint = 'Run the job move_cold_months, which puts them away, then this again.';
    end if;
    execute format('alter table %s %s', target, changes);
    perform lifecycle.follow_columns(parent, target);
    return target;
end $$;
