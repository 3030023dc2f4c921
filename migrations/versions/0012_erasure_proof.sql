-- The proof of an erasure: the search for what is left, receipts, what comes back; and the whole of it as one procedure.

create table lifecycle.erasure_needles (
    batch_id        uuid primary key,
    words           text[] not null,
    odd_words       text[] not null,
    ids             uuid[] not null,
    addresses       text[] not null,
    session_length  int
);
comment on column lifecycle.erasure_needles.session_length is 'Of the shortest session name that is looked for in texts; null when there is none.';
comment on table lifecycle.erasure_needles is 'What the search of a batch looks for, made once from its keys; gone with them.';

create table lifecycle.erasure_scans (
    batch_id   uuid not null,
    table_name text not null,
    columns    int not null,
    rows       bigint not null,
    duration_ms bigint not null,
    scanned_at timestamptz not null default now(),
    primary key (batch_id, table_name)
);
create table lifecycle.erasure_findings (
    batch_id    uuid not null,
    job_id      bigint not null,
    table_name  text not null,
    column_name text not null,
    treatment   text not null check (treatment in ('residual', 'redacted', 'exempt')),
    rows        bigint not null,
    primary key (batch_id, job_id, table_name, column_name, treatment)
);
comment on table lifecycle.erasure_scans is 'Relations that the search for what is left went through, per batch.';
comment on table lifecycle.erasure_findings is 'Where that search found a person: never what it found.';

create table lifecycle.erasure_receipts (
    id            bigint generated always as identity primary key,
    request_id    uuid not null,
    body          jsonb not null,
    previous_hash bytea not null,
    hash          bytea not null,
    issued_at     timestamptz not null default now()
);
create index erasure_receipts_request_id_idx on lifecycle.erasure_receipts (request_id);
comment on table lifecycle.erasure_receipts is 'The proof of each erasure, without identifiers. Each holds the hash of the one before it: one that is changed or taken away breaks the chain.';

-- Two blocks of HMAC-SHA256 (RFC 2104): what is hashed with them cannot be guessed by whoever knows an id.
create table lifecycle.erasure_secret (
    singleton boolean primary key default true check (singleton),
    inner_pad bytea not null,
    outer_pad bytea not null
);
do $$
declare
    secret bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    inner_pad bytea := decode(repeat('36', 64), 'hex');
    outer_pad bytea := decode(repeat('5c', 64), 'hex');
begin
    for i in 0 .. 31 loop
        inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # get_byte(secret, i));
        outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # get_byte(secret, i));
    end loop;
    insert into lifecycle.erasure_secret (inner_pad, outer_pad) values (inner_pad, outer_pad);
end $$;
comment on table lifecycle.erasure_secret is 'The key of the hashes in lifecycle.suppressions and in receipts. Never leaves the database.';

create table lifecycle.suppressions (
    hash       bytea not null,
    kind       text not null check (kind in ('account', 'web_session')),
    request_id uuid not null,
    erased_at  timestamptz not null,
    expires_at timestamptz,
    primary key (kind, hash)
);
comment on table lifecycle.suppressions is 'Keyed hashes of who was erased and of the sessions that were theirs: what comes back, with a late beacon or from a backup, is known by them.';

create function lifecycle.keyed_hash(content text) returns bytea
language sql stable strict
return (select sha256(s.outer_pad || sha256(s.inner_pad || convert_to(content, 'UTF8'))) from lifecycle.erasure_secret s);

-- The sign-in user, where this role may delete it; somebody else's call otherwise, whose outcome is recorded here.
create function lifecycle.erase_sign_in_users(batch uuid) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    jobs  constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    users constant uuid[] := lifecycle.keys_of(jobs, 'sign_in_user')::uuid[];
    left_over uuid[] := '{}';
    outcome text := 'left: this role may not delete from auth.users';
begin
    perform lifecycle.renew_erasure_lease(batch);
    if users is not null and to_regclass('auth.users') is not null and has_schema_privilege('auth', 'usage')
       and has_table_privilege('auth.users', 'select, delete') then
        begin
            -- An account that stays may share it.
            execute 'delete from auth.users u where u.id = any ($1)
                        and not exists (select from public.account_linkages l where l.supabase_user_id = u.id)' using users;
            execute 'select array(select u.id from auth.users u where u.id = any ($1))' into left_over using users;
            outcome := 'deleted';
        exception when others then
            outcome := format('left: the database refused (SQLSTATE %s)', sqlstate);
            left_over := users;
        end;
    elsif users is not null then
        left_over := users;
    end if;
    update lifecycle.deletion_jobs j
       set sign_in_user = case
               when not exists (select from lifecycle.erasure_keys k where k.job_id = j.id and k.kind = 'sign_in_user') then 'none'
               when exists (select from lifecycle.erasure_keys k
                             where k.job_id = j.id and k.kind = 'sign_in_user' and k.key::uuid = any (left_over)) and outcome = 'deleted'
               then 'left: another account signs in with it'
               else outcome end
     where j.id = any (jobs) and j.sign_in_user is distinct from 'deleted';
end $$;

-- Search for what is left ------------------------------------------------------------------------------------

-- Every relation that holds rows of its own, with the columns in which an id or text could stand; a partition is
-- searched through its parent. What Supabase itself manages is not ours to read.
create function lifecycle.searched_columns(only_relation regclass default null)
returns table (relation regclass, table_name text, column_name text, type_name text, bytes bigint)
language sql stable set search_path = ''
as $$
    select c.oid::regclass, format('%I.%I', n.nspname, c.relname), a.attname::text,
           case when coalesce(d.typname, t.typname) in ('uuid', 'json', 'jsonb', 'inet', 'cidr', 'bytea')
                then coalesce(d.typname, t.typname)::text
                when t.typname = '_uuid' then 'uuid[]' else 'text' end,
           pg_table_size(c.oid)
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_type t on t.oid = a.atttypid
      left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
      left join pg_type d on d.oid = t.typbasetype and t.typtype = 'd'
     where (only_relation is null or c.oid = only_relation)
       and c.relkind in ('r', 'p', 'm') and not c.relispartition and c.relpersistence <> 't'
       and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and n.nspname <> all (select unnest(p.managed_schemas) from lifecycle.erasure_policy p)
       and (coalesce(d.typname, t.typname) in ('uuid', 'json', 'jsonb', 'inet', 'cidr', 'bytea', 'hstore', 'xml', 'tsvector')
            or coalesce(d.typcategory, t.typcategory) in ('S', 'C')
            or e.typname in ('uuid', 'json', 'jsonb', 'inet', 'cidr', 'bytea', 'hstore', 'xml', 'tsvector')
            or e.typcategory in ('S', 'C')
            -- A domain over a domain, or an array of one: looked into rather than guessed at.
            or d.typtype = 'd' or e.typtype = 'd')
       and not (n.nspname = 'lifecycle' and c.relname in ('erasure_keys', 'erasure_needles', 'alembic_version'))
$$;

-- How a column is treated; null when the map of personal data does not know it.
create function lifecycle.treatment_of(table_name text, column_name text) returns lifecycle.personal_data_columns
language sql stable
return (select c from lifecycle.personal_data_columns c
         where c.table_name = treatment_of.table_name and c.column_name in (treatment_of.column_name, '*')
         order by c.column_name = '*' limit 1);

-- Columns that could hold personal data and that nobody has said anything about. Expected: none.
create function lifecycle.unmapped_columns() returns table (table_name text, column_name text, type_name text)
language sql stable set search_path = ''
as $$
    select s.table_name, s.column_name, s.type_name from lifecycle.searched_columns() s
     where (lifecycle.treatment_of(s.table_name, s.column_name)).treatment is null
     order by 1, 2
$$;

-- What a person would be recognised by, once per batch. Bookings and vouchers are kept, without the person: their ids
-- prove nothing. Session names that are no ids are looked for as words of a text when they have at least eight
-- characters, others only where they stand alone; one in which somebody stands who is erased later is theirs, too. A word
-- of a form that no pattern knows is looked for as it is.
create function lifecycle.needles_of(batch uuid) returns lifecycle.erasure_needles
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    needles lifecycle.erasure_needles;
    jobs    constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    plain   constant text := '^[A-Za-z0-9][A-Za-z0-9_-]{6,}[A-Za-z0-9]$';
    visits  constant text[] := lifecycle.keys_of(jobs, 'own_web_session');
    shared  text[];
begin
    select n.* into needles from lifecycle.erasure_needles n where n.batch_id = batch;
    if found then
        return needles;
    end if;
    shared := array(select e.session_id from public.user_behavior_events e
                     where e.session_id = any (visits) and e.account_id is not null
                     union select b.session_id from public.business_metrics_events b
                     where b.session_id = any (visits) and b.account_id is not null
                     union select q.session_id from public.search_queries q
                     where q.session_id = any (visits) and q.account_id is not null);
    insert into lifecycle.erasure_needles (batch_id, words, odd_words, ids, addresses, session_length)
    select batch,
           coalesce(array_agg(distinct lower(k.key)) filter (where k.kind <> 'ip'), '{}'),
           coalesce(array_agg(distinct lower(k.key)) filter (
               where k.kind = 'email' and k.key collate "C" !~ ('^' || lifecycle.address_pattern() || '$')
                  or k.kind = 'own_web_session' and length(k.key) >= 8 and k.key collate "C" !~ plain), '{}'),
           coalesce(array_agg(distinct k.key::uuid) filter (where k.kind <> 'ip' and k.key ~ ('^' || lifecycle.id_pattern() || '$')), '{}'),
           coalesce(array_agg(distinct k.key) filter (where k.kind = 'ip'), '{}'),
           min(length(k.key)) filter (where k.kind = 'own_web_session' and k.key collate "C" ~ plain
                                        and k.key !~ ('^' || lifecycle.id_pattern() || '$'))
      from lifecycle.erasure_keys k
     where k.job_id = any (jobs)
       and k.kind in ('account', 'sign_in_user', 'email', 'chat_session', 'quiz_session', 'recommendation_run',
                      'generated_activity', 'own_web_session', 'ip')
       and not (k.kind = 'own_web_session' and k.key = any (shared))
    returning * into needles;
    return needles;
end $$;

create function lifecycle.searched_expression(column_name text, type_name text) returns text
language sql immutable set search_path = ''
as $$
    select case when type_name in ('inet', 'cidr') then format('host(t.%I)', column_name)
                -- Compressed text is read outside the server; a byte that is no ASCII ends a word.
                when type_name = 'bytea' then
                    format('case when substring(t.%1$I from 1 for 2) <> ''\x1f8b'' then regexp_replace(encode(t.%1$I, ''escape''), ''\\[0-7]{3}'', '' '', ''g'') end', column_name)
                else format('t.%I::text', column_name) end
$$;

-- The rows of a relation that hold a word in one of these columns, as a query of (relation, place, content): $1 are
-- words, $2 those that are ids, $3 addresses of machines, $4 patterns of odd words. All columns of text are looked at as one: a pattern costs more
-- to start than to go on. What could hold a word is chosen below, where parallel workers can; which words those are is
-- asked of the few rows that remain.
create function lifecycle.search_rows(relation regclass, names text[], types text[], needles lifecycle.erasure_needles) returns text
language plpgsql stable set search_path = ''
as $$
declare
    alone    text := '';
    body     text := 'null::text';
    hints    text := 'false';
    pattern  constant text := lifecycle.session_pattern(needles.session_length);
    odd      text := '';
begin
    select coalesce(string_agg(case when c.type = 'uuid' then format('t.%I = any ($2)', c.name)
                                    when c.type = 'uuid[]' then format('t.%I && $2', c.name)
                                    when c.type in ('inet', 'cidr') then format('host(t.%I) = any ($3)', c.name)
                                    else format('lower(t.%I) = any ($1)', c.name) end, ' or '), 'false')
      into alone
      from unnest(names, types) c(name, type)
     where c.type in ('uuid', 'uuid[]', 'inet', 'cidr') or c.name = 'session_id' and c.type = 'text';
    select coalesce('(concat_ws(E''\n'', ' || string_agg(lifecycle.searched_expression(c.name, c.type), ', ') || ') collate "C")', body)
      into body
      from unnest(names, types) c(name, type)
     where cardinality(names) = 1
        or c.type not in ('uuid', 'uuid[]', 'inet', 'cidr') and not (c.name = 'session_id' and c.type = 'text');
    if needles.odd_words <> '{}' then
        odd := format(' or lower(%s collate "default") like any ($4)', body);
    end if;
    -- Two simple patterns cost a fifth of one that is both.
    if exists (select from unnest(types) t where t not in ('uuid', 'uuid[]', 'inet', 'cidr')) then
        hints := format('%s ~ %L', body, lifecycle.identifier_hint())
            || case when needles.session_length is null then ''
                    else format(' or %s ~ %L', body, format('[A-Za-z0-9_-]{%s}', needles.session_length)) end;
    end if;
    -- Materialized: the planner expects a word in every row, and beside the price of asking for words that of reading
    -- alone would be nothing to it.
    return format('with c as materialized (
                       select t.tableoid as relation, t.ctid as place, %1$s as content, (%2$s%3$s) as hit
                         from %4$s t where %2$s%3$s or %5$s)
                   select c.relation, c.place, c.content from c
                    where c.hit or exists (select from lifecycle.words_in(c.content, %6$L) w where w.word = any ($1))',
                  body, alone, odd, relation, hints, pattern);
end $$;

-- One relation: where do the people of this batch still stand? Per job and column, never what was found. It is read
-- once when nothing is left. A word in a column of others' free form (treatment 'redacted') is taken out of it.
-- Searched again, the relation's earlier findings give way.
create function lifecycle.search_relation(batch uuid, relation regclass) returns bigint
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
    -- The planner expects every row to come back from the workers.
    set min_parallel_table_scan_size = '1MB' set parallel_tuple_cost = 0
as $$
#variable_conflict use_variable
declare
    started   constant timestamptz := clock_timestamp();
    jobs      constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    needles   lifecycle.erasure_needles;
    names     text[];
    types     text[];
    searched  text;
    total     bigint;
    hits      bigint;
    found     bigint := 0;
    col       record;
    rule      lifecycle.personal_data_columns;
    matching  text;
    odd       text[];
begin
    perform lifecycle.renew_erasure_lease(batch);
    needles := lifecycle.needles_of(batch);
    odd := array(select '%' || regexp_replace(w, '([%_\\])', '\\\1', 'g') || '%' from unnest(needles.odd_words) w);
    select array_agg(s.column_name order by s.column_name), array_agg(s.type_name order by s.column_name), min(s.table_name)
      into names, types, searched
      from lifecycle.searched_columns(search_relation.relation) s;
    if names is null then
        return 0;
    end if;
    delete from lifecycle.erasure_findings f where f.batch_id = batch and f.table_name = searched;
    execute format('select (select count(*) from %s), count(*) from (%s) r', relation,
                   lifecycle.search_rows(relation, names, types, needles))
       into total, hits using needles.words, needles.ids, needles.addresses, odd;
    if hits > 0 then
        for col in select c.name, c.type from unnest(names, types) c(name, type) loop
            matching := lifecycle.search_rows(relation, array[col.name], array[col.type], needles);
            rule := lifecycle.treatment_of(searched, col.name);
            -- The treatment of a column that nobody has said anything about is that of one that must hold nothing.
            execute format(
                'with held as materialized (select row_number() over () as number, r.content from (%s) r),
                 word as (select distinct h.number, w.word from held h cross join lateral lifecycle.words_in(h.content, $6) w
                           union
                          select h.number, lower(h.content) from held h where octet_length(h.content) <= 320
                           union
                          select h.number, o.word from held h join unnest($11) o(word) on position(o.word in lower(h.content collate "default")) > 0)
                 insert into lifecycle.erasure_findings (batch_id, job_id, table_name, column_name, treatment, rows)
                 select $7, k.job_id, $8, $9, $10, count(distinct w.number)
                   from word w join lifecycle.erasure_keys k on lower(k.key) = w.word and k.job_id = any ($5)
                  group by k.job_id',
                matching)
              using needles.words, needles.ids, needles.addresses, odd, jobs, lifecycle.session_pattern(needles.session_length),
                    batch, searched, col.name,
                    case rule.treatment when 'exempt' then 'exempt' when 'redacted' then 'redacted' else 'residual' end,
                    needles.odd_words;
            get diagnostics hits = row_count;
            found := found + hits;
            if hits > 0 and rule.treatment = 'redacted' then
                insert into lifecycle.erasure_counts as c (job_id, table_name, action, rows)
                select f.job_id, searched, 'redact', sum(f.rows) from lifecycle.erasure_findings f
                 where f.batch_id = batch and f.table_name = searched and f.column_name = col.name and f.treatment = 'redacted'
                 group by 1
                on conflict on constraint erasure_counts_pkey do update set rows = c.rows + excluded.rows;
                execute format('update %s t set %I = %s from (%s) r where t.tableoid = r.relation and t.ctid = r.place', relation, col.name,
                               (select format(case when col.type = 'uuid' then 'null'
                                                   when a.atttypid in ('json'::regtype, 'jsonb'::regtype)
                                                   then 'lifecycle.document_without_words(t.%I::jsonb, $1, $5, $6)::%s'
                                                   else 'lifecycle.without_words(t.%I::text, $1, $5, $6)::%s' end,
                                              col.name, format_type(a.atttypid, a.atttypmod))
                                  from pg_catalog.pg_attribute a
                                 where a.attrelid = relation and a.attname = col.name),
                               matching)
                  using needles.words, needles.ids, needles.addresses, odd, needles.odd_words,
                        lifecycle.session_pattern(needles.session_length);
                execute format('select count(*) from (%s) r', matching)
                   into hits using needles.words, needles.ids, needles.addresses, odd;
                if hits > 0 then  -- came back while we looked, or stands there in a way that cannot be taken out
                    insert into lifecycle.erasure_findings (batch_id, job_id, table_name, column_name, treatment, rows)
                    select batch, f.job_id, f.table_name, f.column_name, 'residual', hits from lifecycle.erasure_findings f
                     where f.batch_id = batch and f.table_name = searched and f.column_name = col.name and f.treatment = 'redacted'
                    on conflict do nothing;
                end if;
            end if;
        end loop;
    end if;
    insert into lifecycle.erasure_scans as s (batch_id, table_name, columns, rows, duration_ms)
    values (batch, searched, cardinality(names), total, lifecycle.milliseconds_since(started))
    on conflict (batch_id, table_name) do update
       set columns = excluded.columns, rows = excluded.rows, duration_ms = excluded.duration_ms, scanned_at = now();
    return found;
end $$;

-- An erasure touches hours all over the past, and one statement for each of thousands takes longer than one over the days
-- or months that they lie in. Whole buckets are computed either way, so the rows are the same.
create function lifecycle.few_spans(spans tstzmultirange) returns tstzmultirange
language plpgsql stable set search_path = '' set timezone = 'UTC'
as $$
declare
    unit text;
begin
    foreach unit in array array['day', 'month'] loop
        exit when (select count(*) from unnest(spans)) <= 200;
        spans := (select range_agg(tstzrange(date_trunc(unit, lower(s)),
                                             case when upper(s) = date_trunc(unit, upper(s)) then upper(s)
                                                  else date_trunc(unit, upper(s)) + ('1 ' || unit)::interval end))
                    from unnest(spans) s);
    end loop;
    return spans;
end $$;
do $$
declare
    was text := pg_get_functiondef('lifecycle.roll_up_changes(timestamptz, timestamptz)'::regprocedure);
    is_now text := replace(was, 'in select unnest(spans) loop', 'in select unnest(lifecycle.few_spans(spans)) loop');
begin
    if is_now = was then
        raise exception 'lifecycle.roll_up_changes is not the one of revision 0003';
    end if;
    execute is_now;
end $$;

-- Derived tables and materialized views that may hold the batch's people are made anew. False when another session
-- refreshes at this moment: wait for it, then call again. What cannot be refreshed is found by the search.
create function lifecycle.refresh_after_erasure(batch uuid) returns boolean
language plpgsql set search_path = ''
as $$
declare
    view record;
begin
    perform lifecycle.renew_erasure_lease(batch);
    if exists (select from public.refresh_derived_statistics() r where r.outcome = 'busy') then
        return false;
    end if;
    for view in
        select p.view_name, to_regclass(format('%I.%I', p.schema_name, p.view_name)) as relation
          from lifecycle.materialized_view_policies p order by p.view_name
    loop
        if (select c.relkind from pg_class c where c.oid = view.relation) = 'm' then
            if lifecycle.search_relation(batch, view.relation) > 0 then
                -- Its age is no reason to leave it as it is.
                delete from lifecycle.refresh_states s where s.name = view.view_name;
                perform from public.refresh_analytics_hourly(view.view_name);
            end if;
        end if;
    end loop;
    return true;
end $$;

-- Receipts ---------------------------------------------------------------------------------------------------

create function lifecycle.receipt_body(job lifecycle.deletion_jobs, outside jsonb) returns jsonb
language sql stable set search_path = ''
as $$
    select jsonb_build_object(
        'request_id', job.request_id,
        'subject', encode(lifecycle.keyed_hash(job.account_id::text), 'hex'),
        'policy_version', p.version,
        'requested_at', job.requested_at, 'due_at', job.due_at, 'in_time', clock_timestamp() <= job.due_at,
        'started_at', job.started_at, 'collected_at', job.collected_at, 'erased_at', job.erased_at,
        'verified_at', now(), 'attempts', job.attempts, 'recurrence', job.recurrences,
        'rows', (select coalesce(jsonb_agg(jsonb_build_object('table', c.table_name, 'action', c.action, 'rows', c.rows)
                                           order by c.table_name, c.action), '[]')
                   from lifecycle.erasure_counts c where c.job_id = job.id),
        'exemptions', (select coalesce(jsonb_agg(jsonb_build_object('column', f.table_name || '.' || f.column_name, 'rows', f.rows,
                                                                    'reason', d.reason)
                                                 order by f.table_name, f.column_name), '[]')
                         from lifecycle.erasure_findings f
                        cross join lateral (select * from lifecycle.treatment_of(f.table_name, f.column_name)) d
                        where f.batch_id = job.batch_id and f.job_id = job.id and f.treatment = 'exempt'),
        'search', (select jsonb_build_object('relations', count(*), 'columns', sum(s.columns), 'rows', sum(s.rows),
                                             'milliseconds', sum(s.duration_ms), 'left', 0)
                     from lifecycle.erasure_scans s where s.batch_id = job.batch_id) || outside,
        'sign_in_user', job.sign_in_user,
        'space', 'deleted bytes stay in the data files until VACUUM, in backups until these expire')
      from lifecycle.erasure_policy p
$$;

create function lifecycle.receipt_hash(previous bytea, body jsonb) returns bytea
language sql immutable
return sha256(previous || convert_to(body::text, 'UTF8'));

-- Jobs of which nothing is left get their receipt and lose their keys; the others fail, with the table and the column.
-- `outside` says who searched compressed text, and how much of it.
create function lifecycle.conclude_erasure(batch uuid, outside jsonb default '{"compressed": "not unpacked: the database cannot"}')
returns table (verified int, failed int)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    jobs     bigint[];
    policy   lifecycle.erasure_policy;
    guilty   record;
    job      lifecycle.deletion_jobs;
    previous bytea;
    body     jsonb;
begin
    select * into policy from lifecycle.erasure_policy;
    perform lifecycle.renew_erasure_lease(batch);
    verified := 0; failed := 0;
    jobs := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased' order by j.id for update);
    for guilty in
        select l.job_id, string_agg(distinct l.place, ', ' order by l.place) as places
          from (select f.job_id, format('%s.%s', f.table_name, f.column_name) as place
                  from lifecycle.erasure_findings f where f.batch_id = batch and f.treatment = 'residual'
                 union
                select r.job_id, format('%s (rows by %s)', s.table_name, s.key_column)
                  from lifecycle.rows_to_erase(jobs) r join lifecycle.erasure_steps s on s.step = r.step where r.rows > 0) l
         group by l.job_id
    loop
        perform lifecycle.fail_deletion_jobs(array[guilty.job_id],
            format('something of the person is left in %s; correct the map of personal data or the rows, it is tried again', guilty.places), false);
        failed := failed + 1;
    end loop;
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.erasure_receipts', 0));  -- one chain, one link at a time
    for job in select j.* from lifecycle.deletion_jobs j where j.id = any (jobs) and j.state = 'erased' order by j.due_at, j.id loop
        previous := coalesce((select r.hash from lifecycle.erasure_receipts r order by r.id desc limit 1), '\x');
        body := lifecycle.receipt_body(job, outside);
        insert into lifecycle.erasure_receipts (request_id, body, previous_hash, hash)
        values (job.request_id, body, previous, lifecycle.receipt_hash(previous, body));
        insert into lifecycle.suppressions as s (kind, hash, request_id, erased_at, expires_at)
        select case k.kind when 'account' then 'account' else 'web_session' end, lifecycle.keyed_hash(k.key), job.request_id, now(),
               case k.kind when 'account' then null else now() + policy.late_window end
          from lifecycle.erasure_keys k where k.job_id = job.id and k.kind in ('account', 'own_web_session')
        on conflict (kind, hash) do update set erased_at = excluded.erased_at, expires_at = excluded.expires_at;
        delete from lifecycle.erasure_keys k where k.job_id = job.id;
        perform lifecycle.record_outcome('erase_personal_data', 'request ' || job.request_id, null,
            jsonb_build_object('rows', (select sum(c.rows) from lifecycle.erasure_counts c where c.job_id = job.id),
                               'duration_ms', round(extract(epoch from now() - job.started_at) * 1000)));
        verified := verified + 1;
    end loop;
    delete from lifecycle.erasure_needles n where n.batch_id = batch;
    update public.data_deletion_requests r set status = 'completed', completed_at = now()
      from lifecycle.deletion_jobs j where j.id = any (jobs) and j.state = 'erased' and j.request_id = r.id;
    update lifecycle.deletion_jobs j
       set state = 'verified', verified_at = now(), lease_until = null, last_error = null
     where j.id = any (jobs) and j.state = 'erased';
    return next;
end $$;

-- Receipts that do not fit the one before them, that were changed, or that an erasure lacks. Expected: none.
create function lifecycle.broken_receipts() returns table (id bigint, fault text)
language sql stable set search_path = ''
as $$
    (select c.id, case when c.previous_hash = c.before then 'it was changed'
                       else 'the receipt before it was changed or taken away' end
       from (select r.*, lag(r.hash, 1, '\x') over (order by r.id) as before from lifecycle.erasure_receipts r) c
      where c.hash <> lifecycle.receipt_hash(c.previous_hash, c.body) or c.previous_hash <> c.before
         or c.request_id::text is distinct from c.body ->> 'request_id'
         or c.issued_at is distinct from (c.body ->> 'verified_at')::timestamptz
      order by c.id)
     union all
    -- Nothing follows the last one, so the queue must know of it.
    select null, format('request %s has %s receipts for %s erasures', j.request_id, r.count, j.recurrences + 1)
      from lifecycle.deletion_jobs j
     cross join lateral (select count(*) from lifecycle.erasure_receipts r where r.request_id = j.request_id) r
     where j.state = 'verified' and r.count < j.recurrences + 1
$$;

-- What comes back ----------------------------------------------------------------------------------------------

-- Rows of people who were erased: written with a token that had not expired, by a browser that was away, or restored
-- from a backup. Their jobs are queued again. One row per job and table.
create function public.find_returned_personal_data() returns table (request_id uuid, table_name text, rows bigint)
language plpgsql set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    policy lifecycle.erasure_policy;
    jobs   bigint[];
    again  bigint[] := '{}';
    found  record;
begin
    select * into policy from lifecycle.erasure_policy;
    delete from lifecycle.suppressions s where s.expires_at <= now();
    -- Receipts hold what these say.
    delete from lifecycle.erasure_scans s where s.scanned_at < now() - interval '30 days';
    delete from lifecycle.erasure_findings f
     where not exists (select from lifecycle.erasure_scans s where s.batch_id = f.batch_id)
       and not exists (select from lifecycle.deletion_jobs j where j.batch_id = f.batch_id);
    -- Accounts of a backup that is older than their erasure: the request may be gone with it.
    insert into public.data_deletion_requests (account_id, request_reason)
    select a.id, 'was erased and came back' from public.accounts a
     where a.status <> 'deleted'
       and exists (select from lifecycle.suppressions s where s.kind = 'account' and s.hash = lifecycle.keyed_hash(a.id::text))
       and not exists (select from lifecycle.deletion_jobs j where j.account_id = a.id and j.state <> 'cancelled')
       and not exists (select from public.data_deletion_requests r where r.account_id = a.id and r.status in ('pending', 'processing'));
    perform from public.enqueue_deletion_jobs();

    -- One job per account is enough; its keys are those that never change.
    jobs := array(select distinct on (j.account_id) j.id from lifecycle.deletion_jobs j
                   where j.state = 'verified' order by j.account_id, j.verified_at desc);
    perform lifecycle.collect_keys(jobs, array(select j.account_id from lifecycle.deletion_jobs j
                                                join unnest(jobs) with ordinality o(id, place) using (id) order by o.place));
    for found in
        select j.request_id, r.job_id, s.table_name, sum(r.rows)::bigint as rows
          from lifecycle.rows_to_erase(jobs) r
          join lifecycle.erasure_steps s on s.step = r.step
          join lifecycle.deletion_jobs j on j.id = r.job_id
         where r.rows > 0 group by 1, 2, 3 order by 1, 3
    loop
        again := again || found.job_id;
        request_id := found.request_id; table_name := found.table_name; rows := found.rows;
        return next;
    end loop;
    -- Anonymous rows are known by the session alone, for as long as a browser may hold them back.
    for found in
        with seen as (
            select 'public.user_behavior_events' as table_name, e.session_id, count(*) as rows from public.user_behavior_events e
             where e.account_id is null and e.event_timestamp >= now() - policy.late_window and e.session_id <> 'erased' group by 2
             union all
            select 'public.business_metrics_events', b.session_id, count(*) from public.business_metrics_events b
             where b.account_id is null and b.event_timestamp >= now() - policy.late_window and b.session_id <> 'erased' group by 2
             union all
            select 'public.search_queries', q.session_id, count(*) from public.search_queries q
             where q.account_id is null and q.searched_at >= now() - policy.late_window and q.session_id is not null group by 2
             union all
            select 'public.session_replay_events', r.session_id, count(*) from public.session_replay_events r
             where r."timestamp" >= now() - policy.late_window group by 2
        ), name as materialized (
            select d.session_id, lifecycle.keyed_hash(d.session_id) as hash from (select distinct n.session_id from seen n) d
        )
        select j.id as job_id, j.request_id, n.session_id, v.table_name, v.rows
          from name n
          join lifecycle.suppressions s on s.kind = 'web_session' and s.hash = n.hash
          join lifecycle.deletion_jobs j on j.request_id = s.request_id and j.state = 'verified'
          join seen v on v.session_id = n.session_id
         -- Somebody else goes on in that browser: what is anonymous there may be theirs.
         where not exists (select from (select e.session_id, e.account_id from public.user_behavior_events e
                                        union all select b.session_id, b.account_id from public.business_metrics_events b
                                        union all select q.session_id, q.account_id from public.search_queries q) v
                            where v.session_id = n.session_id and v.account_id is not null
                              and not lifecycle.is_leaving(v.account_id))
         order by 2, 4
    loop
        again := again || found.job_id;
        insert into lifecycle.erasure_keys (job_id, kind, key) values (found.job_id, 'web_session', found.session_id)
        on conflict do nothing;
        request_id := found.request_id; table_name := found.table_name; rows := found.rows;
        return next;
    end loop;

    delete from lifecycle.erasure_keys k where k.job_id = any (jobs) and k.job_id <> all (again);
    delete from lifecycle.erasure_counts c where c.job_id = any (again);
    update lifecycle.deletion_jobs j
       set state = 'queued', recurrences = j.recurrences + 1, attempts = 0, next_attempt_at = now(),
           batch_id = null,
           due_at = (now() at time zone policy.calendar + policy.deadline) at time zone policy.calendar, started_at = null, collected_at = null, erased_at = null
     where j.id = any (again);
end $$;

-- Doing it -----------------------------------------------------------------------------------------------------

-- One step of a batch, with its errors: they fail the jobs, which are tried again later, and never the caller.
-- 'again' asks for the same step once more, 'failed' ends the batch.
create function lifecycle.erasure_step(batch uuid, step text, relation regclass default null, outside jsonb default null)
returns text
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    context text;
    place text;
    violated text;
    error text;
    code  text;
begin
    case step
        when 'collect' then
            perform lifecycle.collect_erasure_keys(batch);
        when 'erase' then
            if (select c.remaining from lifecycle.erase_chunk(batch) c) > 0 then
                return 'again';
            end if;
        when 'sign_in_users' then
            perform lifecycle.erase_sign_in_users(batch);
        when 'refresh' then
            if not lifecycle.refresh_after_erasure(batch) then
                return 'again';
            end if;
        when 'search' then
            perform lifecycle.search_relation(batch, relation);
        when 'conclude' then
            perform lifecycle.conclude_erasure(batch, coalesce(outside, '{"compressed": "not unpacked: the database cannot"}'));
    end case;
    return 'done';
exception when others then
    get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context,
        place = table_name, violated = constraint_name;
    perform lifecycle.fail_erasure_batch(batch, lifecycle.told_error(code, error, context, place, violated), code);
    return 'failed';
end $$;

-- Everything that waits, batch by batch, each step in a transaction of its own. For psql and pg_cron, which let a
-- procedure commit; it cannot run inside a transaction block.
create procedure public.process_deletion_jobs(batch_size int default null)
language plpgsql
as $$
declare
    batch    uuid;
    step     text;
    outcome  text;
    tries    int;
    relation regclass;
begin
    perform from public.enqueue_deletion_jobs();
    commit;
    loop
        batch := lifecycle.claim_deletion_jobs(batch_size);
        commit;
        exit when batch is null;
        foreach step in array array['collect', 'erase', 'sign_in_users', 'refresh', 'search', 'conclude'] loop
            tries := 0;
            if step = 'search' then
                for relation in select distinct s.relation from lifecycle.searched_columns() s loop
                    outcome := lifecycle.erasure_step(batch, step, relation);
                    commit;
                    exit when outcome = 'failed';
                end loop;
            else
                loop
                    outcome := lifecycle.erasure_step(batch, step);
                    commit;
                    exit when outcome <> 'again';
                    if step = 'refresh' then  -- somebody else refreshes
                        tries := tries + 1;
                        if tries > 120 then
                            perform lifecycle.fail_erasure_batch(batch, 'another session kept refreshing the statistics', '55P03');
                            outcome := 'failed';
                            commit;
                            exit;
                        end if;
                        perform pg_sleep(1);
                        commit;
                    end if;
                end loop;
            end if;
            exit when outcome = 'failed';
        end loop;
    end loop;
end $$;

-- What would be done for a request now: its rows by step. Nothing is changed; what had to be written to find out is undone.
create function lifecycle.plan_erasure(request_id uuid)
returns table (step int, table_name text, action text, found_by text, rows bigint, reason text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_column
declare
    job    lifecycle.deletion_jobs;
    counts jsonb;
begin
    begin
        job := lifecycle.job_of_request(plan_erasure.request_id);
        update lifecycle.deletion_jobs j
           set state = 'running', hold_reason = null, batch_id = gen_random_uuid() where j.id = job.id returning * into job;
        perform lifecycle.collect_erasure_keys(job.batch_id);
        select jsonb_object_agg(r.step, r.rows) into counts from lifecycle.rows_to_erase(array[job.id]) r;
        raise exception using errcode = 'LCPLN';
    exception when sqlstate 'LCPLN' then null;
    end;
    return query
        select s.step, s.table_name, s.action, s.key_column, coalesce((counts ->> s.step::text)::bigint, 0), s.reason
          from lifecycle.erasure_steps s order by s.step;
end $$;

-- Closed to everyone: the owner alone calls these functions.
select lifecycle.close_to_readers(
    array['lifecycle.erasure_needles', 'lifecycle.erasure_scans', 'lifecycle.erasure_findings',
          'lifecycle.erasure_receipts', 'lifecycle.erasure_secret', 'lifecycle.suppressions']::regclass[],
    array['lifecycle.broken_receipts', 'lifecycle.conclude_erasure', 'lifecycle.erase_sign_in_users',
          'lifecycle.erasure_step', 'lifecycle.few_spans', 'lifecycle.keyed_hash',
          'lifecycle.needles_of', 'lifecycle.plan_erasure', 'lifecycle.receipt_body',
          'lifecycle.receipt_hash', 'lifecycle.refresh_after_erasure', 'lifecycle.search_relation',
          'lifecycle.search_rows', 'lifecycle.searched_columns', 'lifecycle.searched_expression',
          'lifecycle.treatment_of', 'lifecycle.unmapped_columns',
          'public.find_returned_personal_data', 'public.process_deletion_jobs']);
