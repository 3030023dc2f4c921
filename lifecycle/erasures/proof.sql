-- The proof of an erasure: receipts, what comes back, and what would be done for a request.

-- HMAC with SHA-256: stands for a person where only the holder of the secret may say who it is.
create or replace function lifecycle.keyed_hash(content text) returns bytea
language sql stable strict set search_path = ''
as $$ select sha256(s.outer_pad || sha256(s.inner_pad || convert_to(content, 'UTF8'))) from lifecycle.erasure_secret s $$;

-- Keys of a job that were not followed, counted, without a word of what they are.
create or replace function lifecycle.unfollowed_keys(job_id bigint) returns jsonb
language sql stable set search_path = ''
as $$
    select coalesce(jsonb_agg(jsonb_build_object('kind', u.kind, 'reason', u.unfollowed, 'keys', u.keys) order by u.kind, u.unfollowed), '[]')
      from (select k.kind, k.unfollowed, count(*) as keys from lifecycle.erasure_keys k
             where k.job_id = unfollowed_keys.job_id and k.unfollowed is not null group by 1, 2) u
$$;

-- Where a word of the person's stands by others' doing, and cannot be taken away from them.
create or replace function lifecycle.left_with_others(job lifecycle.deletion_jobs) returns jsonb
language sql stable set search_path = ''
as $$
    select coalesce(jsonb_agg(jsonb_build_object('column', f.table_name || '.' || f.column_name, 'rows', f.rows)
                              order by f.table_name, f.column_name), '[]')
      from lifecycle.erasure_findings f where f.batch_id = job.batch_id and f.job_id = job.id and f.treatment = 'claimed'
$$;

-- What a receipt says of a job: when, how many rows went from where, what stayed and why, what was searched.
create or replace function lifecycle.receipt_body(job lifecycle.deletion_jobs, outside jsonb) returns jsonb
language sql stable set search_path = ''
as $$
    select jsonb_build_object(
        'request_id', job.request_id,
        'result', case when lifecycle.unfollowed_keys(job.id) = '[]' and lifecycle.left_with_others(job) = '[]'
                       then 'verified' else 'verified, with exceptions' end,
        'not_followed', lifecycle.unfollowed_keys(job.id),
        'subject', encode(lifecycle.keyed_hash(job.account_key), 'hex'),
        'policy_version', p.version,
        'requested_at', job.requested_at, 'seen_at', job.seen_at, 'due_at', job.due_at, 'in_time', clock_timestamp() <= job.due_at,
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
        'left_with_others', lifecycle.left_with_others(job),
        'search', (select jsonb_build_object('relations', count(*), 'columns', sum(s.columns), 'rows', sum(s.rows),
                                             'milliseconds', sum(s.duration_ms), 'left', 0)
                     from lifecycle.erasure_scans s where s.batch_id = job.batch_id) || outside,
        'sign_in_user', job.sign_in_user, 'reach_confirmed', job.reach_confirmed,
        'space', 'deleted bytes stay in the data files until VACUUM, in backups until these expire')
      from lifecycle.erasure_policy p
$$;

-- Each receipt holds the hash of the one before it: none can be changed or taken away unseen.
create or replace function lifecycle.receipt_hash(previous bytea, body jsonb) returns bytea
language sql immutable set search_path = ''
as $$ select sha256(previous || convert_to(body::text, 'UTF8')) $$;

-- Rows that still name these people by a number, through a foreign key: no search of texts would find them. What the map of
-- personal data lets name the person is not counted.
create or replace function lifecycle.rows_by_number(jobs bigint[]) returns table (job_id bigint, table_name text, column_name text)
language plpgsql stable set search_path = '' set row_security = off
as $$
#variable_conflict use_column
declare
    place record;
begin
    for place in
        select c.oid::regclass as relation, t.name, a.attname::text as col, format_type(a.atttypid, null) as type
          from lifecycle.erasure_policy p
          join pg_constraint k on k.contype = 'f' and k.confrelid = lifecycle.reachable(p.person_table) and cardinality(k.conkey) = 1
          join pg_attribute r on r.attrelid = k.confrelid and r.attnum = k.confkey[1] and r.attname = p.person_column
          join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
          join pg_class c on c.oid = k.conrelid and not c.relispartition
          join pg_namespace n on n.oid = c.relnamespace and n.nspname <> all (p.managed_schemas)
         cross join lateral (select format('%I.%I', n.nspname, c.relname) as name) t
         where a.atttypid = any ('{int2,int4,int8}'::regtype[])
           and (lifecycle.treatment_of(t.name, a.attname)).treatment is distinct from 'exempt'
    loop
        return query execute format(
            'select e.job_id, %L, %L from lifecycle.erasure_keys e
              where e.job_id = any ($1) and e.kind = ''person'' and lifecycle.could_be(e.key, %L)
                and exists (select from %s t where t.%I = e.key::%s)',
            place.name, place.col, place.type, place.relation, place.col, place.type) using jobs;
    end loop;
end $$;

-- Of these jobs those of which nothing is left in anything that was searched get their receipt and lose their keys; the others
-- fail, with the table and the column.
create or replace function lifecycle.conclude_jobs(jobs bigint[], outside jsonb) returns void
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    policy   lifecycle.erasure_policy;
    guilty   record;
    job      lifecycle.deletion_jobs;
    previous bytea;
    body     jsonb;
    done     text[];
begin
    select p.* into policy from lifecycle.erasure_policy p;
    for guilty in
        select j.id, concat_ws('. ',
                   'something of the person is left in ' || l.places || '; correct the map of personal data or the rows, it is tried again',
                   lifecycle.unread_error(j.id)) as error
          from unnest(jobs) j(id)
          left join (
              select p.job_id, string_agg(distinct p.place, ', ' order by p.place) as places
                from (select f.job_id, format('%s.%s', f.table_name, f.column_name) as place
                        from lifecycle.erasure_findings f join lifecycle.deletion_jobs d on d.id = f.job_id and d.batch_id = f.batch_id
                       where f.job_id = any (jobs) and f.treatment = 'residual'
                       union
                      select r.job_id, format('%s (rows by %s)', s.table_name, s.key_column)
                        from lifecycle.rows_to_erase(jobs) r join lifecycle.erasure_steps s on s.step = r.step where r.rows > 0
                       union
                      select r.job_id, format('%s.%s', r.table_name, r.column_name) from lifecycle.rows_by_number(jobs) r) p
               group by 1) l on l.job_id = j.id
    loop
        if guilty.error <> '' then
            perform lifecycle.fail_deletion_jobs(array[guilty.id], guilty.error, false);
        end if;
    end loop;
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.erasure_receipts', 0));  -- one chain, one link at a time
    for job in select j.* from lifecycle.deletion_jobs j where j.id = any (jobs) and j.state = 'erased' order by j.due_at, j.id loop
        previous := coalesce((select r.hash from lifecycle.erasure_receipts r order by r.id desc limit 1), '\x');
        body := lifecycle.receipt_body(job, outside);
        insert into lifecycle.erasure_receipts (request_id, body, previous_hash, hash)
        values (job.request_id, body, previous, lifecycle.receipt_hash(previous, body));
        insert into lifecycle.suppressions as s (kind, hash, request_id, erased_at, expires_at)
        select k.kind, lifecycle.keyed_hash(k.key), job.request_id, now(),
               case k.kind when 'person' then null else now() + policy.late_window end
          from lifecycle.erasure_keys k
         where k.job_id = job.id and k.unfollowed is null
           and (k.kind = 'person' or k.kind in (select r.kind from lifecycle.erasure_key_kinds r where r.remembered))
        on conflict (kind, hash) do update set erased_at = excluded.erased_at, expires_at = excluded.expires_at;
        delete from lifecycle.erasure_keys k where k.job_id = job.id;
        perform lifecycle.record_outcome('erase_personal_data', 'request ' || job.request_id, null,
            jsonb_build_object('rows', (select sum(c.rows) from lifecycle.erasure_counts c where c.job_id = job.id),
                               'duration_ms', round(extract(epoch from now() - job.started_at) * 1000)));
        done := done || job.request_id;
    end loop;
    if done is not null then
        perform lifecycle.set_request_status(done, 'completed');
    end if;
    update lifecycle.deletion_jobs j
       set state = 'verified', verified_at = now(), lease_until = null, last_error = null
     where j.id = any (jobs) and j.state = 'erased';
end $$;

-- Raises unless every file of cold months was looked through for this batch, and none is left in the store that readers do
-- not find any more: such a one may hold what was just taken away, and so may what is filled for views. What a move wrote of a
-- month that nobody changed meanwhile holds what the month does. `cold` is what the worker says of it.
create or replace function lifecycle.require_cold_files_searched(cold jsonb) returns void
language plpgsql stable set search_path = ''
as $$
declare
    unsearched bigint;
    left_over  bigint;
begin
    if to_regclass('lifecycle.cold_files') is null then
        return;
    end if;
    execute 'select count(*) filter (where f.state = ''live'' and not coalesce($1 -> ''searched'', ''[]'') @> to_jsonb(f.id)),
                    count(*) filter (where f.state = ''retired'' or f.state <> ''live'' and lifecycle.is_outdated(f.move_id))
                    + (select count(*) from lifecycle.cold_moves m where m.state = ''exporting'' and lifecycle.is_outdated(m.id))
                    + (select count(*) from pg_class c
                        where c.relnamespace = to_regnamespace(''event_partitions'') and c.relkind = ''r'' and not c.relispartition
                          and obj_description(c.oid, ''pg_class'') like ''lifecycle:narrow of %'')
               from lifecycle.cold_files f where f.state <> ''removed'''
       into unsearched, left_over using cold;
    if unsearched > 0 and cold is null then
        raise exception 'months in cold storage can only be searched by the job erase_personal_data (% files)', unsearched
            using errcode = 'feature_not_supported', hint = 'Leave deletion requests to that job.';
    elsif unsearched + left_over > 0 then
        raise exception 'cold files came, or wait to be removed from the store (% and %): it is tried again', unsearched, left_over
            using errcode = 'serialization_failure';
    end if;
end $$;

-- The end of a batch. `outside` says who searched compressed text, and how much of it, and cold files.
create or replace function lifecycle.conclude_erasure(batch uuid, outside jsonb default '{"compressed": "not unpacked: the database cannot"}')
returns void
language plpgsql set search_path = ''
as $$
declare
    jobs bigint[];
begin
    perform lifecycle.renew_erasure_lease(batch);
    perform lifecycle.require_cold_files_searched(outside -> 'cold');
    jobs := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased' order by j.id for update);
    perform lifecycle.do_with_jobs('conclude_jobs', jobs, outside #- '{cold,searched}');
    delete from lifecycle.erasure_needles n where n.batch_id = batch;
end $$;

-- Receipts that do not fit the one before them, that were changed, or that an erasure lacks. Expected: none.
create or replace function lifecycle.broken_receipts() returns table (id bigint, fault text)
language sql stable set search_path = ''
as $$
    (select c.id, case when c.previous_hash = c.before then 'it was changed'
                       else 'the receipt before it was changed or taken away' end
       from (select r.*, lag(r.hash, 1, '\x') over (order by r.id) as before from lifecycle.erasure_receipts r) c
      where c.hash <> lifecycle.receipt_hash(c.previous_hash, c.body) or c.previous_hash <> c.before
         or c.request_id is distinct from c.body ->> 'request_id'
         or c.issued_at is distinct from (c.body ->> 'verified_at')::timestamptz
      order by c.id)
     union all
    -- Nothing follows the last one, so the queue must know of it.
    select null, format('request %s has %s receipts for %s erasures', j.request_id, r.count, j.recurrences + 1)
      from lifecycle.deletion_jobs j
     cross join lateral (select count(*) from lifecycle.erasure_receipts r where r.request_id = j.request_id) r
     where j.state = 'verified' and r.count < j.recurrences + 1
$$;

-- Persons of a backup that is older than their erasure ask anew: their request may be gone with it.
create or replace function lifecycle.ask_for_restored_people() returns void
language plpgsql set search_path = ''
as $$
declare
    policy lifecycle.erasure_policy;
    living text := '';
    restored text[];
    asking text;
    person text;
    refused int := 0;
    code   text;
    error  text;
    context text;
begin
    select p.* into policy from lifecycle.erasure_policy p;
    if policy.erased_column is not null then
        living := format('a.%I <> %L and ', policy.erased_column, policy.erased_value);
    end if;
    execute format('select array(select a.%I::text from ', policy.person_column)
         || lifecycle.request_statement('%7$s a where ') || living
         || lifecycle.request_statement(
            'exists (select from lifecycle.suppressions s where s.kind = ''person'' and s.hash = lifecycle.keyed_hash(a.%8$I::text))
               and not exists (select from lifecycle.deletion_jobs j where j.account_key = a.%8$I::text and j.state <> ''cancelled'')
               and not exists (select from %1$s r where r.%3$I = a.%8$I and r.%4$I in (%10$L, %11$L)))')
       into restored;
    asking := lifecycle.request_statement('insert into %1$s (')
        || concat_ws(', ', quote_ident(policy.request_person), quote_ident(policy.request_reason)) || ') select '
        || concat_ws(', ', lifecycle.request_statement('p::%9$s'),
                     case when policy.request_reason is not null then quote_literal('was erased and came back') end)
        || ' from unnest($1) p';
    begin
        execute asking using restored;
    exception when others then
        -- Whose request the application's triggers refuse keeps nobody else's from being made.
        foreach person in array restored loop
            begin
                execute asking using array[person];
            exception when others then
                get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context;
                refused := refused + 1;
            end;
        end loop;
    end;
    perform lifecycle.report_outcome('erase_personal_data', 'requests of people who came back with a backup',
        case when refused > 0 then format('%s could not be made: %s', refused, lifecycle.told_error(code, error, context, '', '')) end);
end $$;

-- Rows without an owner that came since `since` under a name that a hash remembers, in a visit where nobody goes on who
-- stays: what is anonymous there would be theirs.
create or replace function lifecycle.late_rows(since timestamptz)
returns table (job_id bigint, request_id text, kind text, key text, table_name text, rows bigint)
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    remembered lifecycle.erasure_key_kinds;
    step       lifecycle.erasure_steps;
    bound      lifecycle.erasure_key_limits;
    bases      text[];
    part       jsonb;
    seen       jsonb := '[]';
    names      text[];
    others     text[] := '{}';
begin
    for remembered in select k.* from lifecycle.erasure_key_kinds k where k.remembered order by k.position loop
        bases := array(select unnest(s.key_kinds) from lifecycle.erasure_key_sources s
                        where s.kind = remembered.kind and s.table_name is null) || remembered.kind;
        for step in select s.* from lifecycle.erasure_steps s
                     where s.key_kind = any (bases) and lifecycle.reachable(s.table_name) is not null order by s.step loop
            execute format('select coalesce(jsonb_agg(jsonb_build_object(''t'', %L, ''k'', v.key, ''n'', v.n)), ''[]'')
                              from (select t.%2$I::text as key, count(*) as n from %3$s t where t.%2$I is not null%4$s%5$s group by 1) v
                             where exists (select from lifecycle.suppressions s
                                            where s.kind = %6$L and s.hash = lifecycle.keyed_hash(v.key))',
                           step.table_name, step.key_column, step.table_name,
                           case when step.unowned_column is null then '' else format(' and t.%I is null', step.unowned_column) end,
                           case when step.time_column is null then '' else format(' and t.%I >= $1', step.time_column) end,
                           remembered.kind)
               into part using since;
            seen := seen || part;
        end loop;
        names := array(select distinct e ->> 'k' from jsonb_array_elements(seen) e);
        for bound in select l.* from lifecycle.erasure_key_limits l where l.kind = remembered.kind order by l.position loop
            others := others || lifecycle.keys_of_others(bound, names);
        end loop;
        return query
            select j.id, j.request_id, b.kind, e ->> 'k', e ->> 't', (e ->> 'n')::bigint
              from jsonb_array_elements(seen) e
              join lifecycle.suppressions s on s.kind = remembered.kind and s.hash = lifecycle.keyed_hash(e ->> 'k')
              join lifecycle.deletion_jobs j on j.request_id = s.request_id and j.state = 'verified'
             cross join unnest(bases) b(kind)
             where e ->> 'k' <> all (others)
             order by 2, 5;
        seen := '[]';
    end loop;
end $$;

-- Rows of people who were erased: written with a token that had not expired, by a browser that was away, or restored
-- from a backup. Their jobs are queued again. One row per job and table.
create or replace function public.find_returned_personal_data() returns table (request_id text, table_name text, rows bigint)
language plpgsql set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    policy lifecycle.erasure_policy;
    jobs   bigint[];
    again  bigint[] := '{}';
    told   text[] := '{}';
    found  record;
begin
    select p.* into policy from lifecycle.erasure_policy p;
    delete from lifecycle.suppressions s where s.expires_at <= now();
    -- Receipts hold what these say.
    delete from lifecycle.erasure_scans s where s.scanned_at < now() - interval '30 days';
    delete from lifecycle.erasure_findings f
     where not exists (select from lifecycle.erasure_scans s where s.batch_id = f.batch_id)
       and not exists (select from lifecycle.deletion_jobs j where j.batch_id = f.batch_id);
    perform lifecycle.ask_for_restored_people();
    perform from public.enqueue_deletion_jobs();

    -- One job per person is enough; its keys are those that never change.
    jobs := array(select distinct on (j.account_key) j.id from lifecycle.deletion_jobs j
                   where j.state = 'verified' order by j.account_key, j.verified_at desc);
    perform lifecycle.collect_keys(jobs, array(select j.account_key from lifecycle.deletion_jobs j
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
    for found in select * from lifecycle.late_rows(now() - policy.late_window) loop
        again := again || found.job_id;
        insert into lifecycle.erasure_keys (job_id, kind, key) values (found.job_id, found.kind, found.key)
        on conflict do nothing;
        -- A row of each kind of key; told once.
        if format('%s %s %s', found.job_id, found.table_name, found.key) <> all (told) then
            told := told || format('%s %s %s', found.job_id, found.table_name, found.key);
            request_id := found.request_id; table_name := found.table_name; rows := found.rows;
            return next;
        end if;
    end loop;

    -- Whoever asked anew meanwhile is erased anyway: nobody would come for the keys of the job before.
    again := array(select distinct j.id from lifecycle.deletion_jobs j
                    where j.id = any (again)
                      and not exists (select from lifecycle.deletion_jobs o
                                       where o.account_key = j.account_key and o.id <> j.id and o.state not in ('verified', 'cancelled')));
    delete from lifecycle.erasure_keys k using lifecycle.deletion_jobs j
     where j.id = k.job_id and j.state = 'verified' and j.id <> all (again);
    delete from lifecycle.erasure_counts c where c.job_id = any (again);
    update lifecycle.deletion_jobs j
       set state = 'queued', recurrences = j.recurrences + 1, attempts = 0, next_attempt_at = now(),
           batch_id = null, reach_confirmed = false,
           due_at = (now() at time zone policy.calendar + policy.deadline) at time zone policy.calendar,
           started_at = null, collected_at = null, erased_at = null
     where j.id = any (again);
end $$;

-- What would be done for a request now: its rows by step; `beyond` are those that are the person's by a name alone, which
-- somebody typed. Nothing is changed; what had to be written to find out is undone.
create or replace function lifecycle.plan_erasure(request_id text)
returns table (step int, table_name text, action text, found_by text, rows bigint, reason text, beyond boolean)
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
           set state = 'running', hold_reason = null, reach_confirmed = true, batch_id = gen_random_uuid() where j.id = job.id returning * into job;
        perform lifecycle.collect_erasure_keys(job.batch_id);
        select jsonb_object_agg(r.step, r.rows) into counts from (
            select r.step, sum(r.rows) as rows from lifecycle.rows_to_erase(array[job.id]) r group by 1) r;
        raise exception using errcode = 'LCPLN';
    exception when sqlstate 'LCPLN' then null;
    end;
    return query
        select s.step, s.table_name, s.action, s.key_column, coalesce((counts ->> s.step::text)::bigint, 0), s.reason,
               exists (select from lifecycle.erasure_key_kinds k where k.kind = s.key_kind and k.form = 'name')
          from lifecycle.erasure_steps s order by s.step;
end $$;

-- Rows of others that would lose a word of the person's for a request now, per column. It searches every column of others'
-- free form, for this person alone. Nothing is changed: what had to be written to find out, the erasure of the person's own
-- rows too, is undone.
create or replace function lifecycle.plan_words_of_others(request_id text)
returns table (table_name text, column_name text, rows bigint)
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan' set jit = off
as $$
#variable_conflict use_column
declare
    job     lifecycle.deletion_jobs;
    needles lifecycle.erasure_needles;
    place   record;
    held    boolean;
    counts  jsonb;
begin
    begin
        job := lifecycle.job_of_request(plan_words_of_others.request_id);
        update lifecycle.deletion_jobs j
           set state = 'running', hold_reason = null, reach_confirmed = true, batch_id = gen_random_uuid()
         where j.id = job.id returning * into job;
        perform lifecycle.collect_erasure_keys(job.batch_id);
        perform lifecycle.erase_jobs(array[job.id]);
        update lifecycle.deletion_jobs j set state = 'erased', batch_id = job.batch_id where j.id = job.id;
        needles := lifecycle.some_needles(lifecycle.needles_of(job.batch_id), false);
        for place in
            select s.relation, array_agg(s.column_name) as names, array_agg(s.type_name) as types
              from lifecycle.searched_columns() s
             where (lifecycle.treatment_of(s.table_name, s.column_name)).treatment = 'redacted' group by 1
        loop
            execute format('select exists (%s)', lifecycle.search_rows(place.relation, place.names, place.types, needles))
               into held using needles.words, needles.ids, needles.addresses, needles.odd_words;
            if held then
                perform lifecycle.note_findings(job.batch_id, place.relation, c.name, c.type, 'redacted', needles)
                   from unnest(place.names, place.types) c(name, type);
            end if;
        end loop;
        select jsonb_agg(to_jsonb(f)) into counts from lifecycle.erasure_findings f where f.batch_id = job.batch_id;
        raise exception using errcode = 'LCPLN';
    exception when sqlstate 'LCPLN' then null;
    end;
    return query select f.table_name, f.column_name, f.rows
                   from jsonb_to_recordset(counts) f(table_name text, column_name text, rows bigint) order by 3 desc, 1, 2;
end $$;
