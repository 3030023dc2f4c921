-- Materialized views after an erasure: those that hold somebody, or read what was erased, are made anew.

-- Materialized views of the searched schemas in the order in which they have to be refreshed, each with every relation
-- that it reads, through other views, too.
create or replace function lifecycle.views_in_order() returns table (relation regclass, depth int, reads oid[])
language sql stable set search_path = ''
as $$
    with recursive reading as (
        select distinct r.ev_class as reader, d.refobjid as read
          from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
         where d.refclassid = 'pg_class'::regclass and d.refobjid <> r.ev_class
    ), reached as (
        select c.oid as view, r.read
          from pg_class c join pg_namespace n on n.oid = c.relnamespace join reading r on r.reader = c.oid
         where c.relkind = 'm' and n.nspname !~ '^pg_'
           and n.nspname <> all (select unnest(p.managed_schemas) from lifecycle.erasure_policy p)
         union
        select a.view, r.read from reached a join reading r on r.reader = a.read
    )
    select a.view::regclass,
           -- One that is read by another has fewer views below itself.
           count(distinct a.read) filter (where c.relkind in ('m', 'v'))::int, array_agg(distinct a.read)
      from reached a join pg_class c on c.oid = a.read
     group by a.view order by 2, 1
$$;

-- Whether a table of ours holds the rows of a kept view, which are made anew from others (lifecycle/views/tables.py).
create or replace function lifecycle.is_kept_table(relation regclass) returns boolean
language sql stable set search_path = ''
as $$ select coalesce(obj_description(relation, 'pg_class') like 'lifecycle:kept view %', false) $$;

-- Everything that is searched, in the order of the search: tables first, since words are taken out of them, then what is
-- noted of that for kept views, then the kept and materialized views that read them.
create or replace function lifecycle.relations_to_search() returns table (place bigint, relation regclass, table_name text, bytes bigint)
language sql stable set search_path = ''
as $$
    select row_number() over (order by c.relkind = 'm', lifecycle.is_kept_table(s.relation),
                                       s.table_name = 'lifecycle.changed_rows', m.depth nulls first, max(s.bytes), s.table_name),
           s.relation, s.table_name, max(s.bytes)
      from lifecycle.searched_columns() s
      join pg_class c on c.oid = s.relation
      left join lifecycle.views_in_order() m on m.relation = s.relation
     group by s.relation, s.table_name, c.relkind, m.depth order by 1
$$;

-- One view; false when somebody else refreshes it at this moment. What fails otherwise is told, and the search finds whom
-- the view still holds.
create or replace function lifecycle.refresh_erased_view(relation regclass) returns boolean
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    view    record;
    done    boolean;
    code    text;
    error   text;
    context text;
begin
    select format('%I.%I', n.nspname, c.relname) as name,
           c.relispopulated and exists (select from pg_index i
                    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
                      and i.indpred is null and i.indexprs is null) as concurrently
      into view
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
    if lifecycle.is_kept_table(relation) then
        execute 'select lifecycle.refresh_kept_table($1)' into strict done using relation;
        return done;
    end if;
    execute format('refresh materialized view %s%s', case when view.concurrently then 'concurrently ' else '' end, view.name);
    perform lifecycle.report_outcome('erase_personal_data', 'materialized view ' || view.name, null);
    return true;
exception
    when lock_not_available or deadlock_detected then
        return false;
    when others then
        get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context;
        perform lifecycle.report_outcome('erase_personal_data', 'materialized view ' || view.name,
            'it could not be refreshed after an erasure: ' || lifecycle.told_error(code, error, context, '', ''));
        return true;
end $$;

-- Views that read a table from which rows of the batch were erased. False when one is being refreshed by somebody else:
-- wait, then call again.
create or replace function lifecycle.refresh_after_erasure(batch uuid) returns boolean
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    view    record;
    done    boolean;
    touched oid[];
begin
    perform lifecycle.renew_erasure_lease(batch);
    touched := array(select lifecycle.reachable(t.table_name)::oid
                       from (select distinct c.table_name from lifecycle.erasure_counts c join lifecycle.deletion_jobs j on j.id = c.job_id
                              where j.batch_id = batch and j.state = 'erased') t);
    -- Kept views first: materialized views may read them. Not every application declares any.
    if to_regprocedure('lifecycle.refresh_kept_after_erasure()') is not null then
        execute 'select lifecycle.refresh_kept_after_erasure()' into strict done;
        if not done then
            return false;
        end if;
    end if;
    for view in
        select m.relation from lifecycle.views_in_order() m join pg_class c on c.oid = m.relation
         where m.reads && touched and c.relispopulated order by m.depth, m.relation
    loop
        if not lifecycle.refresh_erased_view(view.relation) then
            return false;
        end if;
    end loop;
    return true;
end $$;
