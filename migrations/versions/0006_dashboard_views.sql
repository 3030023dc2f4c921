-- The dashboards' views answer from the tables that revision 0005 filled. Names, columns, types, owners and grants stay.
-- The application's views ------------------------------------------------------------------------------------

create table lifecycle.original_relations (
    name       text primary key,
    kind       text not null,
    definition text not null,
    options    text[] not null default '{}',
    indexes    text[] not null default '{}',
    comment    text,
    kept_at    timestamptz not null default now()
);
comment on table lifecycle.original_relations is 'Views of the application as they were before a migration replaced them: the way back. Each also stands as lifecycle.original_<name>, for comparison.';

-- What a relation of the application was goes into lifecycle.original_relations and lifecycle.original_<name>.
create function lifecycle.keep_original(relation_name text) returns void
language plpgsql set search_path = 'public'
as $$
declare
    target regclass := to_regclass(format('public.%I', relation_name));
    found  pg_class;
begin
    select * into found from pg_class where oid = target;
    insert into lifecycle.original_relations (name, kind, definition, options, indexes, comment)
    values (relation_name, found.relkind, rtrim(pg_get_viewdef(target), ';'), coalesce(found.reloptions, '{}'),
            array(select pg_get_indexdef(i.indexrelid) from pg_index i where i.indrelid = target order by 1),
            obj_description(target, 'pg_class'));
    execute format('create view lifecycle.%I as %s', 'original_' || relation_name, rtrim(pg_get_viewdef(target), ';'));
    execute format('comment on view lifecycle.%I is %L', 'original_' || relation_name,
                   format('public.%s as the application had defined it', relation_name));
end $$;

-- The types of a view's columns as they stand, so that whoever reads it sees no difference. Refuses a view with other
-- columns than expected: it was made by other hands, and its figures might mean something else.
create function lifecycle.replace_view(view_name text, columns text[], query text) returns void
language plpgsql set search_path = 'public'
as $$
declare
    target regclass := to_regclass(format('public.%I', view_name));
    found  pg_class;
    names  text[];
    list   text;
    role   name;
begin
    if target is null then
        execute format('create view public.%I as %s', view_name, query);
        for role in select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated') loop
            execute format('revoke all on public.%I from %I', view_name, role);
        end loop;
        insert into lifecycle.original_relations (name, kind, definition) values (view_name, 'missing', '');
        return;
    end if;
    select * into found from pg_class where oid = target;
    select array_agg(a.attname::text order by a.attnum),
           string_agg(format('q.%I::%s as %I', a.attname, format_type(a.atttypid, a.atttypmod), a.attname), ', ' order by a.attnum)
      into names, list
      from pg_attribute a where a.attrelid = target and a.attnum > 0 and not a.attisdropped;
    if found.relkind <> 'v' or names <> columns then
        raise exception 'public.% is not the view that this project knows: it is of kind % with the columns %',
            view_name, found.relkind, array_to_string(names, ', ')
            using hint = format('Expected a view with the columns %s. Rename yours, then migrate again.', array_to_string(columns, ', '));
    end if;
    if exists (select from unnest(found.reloptions) o where o like 'security_invoker=%' and o not in ('security_invoker=false', 'security_invoker=off', 'security_invoker=0')) then
        raise exception 'public.% is a security_invoker view: each reader sees other rows, which one table cannot hold', view_name
            using hint = 'Revoke it from the API roles and drop the option (alter view ... reset (security_invoker)), then migrate again.';
    end if;
    perform lifecycle.keep_original(view_name);
    execute format('create or replace view public.%I %s as select %s from (%s) q', view_name,
                   case when found.reloptions <> '{}' then 'with (' || array_to_string(found.reloptions, ', ') || ')' else '' end,
                   list, query);
    perform lifecycle.let_owner_read(view_name);
end $$;

-- A view reads with its owner's rights: where that is a role of the dashboards, every read of them would be refused.
-- It gets the tables behind its own views, and not the schema.
create function lifecycle.let_owner_read(view_name text) returns void
language plpgsql set search_path = 'public'
as $$
declare
    source regclass;
begin
    for source in
        select distinct d.refobjid::regclass
          from pg_rewrite r
          join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass
          join pg_class c on c.oid = d.refobjid and c.relnamespace = 'lifecycle'::regnamespace
         where r.ev_class = to_regclass(format('public.%I', view_name))
    loop
        execute format('grant select on %s to %s', source,
                       (select c.relowner::regrole from pg_class c where c.oid = to_regclass(format('public.%I', view_name))));
    end loop;
end $$;

-- A materialized view gives way to a view of the same name, columns, owner, comment and grants.
create function lifecycle.replace_materialized_view(view_name text, columns text[], query text) returns void
language plpgsql set search_path = 'public'
as $$
declare
    target regclass := to_regclass(format('public.%I', view_name));
    found  pg_class;
    names  text[];
    list   text;
    blocking text;
begin
    select * into found from pg_class where oid = target;
    if found.relkind is distinct from 'm' then
        perform lifecycle.replace_view(view_name, columns, query);
        return;
    end if;
    select string_agg(distinct r.ev_class::regclass::text, ', ') into blocking
      from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
     where d.refclassid = 'pg_class'::regclass and d.refobjid = target and r.ev_class <> target;
    if blocking is not null then
        raise exception 'public.% is read by %, which would have to be dropped with it', view_name, blocking
            using hint = 'Drop these views, migrate, and create them again: names and columns stay the same.';
    end if;
    select array_agg(a.attname::text order by a.attnum),
           string_agg(format('q.%I::%s as %I', a.attname, format_type(a.atttypid, a.atttypmod), a.attname), ', ' order by a.attnum)
      into names, list
      from pg_attribute a where a.attrelid = target and a.attnum > 0 and not a.attisdropped;
    if names <> columns then
        raise exception 'public.% has the columns %', view_name, array_to_string(names, ', ')
            using hint = format('Expected %s. Rename yours, then migrate again.', array_to_string(columns, ', '));
    end if;
    perform lifecycle.keep_original(view_name);
    execute format('alter materialized view public.%I rename to lifecycle_former', view_name);
    execute format('create view public.%I as select %s from (%s) q', view_name, list, query);
    perform lifecycle.copy_access(found, view_name);
    drop materialized view public.lifecycle_former;
    perform lifecycle.let_owner_read(view_name);
    if obj_description(to_regclass('lifecycle.original_' || view_name)) is not null then
        execute format('comment on view public.%I is %L', view_name,
                       (select o.comment from lifecycle.original_relations o where o.name = view_name));
    end if;
end $$;

-- Default privileges may have opened the new relation to the API: it gets the grants of the old one and no others, those
-- of columns included, and what was said of the columns. The old one still stands, under another name.
create function lifecycle.copy_access(former pg_class, relation_name text) returns void
language plpgsql set search_path = 'public'
as $$
declare
    granted   record;
    described record;
begin
    for granted in
        select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
          from pg_class c, aclexplode(c.relacl) a
         where c.oid = to_regclass(format('public.%I', relation_name)) and a.grantee <> c.relowner
    loop
        execute format('revoke all on public.%I from %s', relation_name, granted.grantee);
    end loop;
    for granted in
        select case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee,
               a.privilege_type, a.is_grantable
          from aclexplode(former.relacl) a
         where a.grantee <> former.relowner
           and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER')
    loop
        execute format('grant %s on public.%I to %s %s', granted.privilege_type, relation_name, granted.grantee,
                       case when granted.is_grantable then 'with grant option' else '' end);
    end loop;
    for granted in
        select t.attname, a.privilege_type, a.is_grantable,
               case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
          from pg_attribute t, aclexplode(t.attacl) a
         where t.attrelid = former.oid and not t.attisdropped and a.grantee <> former.relowner
    loop
        execute format('grant %s (%I) on public.%I to %s %s', granted.privilege_type, granted.attname, relation_name,
                       granted.grantee, case when granted.is_grantable then 'with grant option' else '' end);
    end loop;
    for described in
        select t.attname, col_description(t.attrelid, t.attnum) as comment
          from pg_attribute t
         where t.attrelid = former.oid and not t.attisdropped and col_description(t.attrelid, t.attnum) is not null
    loop
        execute format('comment on column public.%I.%I is %L', relation_name, described.attname, described.comment);
    end loop;
    if former.relowner <> (select c.relowner from pg_class c where c.oid = to_regclass(format('public.%I', relation_name))) then
        execute format('alter table public.%I owner to %s', relation_name, quote_ident(pg_get_userbyid(former.relowner)));
    end if;
end $$;

select lifecycle.replace_materialized_view('account_function_usage',
    array['account_id', 'function_name', 'usage_count', 'first_used_at', 'last_used_at'],
    'select t.account_id, t.function_name, t.tool_uses as usage_count, t.first_tool_use_at as first_used_at, t.last_tool_use_at as last_used_at
       from lifecycle.function_usage_totals t where t.tool_uses > 0');
select lifecycle.replace_view('chat_performance_metrics',
    array['hour', 'total_messages', 'avg_latency_ms', 'median_latency_ms', 'p95_latency_ms', 'p99_latency_ms', 'max_latency_ms'],
    'select * from lifecycle.chat_performance_metrics m order by m.hour desc');
select lifecycle.replace_view('data_quality_metrics',
    array['metric_name', 'metric_value', 'threshold', 'status', 'last_checked'],
    'select * from lifecycle.data_quality_metrics m order by m.status = ''healthy'', m.metric_name');
select lifecycle.replace_view('daily_active_users', array['date', 'dau', 'new_users', 'returning_users'],
    'select * from lifecycle.daily_active_users d order by d.date desc');
select lifecycle.replace_view('weekly_monthly_active_users',
    array['date', 'dau', 'wau', 'mau', 'dau_wau_ratio', 'dau_mau_ratio', 'wau_mau_ratio'],
    'select w.date, w.dau, w.wau, w.mau, round(100.0 * w.dau / nullif(w.wau, 0), 2) as dau_wau_ratio,
            round(100.0 * w.dau / nullif(w.mau, 0), 2) as dau_mau_ratio, round(100.0 * w.wau / nullif(w.mau, 0), 2) as wau_mau_ratio
       from lifecycle.weekly_monthly_active_users w order by w.date desc');
select lifecycle.replace_view('user_engagement_scores',
    array['account_id', 'total_days_active', 'total_sessions', 'total_messages', 'last_activity_date',
          'days_since_last_activity', 'engagement_level', 'engagement_score'],
    -- Days are UTC, whatever the reader's zone.
    'select u.account_id, u.total_days_active, u.total_sessions, u.total_messages, u.last_activity_date,
            today - u.last_activity_date as days_since_last_activity,
            case when today - u.last_activity_date <= 1 then ''highly_active''
                 when today - u.last_activity_date <= 7 then ''active''
                 when today - u.last_activity_date <= 30 then ''occasional''
                 else ''dormant'' end as engagement_level,
            u.total_days_active * 10 + u.total_sessions * 5 + u.total_messages as engagement_score
       from lifecycle.user_engagement_scores u cross join (select (now() at time zone ''UTC'')::date as today) clock');
select lifecycle.replace_view('feature_usage_summary',
    array['feature_name', 'total_uses', 'unique_users', 'last_used_at', 'uses_last_7_days', 'uses_last_30_days'],
    'select * from lifecycle.feature_usage_summary f order by f.total_uses desc');
select lifecycle.replace_view('chat_usage_by_account',
    array['account_id', 'total_sessions', 'total_messages', 'avg_messages_per_session', 'first_activity_at', 'last_activity_at'],
    'select u.account_id, u.total_sessions, u.total_messages,
            round(u.total_messages::numeric / u.total_sessions, 2) as avg_messages_per_session, u.first_activity_at, u.last_activity_at
       from lifecycle.chat_usage_by_account u');
select lifecycle.replace_view('hourly_usage_patterns',
    array['day_of_week', 'hour_of_day', 'message_count', 'session_count', 'unique_users'],
    'select * from lifecycle.hourly_usage_patterns p order by p.day_of_week, p.hour_of_day');

-- The application's maintenance under its own name: account_function_usage is refreshed by what it stands on now.
create or replace function public.run_daily_maintenance() returns text
language plpgsql
set search_path = ''
as $$
declare
    policy  lifecycle.event_table_policies;
    deleted bigint;
    result  record;
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
    for result in select r.* from public.refresh_analytics_hourly('account_function_usage') r loop
        if result.outcome = 'failure' then
            raise exception '%: %', result.name, result.error;
        end if;
        report := report || format('%s: %s', result.name, case result.outcome when 'success' then 'refreshed' else result.outcome end);
    end loop;
    return array_to_string(report, '; ');
end $$;

-- New functions are open to everyone until somebody says otherwise. Roles that may not enter the schema cannot call them;
-- whoever opens it one day shall not open these along.
revoke all on all functions in schema lifecycle from public;
