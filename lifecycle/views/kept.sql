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
    return substr(body, start, until - start);
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
        select jsonb_object_agg(c, to_jsonb(old) -> c) into row_before from unnest(columns) c;
    end if;
    if tg_op <> 'DELETE' then
        select jsonb_object_agg(c, to_jsonb(new) -> c) into row_after from unnest(columns) c;
    end if;
    insert into lifecycle.changed_rows (source_schema, source_name, held)
    select distinct tg_argv[0], tg_argv[1], h.held
      from (values (row_before), (row_after)) h(held) where h.held is not null;
    return null;
end $$;

-- Rows that go without a row trigger: every view that reads the table is computed whole next time.
create or replace function lifecycle.note_truncated_table() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    update lifecycle.kept_views v set whole_due = format('%s.%s was emptied', tg_argv[0], tg_argv[1])
      from lifecycle.kept_view_sources s
     where (s.schema_name, s.view_name) = (v.schema_name, v.view_name)
       and (s.source_schema, s.source_name) = (tg_argv[0], tg_argv[1]);
    return null;
end $$;

-- Before a partition is dropped: what its rows held, once each.
create or replace function lifecycle.note_dropped_rows(source_schema text, source_name text, partition regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    columns text[];
begin
    select array_agg(distinct c order by c) into columns
      from pg_trigger t, unnest(string_to_array(encode(t.tgargs, 'escape'), E'\\000')) with ordinality a(c, place)
     where t.tgrelid = to_regclass(format('%I.%I', note_dropped_rows.source_schema, note_dropped_rows.source_name))
       and t.tgname = 'lifecycle_changed_delete' and a.place > 2 and a.c <> '';
    if columns is null then
        return;
    end if;
    execute format('insert into lifecycle.changed_rows (source_schema, source_name, held)
                    select distinct %L, %L, jsonb_build_object(%s) from only %s t',
                   note_dropped_rows.source_schema, note_dropped_rows.source_name,
                   (select string_agg(format('%L, t.%I', c, c), ', ') from unnest(columns) c), partition);
end $$;

-- A row of the table as text is what it is known by; equal rows are counted.
create or replace function lifecycle.fresh_rows_query(view lifecycle.kept_views, definition text, condition text) returns text
language sql stable set search_path = ''
as $$
    select format('select r.*, md5(r::text)::uuid as lifecycle_hash,
                          (row_number() over (partition by md5(r::text)))::int as lifecycle_copy
                     from (select %s from (%s) d %s) r',
                  (select string_agg(format('d.%I::%s as %I', c.name, c.type, c.name), ', ' order by c.place)
                     from unnest(view.column_names, view.stored_types) with ordinality c(name, type, place)),
                  definition, condition)
$$;

-- One view brought up to its definition. `mode`: whole, keyed or skipped; `note` says why it was computed whole.
-- In the owner's name where that is somebody else: a definition reads with its owner's rights.
create or replace function lifecycle.refresh_kept_view(view lifecycle.kept_views, force_whole boolean default false)
returns table (mode text, written bigint, note text)
language plpgsql set search_path = '' set row_security = off
as $$
#variable_conflict use_variable
declare
    target     constant regclass := to_regclass(format('%I.%I', view.schema_name, view.view_name));
    kept       constant text := format('lifecycle.%I', view.kept_table);
    snapshot   constant pg_snapshot := pg_current_snapshot();
    safe       constant timestamptz := lifecycle.safe_until();
    overlap    constant interval := interval '2 hours';
    started    constant timestamptz := clock_timestamp();
    zone       constant text := current_setting('timezone');
    sources    constant oid[] := array(
        select to_regclass(format('%I.%I', r.source_schema, r.source_name))::oid from lifecycle.kept_view_sources r
         where (r.schema_name, r.view_name) = (view.schema_name, view.view_name));
    changes    numeric;
    definition text;
    has_null   boolean;
    columns    constant text := (select string_agg(quote_ident(c), ', ') from unnest(view.column_names) c);
    held       bigint;
begin
    perform set_config('timezone', view.time_zone, true);
    if target is null then
        raise exception 'view %.% is gone', view.schema_name, view.view_name
            using errcode = 'undefined_table', hint = 'Take it out of views.yaml and run lifecycle migrate, or make it again.';
    end if;
    definition := lifecycle.kept_definition(target, view.kept_table);
    if definition is null then
        raise exception 'the application replaced view %.%: it answers by its new definition, on every read', view.schema_name, view.view_name
            using errcode = 'object_not_in_prerequisite_state', hint = 'lifecycle migrate lets it answer from its table again.';
    end if;
    changes := lifecycle.source_changes(sources);
    note := case
        when force_whole then 'asked for'
        when view.refreshed_at is null then 'first refresh'
        when view.whole_due is not null then view.whole_due
        when lifecycle.view_fingerprint(target, definition) <> view.fingerprint then 'the definition or what it reads has changed'
        when view.moves = 'always' then 'it depends on the time of day'
        when view.moves = 'daily' and (view.refreshed_at at time zone view.time_zone)::date <> (now() at time zone view.time_zone)::date
            then 'a new day'
        when view.key_query is null and view.source_changes is distinct from changes then 'it has no key' end;
    written := 0;
    if note is not null then
        mode := 'whole';
        execute format(
            'with fresh as materialized (%1$s),
                  gone as (delete from %2$s k
                            where not exists (select from fresh f where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                           returning 1),
                  made as (insert into %2$s (%3$s, lifecycle_hash, lifecycle_copy)
                           select %3$s, f.lifecycle_hash, f.lifecycle_copy from fresh f
                            where not exists (select from %2$s k where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                           returning 1)
             select (select count(*) from gone) + (select count(*) from made), (select count(*) from fresh)',
            lifecycle.fresh_rows_query(view, definition, ''), kept, columns) into written, held;
    elsif view.key_query is not null then
        mode := 'keyed';
        execute format(
            'with keys as materialized (select distinct c.key from (%1$s) c where c.key is not null),
                  fresh as materialized (%2$s),
                  gone as (delete from %3$s k using keys
                            where k.%4$I = keys.key
                              and not exists (select from fresh f where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                           returning 1),
                  made as (insert into %3$s (%5$s, lifecycle_hash, lifecycle_copy)
                           select %5$s, f.lifecycle_hash, f.lifecycle_copy from fresh f
                            where not exists (select from %3$s k where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                           returning 1)
             select (select count(*) from gone) + (select count(*) from made)',
            view.key_query,
            lifecycle.fresh_rows_query(view, definition, format('where d.%I = any (array(select key from keys))', view.key_column)),
            kept, view.key_column, columns)
           into written using view.seen, view.safe_until - overlap;
        -- NULL is a key of its own, which equals nothing.
        execute format('select exists (select from (%s) c where c.key is null)', view.key_query)
           into has_null using view.seen, view.safe_until - overlap;
        if has_null then
            execute format(
                'with fresh as materialized (%1$s),
                      gone as (delete from %2$s k
                                where k.%3$I is null
                                  and not exists (select from fresh f where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                               returning 1),
                      made as (insert into %2$s (%4$s, lifecycle_hash, lifecycle_copy)
                               select %4$s, f.lifecycle_hash, f.lifecycle_copy from fresh f
                                where not exists (select from %2$s k where (f.lifecycle_hash, f.lifecycle_copy) = (k.lifecycle_hash, k.lifecycle_copy))
                               returning 1)
                 select $1 + (select count(*) from gone) + (select count(*) from made)',
                lifecycle.fresh_rows_query(view, definition, format('where d.%I is null', view.key_column)),
                kept, view.key_column, columns)
               into written using written;
        end if;
    else
        mode := 'skipped';
    end if;
    update lifecycle.kept_views v
       set seen = snapshot, safe_until = safe, source_changes = changes, refreshed_at = now(),
           refresh_ms = lifecycle.milliseconds_since(started), rows_written = written,
           whole_due = null, row_count = coalesce(held, v.row_count),
           definition_ms = case when mode = 'whole' then lifecycle.milliseconds_since(started) else v.definition_ms end
     where (v.schema_name, v.view_name) = (view.schema_name, view.view_name);
    perform set_config('timezone', zone, true);
    return next;
end $$;

-- The first rows of a kept view, before the view answers from them. What is written meanwhile is found by the first refresh.
create or replace function lifecycle.fill_kept_view(view lifecycle.kept_views, definition text) returns bigint
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
    execute format('delete from lifecycle.%I', view.kept_table);
    execute format('insert into lifecycle.%I (%s, lifecycle_hash, lifecycle_copy) %s', view.kept_table,
                   (select string_agg(quote_ident(c), ', ') from unnest(view.column_names) c),
                   lifecycle.fresh_rows_query(view, definition, ''));
    get diagnostics filled = row_count;
    perform set_config('timezone', zone, true);
    update lifecycle.kept_views v
       set seen = snapshot, safe_until = safe, refreshed_at = now(), row_count = filled, rows_written = filled,
           refresh_ms = lifecycle.milliseconds_since(started), definition_ms = lifecycle.milliseconds_since(started),
           source_changes = null, whole_due = null
     where (v.schema_name, v.view_name) = (view.schema_name, view.view_name);
    return filled;
end $$;
