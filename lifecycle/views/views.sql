-- Before this moment nothing can be committed any more that a reader of now does not see: no transaction that is older
-- still runs, none is prepared.
create or replace function lifecycle.safe_until() returns timestamptz
language sql volatile set search_path = ''
as $$
    select least(now(),
                 (select min(a.xact_start) from pg_stat_activity a
                   where a.datname = current_database() and a.pid <> pg_backend_pid()
                     and a.backend_type not in ('autovacuum worker', 'walsender', 'parallel worker')),
                 (select min(p.prepared) from pg_prepared_xacts p where p.database = current_database()))
$$;

-- One refresh at a time: null when this transaction is the one, otherwise the process that has it.
create or replace function lifecycle.lock_analytics() returns int
language plpgsql set search_path = ''
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        -- An old snapshot would not hold the changes that are noted as seen.
        raise exception 'views are refreshed at isolation level read committed, not %', current_setting('transaction_isolation')
            using errcode = 'invalid_transaction_state', hint = 'set transaction isolation level read committed';
    end if;
    if pg_try_advisory_xact_lock(hashtextextended('lifecycle.analytics', 0)) then
        return null;
    end if;
    return coalesce((select l.pid from pg_locks l
                      where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                        and l.database = (select d.oid from pg_database d where d.datname = current_database())
                        and ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended('lifecycle.analytics', 0)
                      limit 1), 0);
end $$;

-- What a refresh says when another session has the lock.
create or replace function lifecycle.told_holder(holder int) returns text
language sql stable set search_path = ''
as $$ select format('another session refreshes (pid %s); nothing was done, wait for it', holder) $$;

-- Whether somebody who names a view means this one: with its schema or without.
create or replace function lifecycle.is_called(called text, schema_name text, view_name text) returns boolean
language sql stable set search_path = ''
as $$ select called in (view_name, format('%I.%I', schema_name, view_name)) $$;

-- What came of one view: a row of the ledger and, unless a lock was merely taken, a message. How long it took, in ms.
create or replace function lifecycle.record_refresh(job text, view_name text, outcome text, error text, started timestamptz,
                                                    details jsonb)
returns bigint
language plpgsql set search_path = ''
as $$
declare
    duration_ms constant bigint := lifecycle.milliseconds_since(started);
begin
    perform lifecycle.record_outcome(job, view_name, error,
        details || jsonb_build_object('outcome', outcome, 'duration_ms', duration_ms), outcome <> 'busy');
    return duration_ms;
end $$;

-- Every relation that a view reads, views inside of views looked through. `through_materialized` looks through
-- materialized views, too: what they hold is as old as their refresh.
create or replace function lifecycle.relations_read(view regclass, through_materialized boolean default false)
returns table (relid oid, relkind "char")
language sql stable set search_path = ''
as $$
    with recursive read (relid, relkind, depth) as (
        select view::oid, 'v'::"char", 0
         union
        select c.oid, c.relkind, 1
          from read
          join pg_rewrite w on w.ev_class = read.relid
          join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
                          and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
          join pg_class c on c.oid = d.refobjid
         where read.relkind = 'v' or read.relkind = 'm' and through_materialized
    )
    select distinct r.relid, r.relkind from read r where r.depth > 0
$$;

-- A number that is another one after any change of these relations: rows written, TRUNCATE, a dropped partition.
create or replace function lifecycle.source_changes(relations oid[]) returns numeric
language sql stable set search_path = ''
as $$
    select coalesce(sum(pg_stat_get_tuples_inserted(t.relid) + pg_stat_get_tuples_updated(t.relid)
                        + pg_stat_get_tuples_deleted(t.relid)
                        + coalesce(pg_relation_filenode(t.relid)::bigint, 0)), 0)  -- TRUNCATE counts no rows
           + count(*)  -- a dropped partition takes its counters along
      from unnest(relations) s(relid)
     cross join lateral (select s.relid
                          union
                         select p.relid from pg_partition_tree(s.relid::regclass) p where p.isleaf) t
$$;

-- The same of all tables and materialized views that a view reads.
create or replace function lifecycle.source_changes(view regclass) returns numeric
language sql stable set search_path = ''
as $$
    select lifecycle.source_changes(array(select r.relid from lifecycle.relations_read(view) r
                                           where r.relkind in ('r', 'p', 'm')))
$$;

-- The statement that makes the index by which REFRESH CONCURRENTLY tells rows apart: a unique one over all rows and plain
-- columns. Null where there is none: readers wait then.
create or replace function lifecycle.refresh_key(view regclass) returns text
language sql stable set search_path = ''
as $$
    select pg_get_indexdef(i.indexrelid) || ';' from pg_index i
     where i.indrelid = view and i.indisunique and i.indisvalid and i.indimmediate
       and i.indpred is null and i.indexprs is null
     order by i.indnatts, i.indexrelid limit 1
$$;

-- What is told of a view without one; `known` is the statement that made the one it had.
create or replace function lifecycle.told_without_refresh_key(known text) returns text
language sql immutable set search_path = ''
as $$
    select 'it has no unique index over plain columns' || coalesce(' any more. To build it again: ' || known, '')
$$;

-- One view by its own definition. `rewritten`: readers had to wait for it, and `error` says why.
create or replace function lifecycle.refresh_materialized_view(policy lifecycle.materialized_view_policies)
returns table (outcome text, rows bigint, error text)
language plpgsql set search_path = '' set lock_timeout = '1s'
as $$
#variable_conflict use_variable
declare
    view_name constant text := format('%I.%I', policy.schema_name, policy.view_name);
    target    constant regclass := to_regclass(view_name);
    changes   constant numeric := lifecycle.source_changes(target);
    found     record;
    last      lifecycle.refresh_states;
    why_whole text;
begin
    rows := 0;
    select c.relkind, c.relispopulated into found from pg_class c where c.oid = target;
    if found.relkind is distinct from 'm' then
        outcome := 'failure';
        error := format('%s is %s; restore it, or take it out of views.yaml and run lifecycle migrate', view_name,
                        case when found.relkind is null then 'missing' else 'no materialized view' end);
        return next; return;
    end if;
    select s.* into last from lifecycle.refresh_states s where s.name = view_name;
    if found.relispopulated and last.source_changes = changes and last.refreshed_at > now() - policy.max_age then
        update lifecycle.refresh_states s set right_at = now() where s.name = view_name;
        outcome := 'skipped'; rows := last.rows; error := null;
        return next; return;
    end if;
    begin
        if not found.relispopulated then
            -- Nobody can be reading it: PostgreSQL refuses to read what was never populated.
            execute format('refresh materialized view %s', view_name);
            outcome := 'populated';
        elsif lifecycle.refresh_key(target) is not null then
            begin
                execute format('refresh materialized view concurrently %s', view_name);
                outcome := 'success';
            exception when cardinality_violation then
                why_whole := 'its rows are no longer unique beside NULLs';
            end;
        else
            why_whole := lifecycle.told_without_refresh_key(last.refresh_key);
        end if;
        if why_whole is not null then
            execute format('refresh materialized view %s', view_name);
            outcome := 'rewritten';
        end if;
        execute format('select count(*) from %s', view_name) into rows;
        insert into lifecycle.refresh_states as s (name, refreshed_at, right_at, source_changes, rows, refresh_key)
        values (view_name, now(), now(), changes, rows, lifecycle.refresh_key(target))
        on conflict on constraint refresh_states_pkey do update
           set refreshed_at = excluded.refreshed_at, right_at = excluded.right_at,
               source_changes = excluded.source_changes, rows = excluded.rows,
               refresh_key = coalesce(excluded.refresh_key, s.refresh_key);
        error := 'readers waited while it was written: ' || why_whole;
    exception
        when lock_not_available or deadlock_detected then
            outcome := 'busy';
            error := format('no lock on %s within 1 s; nothing was changed. Another refresh or an ALTER is in the way: wait for it', view_name);
        when others then
            outcome := 'failure'; error := lifecycle.first_line(sqlerrm);
    end;
    return next;
end $$;

-- The declared views that exist, one that others read before them; `only_view` with or without its schema.
create or replace function lifecycle.materialized_views(only_view text default null)
returns setof lifecycle.materialized_view_policies
language sql stable set search_path = ''
as $$
    select p.* from lifecycle.materialized_view_policies p
     cross join lateral (select to_regclass(format('%I.%I', p.schema_name, p.view_name)) as relid) v
     where (only_view is null or lifecycle.is_called(only_view, p.schema_name, p.view_name))
       and (v.relid is not null or not p.optional)
     order by (select count(*) from lifecycle.relations_read(v.relid, true) r where r.relkind = 'm'),
              p.schema_name, p.view_name
$$;

-- Every declared materialized view whose sources changed, each on its own: one row and one row of the ledger a view.
create or replace function public.refresh_analytics_hourly(only_view text default null)
returns table (name text, outcome text, duration_ms bigint, rows bigint, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    job     constant text := 'refresh_analytics_hourly';
    policy  lifecycle.materialized_view_policies;
    started timestamptz;
    holder  int;
    failed  text;
begin
    if only_view is not null
       and not exists (select from lifecycle.materialized_view_policies p
                        where lifecycle.is_called(only_view, p.schema_name, p.view_name)) then
        raise exception 'no view named % in lifecycle.materialized_view_policies', only_view
            using errcode = 'undefined_table', hint = 'Declare it in views.yaml and run lifecycle migrate, or correct the name.';
    end if;
    holder := lifecycle.lock_analytics();
    if holder is not null then
        return query select format('%I.%I', p.schema_name, p.view_name), 'busy', 0::bigint, 0::bigint,
            lifecycle.told_holder(holder)
          from lifecycle.materialized_views(only_view) p;
        return;
    end if;
    for policy in select p.* from lifecycle.materialized_views(only_view) p loop
        name := format('%I.%I', policy.schema_name, policy.view_name);
        started := clock_timestamp();
        begin
            select v.outcome, v.rows, v.error into outcome, rows, error
              from lifecycle.refresh_materialized_view(policy) v;
        exception when others then
            outcome := 'failure'; rows := 0; error := lifecycle.first_line(sqlerrm);
        end;
        failed := case when outcome in ('busy', 'failure') then error end;
        duration_ms := lifecycle.record_refresh(job, name, outcome, failed, started,
            jsonb_build_object('rows', rows, 'note', case when failed is null then error end));
        return next;
    end loop;
end $$;
