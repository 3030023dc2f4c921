-- The type of a column as a cast writes it; null when there is no such column.
create or replace function lifecycle.column_type(schema_name text, table_name text, column_name text) returns text
language sql stable set search_path = ''
as $$
    select format_type(a.atttypid, a.atttypmod) from pg_attribute a
     where a.attrelid = to_regclass(format('%I.%I', schema_name, table_name)) and a.attname = column_name
       and a.attnum > 0 and not a.attisdropped
$$;

-- Why PostgreSQL would not run a query; null when it would. Nothing is read. $1 are keys as text.
create or replace function lifecycle.why_unreadable(query text) returns text
language plpgsql volatile set search_path = '' set row_security = off set lock_timeout = '2s'
as $$
begin
    execute format(E'select from (%s\n) q limit 0', query) using array[]::text[];
    return null;
exception when syntax_error_or_access_rule_violation or invalid_schema_name then
    return lifecycle.first_line(sqlerrm);
end $$;

-- The first declared place of segments that exists; null when none does.
create or replace function lifecycle.segment_target() returns lifecycle.segment_targets
language plpgsql volatile set search_path = ''
as $$
declare
    target lifecycle.segment_targets;
begin
    for target in select t.* from lifecycle.segment_targets t order by t.position loop
        if lifecycle.why_unreadable(format(
            'select target.%I, target.%I::jsonb #> $1 as held from %I.%I target where (%s)', target.key_column,
            target.document_column, target.schema_name, target.table_name, target.consent)) is null then
            return target;
        end if;
    end loop;
    return null;
end $$;

-- What is read of a declared source, restricted to the accounts $1. Not of accounts: tags, and the tags of items.
create or replace function lifecycle.segment_source_query(source lifecycle.segment_sources, key_type text) returns text
language sql immutable set search_path = ''
as $$
    select case source.kind
        when 'tags' then format(E'select q.tag::text as tag from (%s\n) q', source.query)
        when 'items' then format(E'select q.item::text as item, q.tag::text as tag from (%s\n) q', source.query)
        when 'interactions' then format(
            E'select q.account::text as account, q.item::text as item, q.kind::text as kind, q.at::timestamptz as at'
            ' from (%s\n) q where q.account = any ($1::%s[])', source.query, key_type)
        else format(
            E'select %s as position, %L as source, q.account::text as account, q.question::text as question,'
            ' q.answer::jsonb as answer,'
            ' case when isfinite(q.answered_at::timestamptz) then extract(epoch from q.answered_at::timestamptz) end as at'
            ' from (%s\n) q where q.account = any ($1::%s[])', source.position, source.name, source.query, key_type)
    end
$$;

-- Looks whether each source can be read and remembers it. One that is gone is told once, and once more when it is back;
-- one that is new or back asks for everybody's segments.
create or replace function lifecycle.look_at_segment_sources(target lifecycle.segment_targets) returns void
language plpgsql set search_path = ''
as $$
declare
    key_type constant text := lifecycle.column_type(target.schema_name, target.table_name, target.key_column);
    source   lifecycle.segment_sources;
    reason   text;
    lost     boolean;
begin
    if key_type is null then
        return;  -- without a place for segments nobody is looked for
    end if;
    for source in select s.* from lifecycle.segment_sources s order by s.position for update loop
        reason := lifecycle.why_unreadable(lifecycle.segment_source_query(source, key_type));
        lost := reason is not null and not source.gone and (source.seen_at is not null or not source.optional);
        if lost and source.lost_reason is null then
            perform lifecycle.record_outcome('refresh_account_segments', 'source ' || source.name,
                format('%s; tags that came from it stay as they are. Correct the source in segments.yaml, or add '
                       'gone: true to it, then run lifecycle migrate', reason));
        elsif not lost and source.lost_reason is not null then
            perform lifecycle.record_outcome('refresh_account_segments', 'source ' || source.name, null);
        end if;
        if reason is null and (source.seen_at is null or source.lost_reason is not null) then
            insert into lifecycle.changed_segment_accounts default values;
        end if;
        update lifecycle.segment_sources s
           set readable = reason is null, lost_reason = case when lost then reason end,
               seen_at = case when reason is null then coalesce(s.seen_at, now()) else s.seen_at end
         where s.name = source.name
           and (s.readable is distinct from (reason is null) or s.lost_reason is distinct from case when lost then reason end);
    end loop;
end $$;

-- Sources that are gone: what came from them is taken from the tags that an account holds.
create or replace function lifecycle.lost_segment_sources() returns text[]
language sql stable set search_path = ''
as $$
    select array(select s.name from lifecycle.segment_sources s
                  where s.lost_reason is not null or s.gone and not s.readable order by s.position)
$$;

-- Declared tables that exist without our trigger: nobody notes what changes there.
create or replace function lifecycle.unwatched_segment_tables() returns text[]
language sql stable set search_path = ''
as $$
    select array(select distinct format('%I.%I', w.schema_name, w.table_name)
                   from lifecycle.segment_watches w
                   join pg_class c on c.oid = to_regclass(format('%I.%I', w.schema_name, w.table_name))
                                  and c.relkind in ('r', 'p')
                  where not exists (select from pg_trigger t
                                     where t.tgrelid = c.oid and t.tgname = 'lifecycle_segments_changed' and t.tgenabled <> 'D')
                  order by 1)
$$;

-- The accounts that a changed row asks for, as text. What a column holds is read by its name in the row's JSON, so a
-- column that was renamed, retyped or dropped stops nobody's statement.
create or replace function lifecycle.accounts_of_change(watch lifecycle.segment_watches, was jsonb, now_is jsonb) returns text[]
language plpgsql stable security definer set search_path = '' set row_security = off
as $$
declare
    accounts lifecycle.segment_policy;
    found    text[];
    keys     text[];
begin
    if watch.account_column is not null then
        found := array[was ->> watch.account_column, now_is ->> watch.account_column];
    elsif to_regclass(format('%I.%I', watch.through_schema, watch.through_table)) is not null then
        keys := array[was ->> watch.by_column, now_is ->> watch.by_column];
        execute format('select array(select t.%I::text from %I.%I t where t.%I = any ($1::%s[]))', watch.through_account,
                       watch.through_schema, watch.through_table, watch.through_id,
                       lifecycle.column_type(watch.through_schema, watch.through_table, watch.through_id))
           into found using array_remove(keys, null);
    end if;
    if now_is is null and cardinality(found) > 0 then
        -- The account of a row that goes may be going itself: its key would outlive it here.
        select p.* into accounts from lifecycle.segment_policy p;
        if to_regclass(format('%I.%I', accounts.accounts_schema, accounts.accounts_table)) is not null then
            execute format('select array(select a.%1$I::text from %2$I.%3$I a where a.%1$I = any ($1::%4$s[]))',
                           accounts.accounts_key, accounts.accounts_schema, accounts.accounts_table,
                           lifecycle.column_type(accounts.accounts_schema, accounts.accounts_table, accounts.accounts_key))
               into found using array_remove(found, null);
        end if;
    end if;
    return array(select distinct f from unnest(found) f where f is not null);
end $$;

-- SECURITY DEFINER: the application's roles write the tables and have no right here. An error while we look whose row
-- it is must not become the application's: then it asks for everybody. The insert stands outside of that block, since
-- a row written inside would cost a subtransaction with an id of its own.
create or replace function lifecycle.note_segment_change() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    watch     lifecycle.segment_watches;
    was       jsonb;
    now_is    jsonb;
    accounts  text[] := '{}';
    everybody boolean := tg_op = 'TRUNCATE';
begin
    if not everybody then
        begin
            if tg_op <> 'INSERT' then
                was := to_jsonb(old);
            end if;
            if tg_op <> 'DELETE' then
                now_is := to_jsonb(new);
            end if;
            for watch in select w.* from lifecycle.segment_watches w
                          where w.schema_name = tg_argv[0] and w.table_name = tg_argv[1]
                            and lower(tg_op) = any (w.events) loop
                -- The refresh writes its target itself; noting that would compute the same accounts for ever.
                continue when watch.source = '' and current_setting('lifecycle.writes_segments', true) = 'yes';
                continue when tg_op = 'UPDATE' and case when cardinality(watch.columns) = 0 then was = now_is else not exists (
                    select from unnest(watch.columns) c where was -> c is distinct from now_is -> c) end;
                if watch.everybody then
                    everybody := true;
                else
                    accounts := accounts || lifecycle.accounts_of_change(watch, was, now_is);
                end if;
            end loop;
        exception when others then
            everybody := true;
        end;
    end if;
    if everybody then
        insert into lifecycle.changed_segment_accounts default values;
    elsif cardinality(accounts) > 0 then
        insert into lifecycle.changed_segment_accounts (account) select distinct a from unnest(accounts) a;
    end if;
    return null;
end $$;
