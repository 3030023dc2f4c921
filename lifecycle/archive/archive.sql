-- Whom an archive answers: who sees the group (the conversation) and may read rows of it in the table they came from.
-- Evaluated anew at each query under the caller's own rights, from the text of the application's policies: a policy of
-- ours that held their expressions would keep the application from changing its columns and functions. A policy that
-- reads more of a row than its group cannot be asked here: left out where it opens, closed where it restricts.
-- `reader_path` is the reader's search_path, which functions of the application may count on; within a function of ours
-- it is empty, and then it is that of the session.
create or replace function lifecycle.readable_groups(source_schema text, source_table text, group_column text,
                                                     groups_schema text, groups_table text, groups_id text,
                                                     reader_path text)
returns setof text
language plpgsql stable set search_path = ''
as $$
declare
    source constant regclass := to_regclass(format('%I.%I', source_schema, source_table));
    groups constant regclass := to_regclass(format('%I.%I', groups_schema, groups_table));
    opens  text := 'true';
    closes text;
begin
    if source is null or groups is null then
        return;
    end if;
    if (select c.relrowsecurity from pg_catalog.pg_class c where c.oid = source) then
        select string_agg(format('(%s)', p.condition), ' or ') filter (where p.polpermissive and p.of_group),
               string_agg(case when p.of_group then format('(%s)', p.condition) else 'false' end, ' and ')
                   filter (where not p.polpermissive)
          into opens, closes
          from (select o.polpermissive, pg_catalog.pg_get_expr(o.polqual, o.polrelid) as condition,
                       not exists (
                           select from pg_catalog.pg_depend d
                             left join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = group_column
                            where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = o.oid
                              and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = source
                              and d.refobjsubid <> 0 and d.refobjsubid is distinct from a.attnum) as of_group
                  from pg_catalog.pg_policy o
                 where o.polrelid = source and o.polcmd in ('r', '*') and o.polqual is not null
                   and exists (select from unnest(o.polroles) r
                                where case when r = 0 then true
                                           else pg_catalog.pg_has_role(current_user, r, 'usage') end)) p;
    end if;
    if opens is null then
        return;
    end if;
    if reader_path in ('', '""') then
        select s.reset_val into reader_path from pg_catalog.pg_settings s where s.name = 'search_path';
    end if;
    perform pg_catalog.set_config('search_path', reader_path, true);
    return query execute pg_catalog.format(
        'select g.%1$I::text from %2$s g
          where exists (select from (select g.%1$I) as %3$I(%4$I) where (%5$s) and (%6$s))',
        groups_id, groups, source_table, group_column, opens, coalesce(closes, 'true'));
exception
    -- Whoever may not read the groups reads no archive; nor does anybody while a name is not what it was.
    when insufficient_privilege or undefined_table or undefined_column or undefined_function or undefined_object
         or datatype_mismatch or cannot_coerce then
        return;
end $$;

-- A group that is deleted takes its archived rows along, as its other rows go by the application's foreign key. What
-- fails here is reported and left to the next run of the archive: the application's own statement goes on.
create or replace function lifecycle.archived_groups_gone() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    archive     constant text := format('%I.%I', tg_argv[0], tg_argv[1]);
    group_column constant text := tg_argv[2];
    groups_id   constant text := tg_argv[3];
    stored_type constant text := tg_argv[4];
    job         constant text := tg_argv[5];
begin
    if tg_op = 'TRUNCATE' then
        execute format('truncate %s', archive);
        delete from lifecycle.restored_groups r where r.archive_schema = tg_argv[0] and r.archive_table = tg_argv[1];
    else
        execute format('delete from %s a using gone g where a.%I = g.%I::%s', archive, group_column, groups_id, stored_type);
        execute format('delete from lifecycle.restored_groups r using gone g
                         where r.archive_schema = $1 and r.archive_table = $2 and r.group_key = g.%I::text', groups_id)
          using tg_argv[0], tg_argv[1];
    end if;
    return null;
exception
    when serialization_failure then
        raise;
    when others then
        perform lifecycle.record_outcome(job, 'groups of ' || archive, sqlerrm);
        return null;
end $$;
