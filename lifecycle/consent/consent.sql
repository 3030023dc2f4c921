-- Consent: what people have decided stands in the application's own record; what a withdrawal means is declared.

-- The decisions on one purpose, as a query over record (1: table, 2: id, 3: person, 4: at, 5: given), written with
-- format's numbered places.
create or replace function lifecycle.consent_statement(template text, purpose lifecycle.consent_purposes) returns text
language plpgsql stable set search_path = ''
as $$
declare
    held lifecycle.consent_record;
begin
    select r.* into held from lifecycle.consent_record r;
    if lifecycle.reachable(held.table_name) is null then
        raise exception 'table % is declared in consent.yaml and cannot be read here', held.table_name
            using errcode = 'undefined_table', hint = 'Correct the declaration and run lifecycle migrate.';
    end if;
    return format(template, held.table_name, held.id_column, held.person_column, held.time_column, purpose.given);
end $$;

-- Whether row t of a table stands against its person's decision: the last one before the row was written, or, for `scrub
-- all`, the last one of all. Decisions younger than `slack` do not count yet. Null where none was made.
create or replace function lifecycle.against_consent(held lifecycle.consent_tables, slack interval default '0') returns text
language plpgsql stable set search_path = ''
as $$
declare
    purpose lifecycle.consent_purposes;
begin
    select p.* into purpose from lifecycle.consent_purposes p where p.purpose = held.purpose;
    return lifecycle.consent_statement(format(
        '(select not (%%5$s) from %%1$s record where record.%%3$I = t.%I and (%%5$s) is not null%s%s
           order by record.%%4$I desc, record.%%2$I desc limit 1)',
        held.person_column,
        case when purpose.withdrawal = 'scrub from then on' then format(' and record.%%4$I <= t.%I', held.time_column) else '' end,
        case when slack > '0' then format(' and record.%%4$I < now() - interval %L', slack) else '' end), purpose)
        || case when slack > '0' and held.time_column is not null
                then format(' and t.%I < now() - interval %L', held.time_column, slack) else '' end;
end $$;

-- What the columns of a table get: assignments, what they hold and what they should, as text, since json has no equality.
-- Null where the table, or all of its columns, may be missing and are.
create or replace function lifecycle.consent_changes(held lifecycle.consent_tables, out changes text, out differs text)
language plpgsql stable set search_path = ''
as $$
declare
    relation constant regclass := lifecycle.reachable(held.table_name);
begin
    if relation is null and held.optional and not lifecycle.is_there(held.table_name) then
        return;
    elsif relation is null or lifecycle.type_of_column(relation, held.person_column) is null then
        raise exception 'table % (by %) is declared in consent.yaml and cannot be read here', held.table_name, held.person_column
            using errcode = 'undefined_table', hint = 'Correct the declaration and run lifecycle migrate.';
    end if;
    select string_agg(format('%I = %s', r.key, w.new), ', '),
           format('row(%s)::text is distinct from row(%s)::text', string_agg(format('t.%I', r.key), ', '),
                  string_agg(format('(%s)', w.new), ', '))
      into changes, differs
      from jsonb_each(held.replacements) r
     cross join lateral (select lifecycle.replacement(relation, r.key, r.value) as new) w
     where r.key <> all (held.optional_columns) or lifecycle.type_of_column(relation, r.key) is not null;
end $$;

-- Who ever refused, of these people or (null) of all, and since when, as a query to be put into consent_statement().
create or replace function lifecycle.refusals(people text) returns text
language sql immutable set search_path = ''
as $$
    select 'select record.%3$I::text as person, min(record.%4$I) as since from %1$s record where not (%5$s)'
        || coalesce(' and record.%3$I = any (' || people || ')', '') || ' group by 1'
$$;

-- Rows t of those who ever refused (k): all the others need not be asked, nor what was written before.
create or replace function lifecycle.held_of_refusing(held lifecycle.consent_tables) returns text
language sql stable set search_path = ''
as $$
    select format('t.%I = k.person', held.person_column) || case p.withdrawal
               when 'scrub from then on' then format(' and t.%I >= k.since', held.time_column) else '' end
      from lifecycle.consent_purposes p where p.purpose = held.purpose
$$;

-- Whether somebody has withdrawn a purpose: for conditions and queries of whoever processes data for it. Somebody who
-- never decided has not.
create or replace function lifecycle.has_withdrawn(purpose text, person text) returns boolean
language plpgsql stable set search_path = '' set row_security = off
as $$
#variable_conflict use_variable
declare
    wanted lifecycle.consent_purposes;
    held   lifecycle.consent_record;
    found  boolean;
begin
    select p.* into wanted from lifecycle.consent_purposes p where p.purpose = has_withdrawn.purpose;
    select r.* into held from lifecycle.consent_record r;
    if wanted.purpose is null then
        raise exception 'no purpose % is declared in consent.yaml', purpose using errcode = 'invalid_parameter_value';
    end if;
    execute lifecycle.consent_statement(
        'select not (%5$s) from %1$s record where record.%3$I = $1::' ||
        lifecycle.type_of_column(lifecycle.reachable(held.table_name), held.person_column) ||
        ' and (%5$s) is not null order by record.%4$I desc, record.%2$I desc limit 1', wanted)
       into found using person;
    return coalesce(found, false);
end $$;

-- One purpose, for these people: rows that stand against consent are cleared, and decisions that were not carried out yet
-- are noted as carried out. Each statement asks the record again, so that who consented anew a moment ago keeps what they
-- have; a row that is as it should be is left alone.
create or replace function lifecycle.apply_consent_purpose(purpose lifecycle.consent_purposes, people text[],
                                                        out withdrawn bigint, out granted bigint, out cleared jsonb)
language plpgsql set search_path = '' set row_security = off set timezone = 'UTC'
as $$
#variable_conflict use_variable
declare
    held    lifecycle.consent_tables;
    kind    text;
    refusing text[];
    since   timestamptz[];
    changes text;
    differs text;
    gone    bigint;
begin
    cleared := '{}';
    select lifecycle.type_of_column(lifecycle.reachable(r.table_name), r.person_column) into kind from lifecycle.consent_record r;
    execute lifecycle.consent_statement(
        'select array_agg(r.person), array_agg(r.since) from (' || lifecycle.refusals('$1::' || kind || '[]') || ') r', purpose)
       into refusing, since using people;
    for held in select t.* from lifecycle.consent_tables t where t.purpose = purpose.purpose order by t.position loop
        exit when refusing is null;
        select c.changes, c.differs into changes, differs from lifecycle.consent_changes(held) c;
        continue when changes is null;
        execute format('update %s t set %s from unnest($1::%s[], $2) k(person, since) where %s and %s and %s',
                       held.table_name, changes, kind, lifecycle.held_of_refusing(held), lifecycle.against_consent(held), differs)
          using refusing, since;
        get diagnostics gone = row_count;
        if gone > 0 then
            cleared := cleared || jsonb_build_object(held.table_name, gone);
        end if;
    end loop;
    execute lifecycle.consent_statement($query$
        with latest as (
            select distinct on (record.%3$I) record.%3$I::text as person, (%5$s) as given, record.%4$I as decided_at
              from unnest($1::$query$ || kind || $query$[]) k(person) join %1$s record on record.%3$I = k.person
             where (%5$s) is not null
             order by record.%3$I, record.%4$I desc, record.%2$I desc
        ), changed as (
            select s.subject, l.given, l.decided_at from latest l
             cross join lateral (select lifecycle.keyed_hash(l.person) as subject) s
              left join lifecycle.consent_decisions d on d.purpose = $2 and d.subject = s.subject
             where d.given is distinct from l.given
        ), noted as (
            insert into lifecycle.consent_decisions as d (purpose, subject, given, decided_at)
            select $2, c.subject, c.given, c.decided_at from changed c
            on conflict (purpose, subject) do update
               set given = excluded.given, decided_at = excluded.decided_at, carried_out_at = now(), looked_in_files_at = null
            returning given
        )
        select count(*) filter (where not n.given), count(*) filter (where n.given) from noted n
        $query$, purpose) into withdrawn, granted using people, purpose.purpose;
end $$;

-- Carries out what people decided: a batch of those who are in the record, in the order of their keys, behind `after`.
-- Without a batch everybody, in one transaction. A purpose that fails stops no other. One row of counts, and one in the
-- ledger when something was done or failed; neither names anybody. `last` is null once everybody was looked at.
create or replace function public.apply_consents(batch_size int default null, after text default null)
returns table (people bigint, withdrawn jsonb, granted jsonb, cleared jsonb, last text, outcome text, error text)
language plpgsql set search_path = '' set row_security = off set lock_timeout = '5s'
as $$
#variable_conflict use_variable
declare
    started constant timestamptz := clock_timestamp();
    held    lifecycle.consent_record;
    purpose lifecycle.consent_purposes;
    batch   text[];
    done    record;
    told    text;
    code    text;
    context text;
    place   text;
    violated text;
begin
    if batch_size < 1 then
        raise exception 'a batch must be at least 1, not %', batch_size using errcode = 'invalid_parameter_value';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('lifecycle.apply_consents', 0)) then
        raise exception 'apply_consents already runs in another session'
            using errcode = 'lock_not_available', hint = 'Wait until it is done; nothing was changed.';
    end if;
    select r.* into held from lifecycle.consent_record r;
    withdrawn := '{}'; granted := '{}'; cleared := '{}'; outcome := 'success';
    execute lifecycle.consent_statement(format(
        'select array_agg(p.person::text order by p.person) from (
             select distinct record.%%3$I as person from %%1$s record
              where record.%%3$I is not null and ($1 is null or record.%%3$I > $1::%s) order by 1 limit $2) p',
        lifecycle.type_of_column(lifecycle.reachable(held.table_name), held.person_column)), null)
       into batch using after, batch_size;
    people := coalesce(cardinality(batch), 0);
    last := case when people = batch_size then batch[people] end;
    for purpose in select p.* from lifecycle.consent_purposes p where people > 0 order by p.position loop
        begin
            select a.* into done from lifecycle.apply_consent_purpose(purpose, batch) a;
            if done.withdrawn > 0 then
                withdrawn := withdrawn || jsonb_build_object(purpose.purpose, done.withdrawn);
            end if;
            if done.granted > 0 then
                granted := granted || jsonb_build_object(purpose.purpose, done.granted);
            end if;
            select cleared || coalesce(jsonb_object_agg(e.key, e.value::bigint + coalesce((cleared ->> e.key)::bigint, 0)), '{}')
              into cleared from jsonb_each_text(done.cleared) e;
            perform lifecycle.report_outcome('apply_consents', purpose.purpose, null);
        exception when others then
            get stacked diagnostics code = returned_sqlstate, context = pg_exception_context, place = table_name,
                violated = constraint_name;
            told := lifecycle.told_error(code, sqlerrm, context, place, violated);
            error := concat_ws('; ', error, format('%s: %s', purpose.purpose, told));
            outcome := case when lifecycle.is_transient(code) and outcome <> 'failure' then 'busy' else 'failure' end;
            perform lifecycle.record_outcome('apply_consents', purpose.purpose, told, '{}', not lifecycle.is_transient(code));
        end;
    end loop;
    if (withdrawn, granted, cleared) is distinct from ('{}'::jsonb, '{}'::jsonb, '{}'::jsonb) then
        perform lifecycle.write_ledger('apply_consents', true, jsonb_build_object('withdrawn', withdrawn, 'granted', granted,
            'rows', cleared, 'duration_ms', lifecycle.milliseconds_since(started)));
    end if;
    return next;
end $$;

-- Rows that stand against consent, by purpose and table; those of the last moments wait for the next run. Expected: none.
create or replace function lifecycle.rows_against_consent(slack interval default '0')
returns table (purpose text, table_name text, rows bigint)
language plpgsql stable set search_path = '' set row_security = off set timezone = 'UTC'
as $$
#variable_conflict use_variable
declare
    held    lifecycle.consent_tables;
    wanted  lifecycle.consent_purposes;
    kind    text;
    differs text;
begin
    select lifecycle.type_of_column(lifecycle.reachable(r.table_name), r.person_column) into kind from lifecycle.consent_record r;
    for held in select t.* from lifecycle.consent_tables t join lifecycle.consent_purposes p on p.purpose = t.purpose
                 order by p.position, t.position loop
        select p.* into wanted from lifecycle.consent_purposes p where p.purpose = held.purpose;
        select c.differs into differs from lifecycle.consent_changes(held) c;
        continue when differs is null;
        execute lifecycle.consent_statement(
                    'select count(*) from (select r.person::' || kind || ' as person, r.since from (' || lifecycle.refusals(null) || ') r) k', wanted)
             || format(' join %s t on %s where %s and %s', held.table_name, lifecycle.held_of_refusing(held),
                       lifecycle.against_consent(held, slack), differs)
           into rows;
        purpose := held.purpose; table_name := held.table_name;
        return next;
    end loop;
end $$;
