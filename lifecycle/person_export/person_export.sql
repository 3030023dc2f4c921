-- Access to one's data: of whom there may be an export, by what keys it finds rows, and the log of it.

-- Why nothing may be exported of somebody, as a sentence without a name; null when it may. Asked before the first row is
-- read and after the last: an export of somebody who was erased meanwhile would keep what was just taken away.
create or replace function lifecycle.why_no_export(person text) returns text
language plpgsql stable set search_path = ''
as $$
declare
    policy lifecycle.erasure_policy;
    found  boolean := false;
begin
    select p.* into policy from lifecycle.erasure_policy p;
    begin
        execute lifecycle.request_statement('select exists (select from %7$s a where a.%8$I = $1::%9$s)') into found using person;
    exception when data_exception then null;  -- not even of the key's type
    end;
    if not found then
        return format('nobody has this key in %s (column %s)', policy.person_table, policy.person_column);
    end if;
    if not exists (select from lifecycle.staying(array[person])) then
        return 'this person is being erased or was erased, so nothing is handed out any more';
    end if;
    execute lifecycle.request_statement(
        'select exists (select from %1$s r
                         where r.%3$I::text = $1 and r.%4$I in (%10$L, %11$L) and r.%5$I + $2 <= now()
                           and not exists (select from lifecycle.deletion_jobs j where j.request_id = r.%2$I::text))')
       into found using person, policy.grace;
    if found then
        return 'this person has asked to be erased, and that goes first; cancel the request if an export is wanted before';
    end if;
    return null;
end $$;

-- The keys of a person that the database vouches for, collected as an erasure would collect them but without names that a
-- client typed: they may be a stranger's, whose rows must never be handed out. A client may have chosen the id of a row of
-- the person's own, too: `claimed` is to be compared with ids alone, in a text it could mean anything. Nothing is
-- changed. The limits of a key ask who stays, so the person has to be one who leaves, for as long as this takes.
-- `in_place` names relations of this session that are read instead of tables, or null for tables that are a part of these.
create or replace function lifecycle.bound_keys(person text, in_place jsonb default '{}')
returns table (kind text, key text, claimed boolean)
language plpgsql set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_variable
declare
    job    bigint;
    wanted lifecycle.erasure_key_kinds;
    source lifecycle.erasure_key_sources;
    bound  lifecycle.erasure_key_limits;
    others text[];
    kinds  text[];
    keys   text[];
    doubts boolean[];
begin
    begin
        -- Whose request is held has a job, perhaps with keys that an erasure had collected, claimed ones among them.
        with leaving as (
            update lifecycle.deletion_jobs j set state = 'running', hold_reason = null
             where j.account_key = person and j.state not in ('verified', 'cancelled') returning j.id
        )
        select min(l.id) into job from leaving l;
        if job is null then
            insert into lifecycle.deletion_jobs (request_id, account_key, state, requested_at, not_before, due_at)
            values ('export ' || gen_random_uuid(), person, 'running', now(), now(), now()) returning id into job;
        end if;
        delete from lifecycle.erasure_keys k where k.job_id = job;
        insert into lifecycle.erasure_keys (job_id, kind, key) values (job, 'person', person);
        for wanted in select k.* from lifecycle.erasure_key_kinds k order by k.position loop
            for source in select s.* from lifecycle.erasure_key_sources s
                           where s.kind = wanted.kind and (s.bound or wanted.form = 'id') order by s.position loop
                continue when in_place -> source.table_name = 'null';
                source.table_name := coalesce(in_place ->> source.table_name, source.table_name);
                perform lifecycle.collect_keys_from(array[job], wanted, source);
            end loop;
            for bound in select l.* from lifecycle.erasure_key_limits l where l.kind = wanted.kind order by l.position loop
                continue when in_place -> bound.table_name = 'null';
                bound.table_name := coalesce(in_place ->> bound.table_name, bound.table_name);
                others := lifecycle.keys_of_others(bound, lifecycle.keys_of(array[job], wanted.kind));
                delete from lifecycle.erasure_keys k where k.job_id = job and k.kind = wanted.kind and k.key = any (others);
            end loop;
        end loop;
        select array_agg(k.kind), array_agg(k.key), array_agg(k.kind in (select lifecycle.claimed_kinds())) into kinds, keys, doubts
          from lifecycle.erasure_keys k where k.job_id = job and k.unfollowed is null;
        raise exception using errcode = 'LCEXP';
    exception when sqlstate 'LCEXP' then null;
    end;
    return query select u.kind, u.key, u.claimed from unnest(kinds, keys, doubts) u(kind, key, claimed);
end $$;

-- An export begins, and is in the log before a row is read: one that was cut off may have handed something out, too. The
-- person is there as a keyed hash. Either the export's number or the reason why there is none.
create or replace function lifecycle.begin_person_export(person text, operator text)
returns table (export bigint, refusal text)
language plpgsql set search_path = ''
as $$
begin
    refusal := lifecycle.why_no_export(person);
    if refusal is null then
        insert into lifecycle.person_exports (subject, exported_by)
        values (lifecycle.keyed_hash(person), concat_ws(', ', session_user, nullif(operator, '')))
        returning id into export;
    end if;
    return next;
end $$;

-- It has ended, with what was written, or with the kind of error that ended it (a message may quote a value). Returns why
-- the files must not be handed out after all; null when they may.
create or replace function lifecycle.end_person_export(export bigint, person text, tables int, rows bigint, failure text)
returns text
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    refusal constant text := case when failure is null then lifecycle.why_no_export(person) end;
    ended   lifecycle.person_exports;
begin
    update lifecycle.person_exports e
       set ended_at = clock_timestamp(), tables = tables, rows = rows,
           failure = case when refusal is null then failure else 'the person began to be erased meanwhile' end
     where e.id = export returning e.* into ended;
    perform lifecycle.write_ledger('export_personal_data', ended.failure is null, jsonb_strip_nulls(jsonb_build_object(
        'object', 'export ' || export, 'tables', tables, 'rows', rows, 'exported_by', ended.exported_by,
        'duration_ms', lifecycle.milliseconds_since(ended.began_at), 'error', ended.failure)));
    return refusal;
end $$;
