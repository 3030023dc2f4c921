-- Kept views: a view of the application answers from a table of ours, which a refresh brings up to the view's own
-- definition. The definition stays inside the view, in a branch that the planner drops (lifecycle/views/definition.py).

-- The definition inside a kept view; null when the view does not answer from this table (any more).
create or replace function lifecycle.kept_definition(view regclass, kept_table text) returns text
language plpgsql stable set search_path = ''
as $$
declare
    body  constant text := rtrim(pg_get_viewdef(view), '; ');
    first constant int := strpos(body, 'UNION ALL');
    start int;
    until int;
begin
    if first = 0 or strpos(left(body, first), format('lifecycle.%I lifecycle_kept', kept_table)) = 0 then
        return null;
    end if;
    start := first + strpos(substr(body, first), 'FROM (') - 1 + length('FROM (');
    until := length(body) - strpos(reverse(body), reverse(') lifecycle_definition')) - length(') lifecycle_definition') + 2;
    return btrim(substr(body, start, until - start), E' \n');
end $$;

-- What a view's answer depends on besides rows: its text, and the columns of everything that it reads.
create or replace function lifecycle.view_fingerprint(view regclass, definition text) returns bytea
language sql stable set search_path = ''
as $$
    select sha256(convert_to(definition || coalesce(string_agg(
               format(E'\n%s.%s %s %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod)), ''
               order by n.nspname, c.relname, a.attnum), ''), 'UTF8'))
      from lifecycle.relations_read(view) r
      join pg_class c on c.oid = r.relid
      join pg_namespace n on n.oid = c.relnamespace and n.nspname <> 'lifecycle'
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relkind in ('r', 'p', 'm', 'f')
$$;

-- What changed rows held in the columns by which keys are found. What the trigger names no longer exists after a rename
-- in the application: null, and never an error in the application's statement.
create or replace function lifecycle.note_changed_rows() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
    columns constant text[] := tg_argv[2:];
    row_before jsonb;
    row_after  jsonb;
begin
    if tg_op <> 'INSERT' then
        row_before := to_jsonb(old);
        row_before := (select coalesce(jsonb_object_agg(c, row_before -> c), '{}') from unnest(columns) c);
    end if;
    if tg_op <> 'DELETE' then
        row_after := to_jsonb(new);
        row_after := (select coalesce(jsonb_object_agg(c, row_after -> c), '{}') from unnest(columns) c);
    end if;
    if row_before is not null then
        insert into lifecycle.changed_rows (source_schema, source_name, held) values (tg_argv[0], tg_argv[1], row_before);
    end if;
    if row_after is not null and row_after is distinct from row_before then
        insert into lifecycle.changed_rows (source_schema, source_name, held) values (tg_argv[0], tg_argv[1], row_after);
    end if;
    return null;
end $$;

-- Rows that go without a row trigger: every view that reads the table is computed whole next time. Noted like a row, so
-- that the TRUNCATE waits for no refresh, and none that runs meanwhile takes it for seen.
create or replace function lifecycle.note_truncated_table() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into lifecycle.changed_rows (source_schema, source_name, held) values (tg_argv[0], tg_argv[1], 'null');
    return null;
end $$;

-- Before a partition is dropped: what its rows held, once each.
create or replace function lifecycle.note_dropped_rows(dropped_schema text, dropped_name text, partition regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    watched lifecycle.watched_tables;
begin
    select w.* into watched from lifecycle.watched_tables w
     where (w.source_schema, w.source_name) = (dropped_schema, dropped_name);
    if watched.source_name is null then
        return;
    end if;
    execute format('insert into lifecycle.changed_rows (source_schema, source_name, held)
                    select distinct %L, %L, jsonb_build_object(%s) from only %s t', dropped_schema, dropped_name,
                   (select string_agg(format('%L, t.%I', c, c), ', ') from unnest(watched.column_names) c), partition);
end $$;

-- Rows of the definition, chosen by `source`, a FROM clause that calls them d. A row as text is what it is known by;
-- equal rows are counted.
create or replace function lifecycle.fresh_rows_query(view lifecycle.kept_views, source text) returns text
language sql stable set search_path = ''
as $$
    select format('select r.*, md5(r::text)::uuid as lifecycle_hash,
                          (row_number() over (partition by md5(r::text)))::int as lifecycle_copy
                     from (select %s from %s) r',
                  (select string_agg(format('d.%I::%s as %I', c.name, c.type, c.name), ', ' order by c.place)
                     from unnest(view.column_names, view.stored_types) with ordinality c(name, type, place)),
                  source)
$$;

-- What the planner expects a query to cost.
create or replace function lifecycle.expected_cost(query text) returns double precision
language plpgsql set search_path = ''
as $$
declare
    plan json;
begin
    execute 'explain (format json) ' || query into plan;
    return plan #>> '{0,Plan,Total Cost}';
end $$;

-- The type of the column by which a kept view is refreshed.
create or replace function lifecycle.key_type_of(view lifecycle.kept_views) returns text
language sql stable set search_path = ''
as $$
    select format_type(a.atttypid, a.atttypmod) from pg_attribute a
     where a.attrelid = to_regclass(format('%I.%I', view.schema_name, view.view_name)) and a.attname = view.key_column
$$;

-- The definition restricted to the rows of `keys`, key by key. A single key reaches every table inside.
create or replace function lifecycle.rows_key_by_key(view lifecycle.kept_views, definition text) returns text
language sql immutable set search_path = ''
as $$
    -- Without its OFFSET the sub-query would be taken apart, and the key not passed into the definition.
    select format('keys cross join lateral (select l.* from (%s) l where l.%I = keys.key offset 0) d', definition, view.key_column)
$$;

-- The definition restricted to the rows of `keys`, all at once. The keys that are `known` stand in the text: of those that
-- a sub-query finds the planner expects ten, and would go through the others' rows for each of a thousand.
create or replace function lifecycle.rows_at_once(view lifecycle.kept_views, definition text, known text[]) returns text
language sql stable set search_path = ''
as $$
    select format('(%1$s) d where d.%2$I = any (%3$s) or d.%2$I = any (array(select key from keys where key <> all (%3$s)))',
                  definition, view.key_column, format('%L::%s[]', known[:10000], lifecycle.key_type_of(view)))
$$;

-- One of the two: key by key, or all at once where the planner expects that to be cheaper. All at once does not pass an
-- outer join into a grouped sub-query, but computes once what is the same for each key.
create or replace function lifecycle.rows_of_keys(view lifecycle.kept_views, definition text, known text[]) returns text
language plpgsql set search_path = ''
as $$
declare
    key_type constant text := lifecycle.key_type_of(view);
    at_once  constant text := lifecycle.rows_at_once(view, definition, known);
begin
    if cardinality(known) * lifecycle.expected_cost(
           format('select * from (%s) d where d.%I = (select null::%s)', definition, view.key_column, key_type))
       <= lifecycle.expected_cost(format('with keys as (select null::%s as key) select * from %s', key_type, at_once)) then
        return lifecycle.rows_key_by_key(view, definition);
    end if;
    return at_once;
end $$;

-- Write what differs between the table and the fresh rows; `source` and `of_kept` choose the rows that are looked at.
create or replace function lifecycle.write_kept_rows(view lifecycle.kept_views, with_first text, source text,
                                                     of_kept text) returns text
language sql stable set search_path = ''
as $$
    select format(
        'with %1$s fresh as materialized (%2$s),
              gone as (delete from lifecycle.%3$I k
                        where %4$s
                          and not exists (select from fresh f
                                           where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                       returning 1),
              made as (insert into lifecycle.%3$I (%5$s, lifecycle_hash, lifecycle_copy)
                       select %5$s, f.lifecycle_hash, f.lifecycle_copy from fresh f
                        where not exists (select from lifecycle.%3$I k
                                           where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                       returning 1)
         select (select count(*) from gone) + (select count(*) from made)',
        with_first, lifecycle.fresh_rows_query(view, source), view.kept_table, of_kept,
        (select string_agg(quote_ident(c), ', ') from unnest(view.column_names) c))
$$;

-- The numbers of transactions, by which a refresh knows what it has seen, are those of one server.
create or replace function lifecycle.this_server() returns bigint
language sql stable set search_path = ''
as 'select system_identifier from pg_control_system()';

-- Why changed keys do not say which rows are as they should not be; null where they do.
create or replace function lifecycle.why_keys_say_nothing(view lifecycle.kept_views, target regclass, definition text) returns text
language sql stable set search_path = ''
as $$
    select case
        when view.refreshed_at is null then 'first refresh'
        when view.whole_due is not null then view.whole_due
        when view.seen_on is distinct from lifecycle.this_server() then 'the database was restored on another server'
        when lifecycle.view_fingerprint(target, definition) <> view.fingerprint then 'the definition or what it reads has changed'
        when exists (select from lifecycle.changed_rows l
                       join lifecycle.kept_view_sources s on (s.source_schema, s.source_name) = (l.source_schema, l.source_name)
                      where (s.schema_name, s.view_name) = (view.schema_name, view.view_name) and l.held = 'null'
                        and not pg_visible_in_snapshot(l.written_by, view.seen))
        then 'a table that it reads was emptied' end
$$;

-- Why all rows have to be computed; null where the changed keys, or nothing, will do.
create or replace function lifecycle.why_whole(view lifecycle.kept_views, target regclass, definition text) returns text
language sql stable set search_path = ''
as $$
    select coalesce(lifecycle.why_keys_say_nothing(view, target, definition), case
        when view.moves = 'always' then 'it depends on the time of day'
        when view.moves = 'daily' and (view.refreshed_at at time zone view.time_zone)::date <> (now() at time zone view.time_zone)::date
        then 'a new day' end)
$$;

-- The definition of a kept view that is as it should be. An error says what the application did with it.
create or replace function lifecycle.definition_to_refresh(view lifecycle.kept_views) returns text
language plpgsql stable set search_path = ''
as $$
declare
    target     constant regclass := to_regclass(format('%I.%I', view.schema_name, view.view_name));
    definition text;
begin
    if target is null then
        raise exception 'view %.% is gone', view.schema_name, view.view_name
            using errcode = 'undefined_table', hint = 'Take it out of views.yaml, or make it again; then lifecycle migrate.';
    end if;
    definition := lifecycle.kept_definition(target, view.kept_table);
    if definition is null then
        raise exception 'the application replaced view %.%: it answers by its new definition, on every read, until lifecycle migrate lets it answer from its table again',
            view.schema_name, view.view_name using errcode = 'object_not_in_prerequisite_state';
    end if;
    return definition;
end $$;

-- The planner learns what the log of changes holds when much was written since it last looked: taken for nearly empty, the log
-- would be read anew for each of thousands of its rows. Whoever learns it at this moment does so for others as well.
create or replace function lifecycle.learn_changed_rows() returns void
language plpgsql set search_path = ''
as $$
declare
    log constant regclass := 'lifecycle.changed_rows';
begin
    if (select pg_relation_size(c.oid) / current_setting('block_size')::int > 2 * c.relpages + 8
               or pg_stat_get_mod_since_analyze(c.oid) > greatest(c.reltuples, 0) / 10 + 1000
          from pg_class c where c.oid = log) then
        lock table lifecycle.changed_rows in share update exclusive mode nowait;
        analyze lifecycle.changed_rows;
    end if;
exception when lock_not_available then null;
end $$;

-- One view brought up to its definition, readers undisturbed. `mode`: whole, keyed or skipped; `note` says why whole. The
-- keys and the definition are read by one statement, so that both are of one moment; rows that are written later are
-- found by the next refresh.
create or replace function lifecycle.refresh_kept_view(view lifecycle.kept_views, force_whole boolean default false)
returns table (mode text, written bigint, note text)
language plpgsql set search_path = '' set row_security = off
as $$
#variable_conflict use_variable
declare
    snapshot   constant pg_snapshot := pg_current_snapshot();
    safe       constant timestamptz := lifecycle.safe_until();
    since      constant timestamptz := view.safe_until - interval '2 hours';
    started    constant timestamptz := clock_timestamp();
    zone       constant text := current_setting('timezone');
    definition constant text := lifecycle.definition_to_refresh(view);
    has_null   boolean;
    has_any    boolean;
    known      text[];
    more       bigint;
begin
    perform set_config('timezone', view.time_zone, true);
    note := case when force_whole then 'asked for' else lifecycle.why_whole(
        view, to_regclass(format('%I.%I', view.schema_name, view.view_name)), definition) end;
    written := 0;
    mode := 'skipped';
    if note is null then
        perform lifecycle.learn_changed_rows();
        execute format('select count(*) > 0, coalesce(array_agg(distinct c.key::text) filter (where c.key is not null), ''{}''),
                               coalesce(bool_or(c.key is null), false)
                          from (%s) c', view.change_query)
           into has_any, known, has_null using view.seen, since;
        if has_any and view.key_column is null then
            note := 'rows changed';
        end if;
    end if;
    if note is not null then
        mode := 'whole';
        execute lifecycle.write_kept_rows(view, '', format('(%s) d', definition), 'true') into written;
    elsif has_any then
        mode := 'keyed';
        execute lifecycle.write_kept_rows(view,
                    format('keys as materialized (select distinct c.key from (%s) c where c.key is not null),', view.change_query),
                    lifecycle.rows_of_keys(view, definition, known),
                    format('k.%I in (select key from keys)', view.key_column))
           into written using view.seen, since;
        if has_null then  -- a key of its own, which equals nothing
            execute lifecycle.write_kept_rows(view, '', format('(%s) d where d.%I is null', definition, view.key_column),
                                              format('k.%I is null', view.key_column)) into more;
            written := written + more;
        end if;
    end if;
    perform set_config('timezone', zone, true);
    perform lifecycle.note_kept_refresh(view, snapshot, safe, started, mode, written);
    return next;
end $$;

-- What a refresh came to, and what the view says now where that is kept.
create or replace function lifecycle.note_kept_refresh(view lifecycle.kept_views, snapshot pg_snapshot, safe timestamptz,
                                                       started timestamptz, mode text, written bigint) returns void
language plpgsql set search_path = ''
as $$
begin
    update lifecycle.kept_views v
       set seen = snapshot, seen_on = lifecycle.this_server(), safe_until = safe, refreshed_at = now(), rows_written = written,
           whole_due = case when v.whole_due is distinct from view.whole_due then v.whole_due end,
           refresh_ms = lifecycle.milliseconds_since(started),
           definition_ms = case when mode = 'whole' then lifecycle.milliseconds_since(started) else v.definition_ms end
     where (v.schema_name, v.view_name) = (view.schema_name, view.view_name);
    if view.keep_history is not null then
        execute format('delete from lifecycle.%I where said_at < now() - $1', view.kept_table || '_history') using view.keep_history;
        execute format('insert into lifecycle.%1$I (said_at, %2$s) select now(), %2$s from lifecycle.%3$I',
                       view.kept_table || '_history',
                       (select string_agg(quote_ident(c), ', ') from unnest(view.column_names) c), view.kept_table);
    end if;
end $$;

-- The first rows of a kept view, before the view answers from them. What is written meanwhile is found by the first refresh.
create or replace function lifecycle.fill_kept_view(view lifecycle.kept_views, definition text) returns void
language plpgsql set search_path = '' set row_security = off
as $$
declare
    snapshot constant pg_snapshot := pg_current_snapshot();
    safe     constant timestamptz := lifecycle.safe_until();
    started  constant timestamptz := clock_timestamp();
    zone     constant text := current_setting('timezone');
    filled   bigint;
begin
    perform set_config('timezone', view.time_zone, true);
    execute lifecycle.write_kept_rows(view, '', format('(%s) d', definition), 'true') into filled;
    perform set_config('timezone', zone, true);
    perform lifecycle.note_kept_refresh(view, snapshot, safe, started, 'whole', filled);
end $$;

-- Rows by which the table differs from the definition although nothing changed them: a fault. Changed keys and columns
-- whose value depends on the order of rows are left out. A view that is computed whole is compared by doing so.
create or replace function lifecycle.compare_kept_view(view lifecycle.kept_views) returns bigint
language plpgsql set search_path = '' set row_security = off
as $$
declare
    definition constant text := lifecycle.definition_to_refresh(view);
    zone       constant text := current_setting('timezone');
    columns    constant text := (select string_agg(quote_ident(c), ', ') from unnest(view.column_names) c where c <> all (view.unstable));
    found      bigint := 0;
begin
    if lifecycle.why_whole(view, to_regclass(format('%I.%I', view.schema_name, view.view_name)), definition) is null then
        perform set_config('timezone', view.time_zone, true);
        execute format(
            'with changed as materialized (select distinct c.key from (%1$s) c),
                  fresh as materialized (%2$s),
                  differing as ((select %3$s from fresh except all select %3$s from lifecycle.%4$I)
                                union all (select %3$s from lifecycle.%4$I except all select %3$s from fresh))
             select count(*) from differing x where %5$s',
            view.change_query, lifecycle.fresh_rows_query(view, format('(%s) d', definition)), columns, view.kept_table,
            case when view.key_column is null then 'not exists (select from changed)'
                 else format('not exists (select from changed c where c.key is not distinct from x.%I)', view.key_column) end)
           into found using view.seen, view.safe_until - interval '2 hours';
        perform set_config('timezone', zone, true);
    end if;
    if found > 0 then  -- what a row is known by may be right, and the row not
        execute format('delete from lifecycle.%I', view.kept_table);
    end if;
    perform lifecycle.refresh_kept_view(view, found > 0);
    update lifecycle.kept_views v set compared_at = now(), differing = found
     where (v.schema_name, v.view_name) = (view.schema_name, view.view_name);
    return found;
end $$;

-- When a view is due: at its age, or later where computing it whole takes too large a part of the time.
create or replace function lifecycle.kept_view_due(view lifecycle.kept_views) returns timestamptz
language sql stable set search_path = ''
as $$
    select coalesce(case when view.whole_due is null then view.refreshed_at end
                    + greatest(view.refresh_every, case when view.key_column is null
                                                        then coalesce(view.definition_ms, 0) / view.most_share * interval '1 ms'
                                                        else interval '0' end), '-infinity')
$$;

-- Views that the application dropped or replaced answer from their tables no more: what nobody reads must not keep
-- rows that an erasure takes away, nor notes that no refresh will see. lifecycle migrate fills the table again.
create or replace function lifecycle.empty_lost_tables() returns void
language plpgsql set search_path = ''
as $$
declare
    view lifecycle.kept_views;
begin
    for view in select v.* from lifecycle.kept_views v
                 cross join lateral (select to_regclass(format('%I.%I', v.schema_name, v.view_name))) r(target)
                 where r.target is null or lifecycle.kept_definition(r.target, v.kept_table) is null loop
        execute format('delete from lifecycle.%I', view.kept_table);
        delete from lifecycle.kept_view_sources s
         where (s.schema_name, s.view_name) = (view.schema_name, view.view_name);
    end loop;
end $$;

-- Notes that every view has seen.
create or replace function lifecycle.forget_changed_rows() returns bigint
language sql set search_path = ''
as $$
    with gone as (
        delete from lifecycle.changed_rows l
         where not exists (select from lifecycle.kept_view_sources s
                             join lifecycle.kept_views v using (schema_name, view_name)
                            where (s.source_schema, s.source_name) = (l.source_schema, l.source_name)
                              and (v.seen is null or not pg_visible_in_snapshot(l.written_by, v.seen)))
        returning 1)
    select count(*) from gone
$$;

-- Every kept view in the order of refreshing, or those that a name means; an unknown name is refused.
create or replace function lifecycle.chosen_kept_views(only_view text) returns setof lifecycle.kept_views
language plpgsql stable set search_path = ''
as $$
begin
    return query select v.* from lifecycle.kept_views v
                  where only_view is null or lifecycle.is_called(only_view, v.schema_name, v.view_name)
                  order by v.place;
    if not found and only_view is not null then
        raise exception 'no view named % is kept', only_view
            using errcode = 'undefined_table', hint = 'Declare it in views.yaml under `kept` and run lifecycle migrate, or correct the name.';
    end if;
end $$;

-- Every kept view that is due, or the named one at once: one row and one row of the ledger a view; one that fails stays
-- as it was and holds up no other.
create or replace function public.refresh_derived_statistics(only_view text default null)
returns table (name text, outcome text, duration_ms bigint, rows bigint, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    job     constant text := 'refresh_derived_statistics';
    view    lifecycle.kept_views;
    started timestamptz;
    holder  constant int := lifecycle.lock_analytics();
    note    text;
begin
    for view in select c.* from lifecycle.chosen_kept_views(only_view) c
                 where only_view is not null or lifecycle.kept_view_due(c) <= now() + interval '5 minutes' loop
        name := format('%I.%I', view.schema_name, view.view_name);
        started := clock_timestamp(); rows := 0; note := null; error := null;
        if holder is not null then
            outcome := 'busy';
            error := lifecycle.told_holder(holder);
        else
            begin
                select r.mode, r.written, r.note into outcome, rows, note from lifecycle.refresh_kept_view(view) r;
            exception when undefined_table or object_not_in_prerequisite_state then
                -- The application's own doing: the check says so, and nothing is wrong with the job.
                outcome := case when to_regclass(name) is null then 'gone' else 'changed' end; note := sqlerrm;
            when others then
                outcome := 'failure'; rows := 0; error := lifecycle.first_line(sqlerrm);
            end;
        end if;
        duration_ms := lifecycle.record_refresh(job, name, outcome, error, started,
            jsonb_build_object('rows', rows, 'note', note));
        return next;
    end loop;
    if holder is null then
        perform lifecycle.empty_lost_tables();
        perform lifecycle.forget_changed_rows();
    end if;
end $$;

-- Every kept view, or the named one, against its definition. `differing` rows are repaired and are a fault.
create or replace function public.reconcile_statistics(only_view text default null)
returns table (name text, outcome text, duration_ms bigint, differing bigint, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    job     constant text := 'reconcile_statistics';
    view    lifecycle.kept_views;
    started timestamptz;
    holder  constant int := lifecycle.lock_analytics();
begin
    for view in select c.* from lifecycle.chosen_kept_views(only_view) c loop
        name := format('%I.%I', view.schema_name, view.view_name);
        started := clock_timestamp(); differing := 0; error := null;
        if holder is not null then
            outcome := 'busy';
            error := lifecycle.told_holder(holder);
        else
            begin
                differing := coalesce(lifecycle.compare_kept_view(view), 0);
                outcome := case differing when 0 then 'equal' else 'repaired' end;
                if differing > 0 then
                    error := format('%s rows differed from the definition, and were repaired', differing);
                end if;
            exception when undefined_table or object_not_in_prerequisite_state then
                outcome := case when to_regclass(name) is null then 'gone' else 'changed' end;
            when others then
                outcome := 'failure'; error := lifecycle.first_line(sqlerrm);
            end;
        end if;
        duration_ms := lifecycle.record_refresh(job, name, outcome, error, started,
            jsonb_build_object('differing', differing));
        return next;
    end loop;
end $$;

-- How old the figures of a view are: when it was refreshed, of a kept or a materialized view; null for one that is
-- computed on every read, as one that the application replaced is.
create or replace function public.figures_as_of(view text) returns timestamptz
language sql stable security definer set search_path = ''
as $$
    select max(found.at) from (
        select v.refreshed_at as at from lifecycle.kept_views v
         where lifecycle.is_called(view, v.schema_name, v.view_name)
           and lifecycle.kept_definition(to_regclass(format('%I.%I', v.schema_name, v.view_name)), v.kept_table) is not null
         union all
        select s.refreshed_at from lifecycle.refresh_states s where s.name = view or s.name = 'public.' || view) found
$$;

-- Whether a person could stand in a row of a kept view: it has columns of ids or text, or a number by which a person's rows are
-- found elsewhere. Others hold figures.
create or replace function lifecycle.may_name_people(view lifecycle.kept_views) returns boolean
language sql stable set search_path = ''
as $$
    select exists (select from lifecycle.searched_columns(to_regclass(format('lifecycle.%I', view.kept_table))) s
                    where s.column_name <> 'lifecycle_hash')
        or exists (select from pg_attribute a join lifecycle.erasure_steps s on s.key_kind = 'person' and s.key_column = a.attname
                    where a.attrelid = to_regclass(format('lifecycle.%I', view.kept_table))
                      and a.atttypid = any ('{int2,int4,int8}'::regtype[]))
$$;

-- Whether a kept view reads another one that waits to be computed whole: what it says now will be another then.
create or replace function lifecycle.reads_one_that_waits(view lifecycle.kept_views) returns boolean
language sql stable set search_path = ''
as $$
    select exists (select from lifecycle.relations_read(to_regclass(format('%I.%I', view.schema_name, view.view_name))) r
                     join lifecycle.kept_views o on to_regclass(format('%I.%I', o.schema_name, o.view_name)) = r.relid
                    where o.whole_due is not null)
$$;

-- The rows of these keys brought up to the definition, whatever else has changed. Rows of a person who is gone cost next to
-- nothing key by key, which the planner cannot know: where it finds a few keys worth that, they are tried, and the others
-- follow in the same way unless that takes longer than the whole.
create or replace function lifecycle.refresh_keys(view lifecycle.kept_views, definition text, known text[]) returns void
language plpgsql set search_path = '' set row_security = off
as $$
declare
    keys       constant text := format('keys as materialized (select unnest($1::%s[]) as key),', lifecycle.key_type_of(view));
    of_kept    constant text := format('k.%I in (select key from keys)', view.key_column);
    key_by_key constant text := lifecycle.rows_key_by_key(view, definition);
    few        constant text[] := known[:3];
    others     text[] := known;
    source     text := lifecycle.rows_of_keys(view, definition, few);
    started    constant timestamptz := clock_timestamp();
begin
    if source = key_by_key then
        execute lifecycle.write_kept_rows(view, keys, source, of_kept) using few;
        others := known[cardinality(few) + 1:];
    end if;
    if others = '{}' then
        return;
    elsif source <> key_by_key
          or lifecycle.milliseconds_since(started) * cardinality(others) / cardinality(few) > coalesce(view.definition_ms, 0) then
        source := lifecycle.rows_at_once(view, definition, others);
    end if;
    execute lifecycle.write_kept_rows(view, keys, source, of_kept) using others;
end $$;

-- After an erasure: rows of a kept view that changed rows name. What time brings waits for the next refresh.
create or replace function lifecycle.refresh_noted_keys(view lifecycle.kept_views) returns void
language plpgsql set search_path = '' set row_security = off
as $$
#variable_conflict use_variable
declare
    definition constant text := lifecycle.definition_to_refresh(view);
    zone       constant text := current_setting('timezone');
    known      text[];
    has_null   boolean;
begin
    if lifecycle.why_keys_say_nothing(view, to_regclass(format('%I.%I', view.schema_name, view.view_name)), definition) is not null then
        perform lifecycle.refresh_kept_view(view);
        return;
    end if;
    perform set_config('timezone', view.time_zone, true);
    execute format('select coalesce(array_agg(distinct c.key::text) filter (where c.key is not null), ''{}''),
                           coalesce(bool_or(c.key is null), false) from (%s) c', view.change_query)
       into known, has_null using view.seen, 'infinity'::timestamptz;
    if known <> '{}' then
        perform lifecycle.refresh_keys(view, definition, known);
    end if;
    if has_null then
        execute lifecycle.write_kept_rows(view, '', format('(%s) d where d.%I is null', definition, view.key_column),
                                          format('k.%I is null', view.key_column));
    end if;
    perform set_config('timezone', zone, true);
end $$;

-- After an erasure: keyed views that may name people follow at once, and what is noted of changed rows names nobody any
-- more. Figures follow with the hour. False while somebody else refreshes.
create or replace function lifecycle.refresh_kept_after_erasure() returns boolean
language plpgsql set search_path = ''
as $$
declare
    -- Rows that are noted meanwhile were not looked at.
    looked_at constant pg_snapshot := pg_current_snapshot();
    view lifecycle.kept_views;
begin
    if lifecycle.lock_analytics() is not null then
        return false;
    end if;
    perform lifecycle.empty_lost_tables();
    perform lifecycle.learn_changed_rows();
    for view in select v.* from lifecycle.kept_views v
                 where v.key_column is not null
                   and exists (select from lifecycle.kept_view_sources s
                                join lifecycle.changed_rows l using (source_schema, source_name)
                                where (s.schema_name, s.view_name) = (v.schema_name, v.view_name) and l.held <> '{}')
                 order by v.place loop
        if lifecycle.may_name_people(view) then
            perform lifecycle.refresh_noted_keys(view);
            continue when not lifecycle.reads_one_that_waits(view);
        end if;
        update lifecycle.kept_views v set whole_due = coalesce(v.whole_due, 'rows were erased')
         where (v.schema_name, v.view_name) = (view.schema_name, view.view_name);
    end loop;
    -- To views that are computed whole it is enough that a transaction changed something.
    with followed as (
        delete from lifecycle.changed_rows l
         where l.held not in ('{}', 'null') and pg_visible_in_snapshot(l.written_by, looked_at)
        returning l.source_schema, l.source_name, l.written_by)
    insert into lifecycle.changed_rows (source_schema, source_name, held, written_by)
    select distinct f.source_schema, f.source_name, jsonb '{}', f.written_by from followed f;
    perform lifecycle.forget_changed_rows();
    return true;
end $$;

-- The view that answers from this table, computed whole. False while somebody else refreshes.
create or replace function lifecycle.refresh_kept_table(kept regclass) returns boolean
language plpgsql set search_path = ''
as $$
declare
    view lifecycle.kept_views;
begin
    if lifecycle.lock_analytics() is not null then
        return false;
    end if;
    select v.* into view from lifecycle.kept_views v where to_regclass(format('lifecycle.%I', v.kept_table)) = kept;
    perform lifecycle.refresh_kept_view(view, true);
    return true;
end $$;
