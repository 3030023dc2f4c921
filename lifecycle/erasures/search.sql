-- The search for what is left: every column of every relation, whatever the map says of it.

-- Every relation that holds rows of its own, with the columns in which an id or text could stand; a partition is
-- searched through its parent. What the platform itself manages is not ours to read.
create or replace function lifecycle.searched_columns(only_relation regclass default null)
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
       and c.relkind in ('r', 'p', 'm') and c.relispopulated and not c.relispartition and c.relpersistence <> 't'
       and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and n.nspname <> all (select unnest(p.managed_schemas) from lifecycle.erasure_policy p)
       and (coalesce(d.typname, t.typname) in ('uuid', 'json', 'jsonb', 'inet', 'cidr', 'bytea', 'hstore', 'xml', 'tsvector')
            or coalesce(d.typcategory, t.typcategory) in ('S', 'C')
            or e.typname in ('uuid', 'json', 'jsonb', 'inet', 'cidr', 'bytea', 'hstore', 'xml', 'tsvector')
            or e.typcategory in ('S', 'C')
            -- A domain over a domain, or an array of one: looked into rather than guessed at.
            or d.typtype = 'd' or e.typtype = 'd')
       -- What is filled for views of cold months is dropped or filled anew when a row of its month is changed meanwhile; no receipt
       -- is written before that (lifecycle.require_cold_files_searched).
       and not (n.nspname = 'event_partitions' and c.relkind = 'r'
                and coalesce(obj_description(c.oid, 'pg_class') like 'lifecycle:narrow of %', false))
       and not (n.nspname = 'lifecycle' and c.relname in ('erasure_keys', 'erasure_needles', 'alembic_version'))
$$;

-- How a column is treated; null when the map of personal data does not know it. A materialized view needs no line there:
-- it is made anew. In tables of ours nobody may be found, but where the map says otherwise.
create or replace function lifecycle.treatment_of(table_name text, column_name text) returns lifecycle.personal_data_columns
language sql stable set search_path = ''
as $$
    select coalesce(
        (select c from lifecycle.personal_data_columns c
          where c.table_name = treatment_of.table_name and c.column_name in (treatment_of.column_name, '*')
          order by c.column_name = '*' limit 1),
        (select row(treatment_of.table_name, treatment_of.column_name, d.treatment, d.reason)::lifecycle.personal_data_columns
           from (select case when n.nspname = 'lifecycle' and not lifecycle.is_kept_table(v.oid) then 'clean' else 'refreshed' end,
                        case when n.nspname = 'lifecycle' and not lifecycle.is_kept_table(v.oid) then 'settings, names of objects and counts'
                             else 'made anew from the application''s tables, after a person''s rows have left them' end
                   from pg_class v join pg_namespace n on n.oid = v.relnamespace
                  where format('%I.%I', n.nspname, v.relname) = treatment_of.table_name
                    and (n.nspname = 'lifecycle' or v.relkind = 'm')) d(treatment, reason)))
$$;

-- Columns that could hold personal data and that nobody has said anything about. Expected: none.
create or replace function lifecycle.unmapped_columns() returns table (table_name text, column_name text, type_name text)
language sql stable set search_path = ''
as $$
    select s.table_name, s.column_name, s.type_name from lifecycle.searched_columns() s
     where (lifecycle.treatment_of(s.table_name, s.column_name)).treatment is null
     order by 1, 2
$$;

-- Of these session names those in which somebody still stands with an account: they are erased later, and theirs, too.
create or replace function lifecycle.names_still_owned(kind text, names text[]) returns text[]
language plpgsql stable set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan' set jit = off
as $$
#variable_conflict use_variable
declare
    place lifecycle.erasure_key_limits;
    part  text[];
    found text[] := '{}';
begin
    for place in select l.* from lifecycle.erasure_key_limits l
                  where l.kind = names_still_owned.kind and l.owner_column is not null and l.more_than is null
                    and lifecycle.reachable(l.table_name) is not null loop
        execute format('select array(select distinct t.%1$I::text from unnest($1) k(key) join %2$s t on t.%1$I = k.key where t.%3$I is not null)',
                       place.column_name, place.table_name, place.owner_column)
           into part using names;
        found := found || part;
    end loop;
    return found;
end $$;

-- What two texts begin with; null when that is less than three letters, or one of them.
create or replace function lifecycle.common_start(one text, other text) returns text
language sql immutable set search_path = ''
as $$
    select left(one, max(i)) from generate_series(3, length(one)) i where left(one, i) = left(other, i)
$$;

-- What a person would be recognised by, once per batch: keys of the kinds that are searched for. An id that is no uuid is
-- found in columns of the map alone. Session names that are no ids are looked for as words of a text when they have at
-- least eight characters, others only where they stand alone. A word of a form that no pattern knows is looked for as it is.
create or replace function lifecycle.needles_of(batch uuid) returns lifecycle.erasure_needles
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    needles lifecycle.erasure_needles;
    jobs    constant bigint[] := array(select j.id from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased');
    plain   constant text := '^[A-Za-z0-9][A-Za-z0-9_-]{6,}[A-Za-z0-9]$';
    id      constant text := '^' || lifecycle.id_pattern() || '$';
    named   record;
    shared  text[] := '{}';
begin
    select n.* into needles from lifecycle.erasure_needles n where n.batch_id = batch;
    if found then
        return needles;
    end if;
    for named in select k.kind from lifecycle.erasure_key_kinds k where k.searched and k.form = 'name' loop
        shared := shared || lifecycle.names_still_owned(named.kind, lifecycle.keys_of(jobs, named.kind));
    end loop;
    insert into lifecycle.erasure_needles (batch_id, words, odd_words, ids, claimed, addresses, session_length, session_start)
    select batch,
           coalesce(array_agg(distinct lower(w.key)) filter (where w.form in ('address', 'name') or w.form = 'id' and w.key ~ id), '{}'),
           coalesce(array_agg(distinct lower(w.key)) filter (
               where w.form = 'address' and w.key collate "C" !~ ('^' || lifecycle.address_pattern() || '$')
                  or w.form = 'name' and length(w.key) >= 8 and w.key collate "C" !~ plain), '{}'),
           coalesce(array_agg(distinct w.key::uuid) filter (where w.form <> 'machine' and w.key ~ id), '{}'),
           -- Whom it is vouched for loses it, whoever else chose it.
           array(select c.key::uuid from lifecycle.searched_keys(jobs) c where c.form <> 'machine' and c.key ~ id
                  group by 1 having bool_and(c.claimed)),
           coalesce(array_agg(distinct w.key) filter (where w.form = 'machine'), '{}'),
           min(length(w.key)) filter (where w.form = 'name' and w.key collate "C" ~ plain and w.key !~ id),
           -- All begin as the first and the last of them do.
           lifecycle.common_start(min(lower(w.key) collate "C") filter (where w.form in ('address', 'name') and w.key collate "C" ~ plain and w.key !~ id),
                                  max(lower(w.key) collate "C") filter (where w.form in ('address', 'name') and w.key collate "C" ~ plain and w.key !~ id))
      from (select k.key, k.form from lifecycle.searched_keys(jobs) k
             where not (k.form = 'name' and k.key = any (shared))) w
    returning * into needles;
    return needles;
end $$;

-- Of these only what may be taken out of others' texts, or only what somebody claimed. There are thousands of either: a
-- query is hashed, an array is so only where the plan knows it.
create or replace function lifecycle.some_needles(needles lifecycle.erasure_needles, claimed boolean) returns lifecycle.erasure_needles
language plpgsql immutable set search_path = ''
as $$
#variable_conflict use_variable
begin
    if claimed then
        needles.ids := needles.claimed;
        needles.words := needles.claimed::text[];
        needles.odd_words := '{}';
        needles.addresses := '{}';
        needles.session_length := null;
    elsif needles.claimed <> '{}' then
        needles.ids := array(select i from unnest(needles.ids) i where i not in (select unnest(needles.claimed)));
        needles.words := array(select w from unnest(needles.words) w where w not in (select unnest(needles.claimed)::text));
        needles.claimed := '{}';
    end if;
    return needles;
end $$;

-- A column as the text that is searched.
create or replace function lifecycle.searched_expression(column_name text, type_name text) returns text
language sql immutable set search_path = ''
as $$
    select case when type_name in ('inet', 'cidr') then format('host(t.%I)', column_name)
                -- Compressed text is read outside the server; a byte that is no ASCII ends a word.
                when type_name = 'bytea' then
                    format('case when substring(t.%1$I from 1 for 2) <> ''\x1f8b'' then regexp_replace(encode(t.%1$I, ''escape''), ''\\[0-7]{3}'', '' '', ''g'') end', column_name)
                else format('t.%I::text', column_name) end
$$;

-- Whether a text column of this name holds nothing but a session's name, by what the map says of columns of that name.
create or replace function lifecycle.holds_names(column_name text) returns boolean
language sql stable set search_path = ''
as $$
    select exists (select from lifecycle.erasure_steps s join lifecycle.erasure_key_kinds k on k.kind = s.key_kind
                    where k.form = 'name' and s.key_column = holds_names.column_name)
$$;

-- The rows of a relation that hold a word in one of these columns, as a query of (relation, place, content): $1 are
-- words, $2 those that are ids, $3 addresses of machines, $4 odd words. All columns of text are looked at as
-- one, made once per row: a pattern costs more to start than to go on. What could hold a word is chosen below, where
-- parallel workers can; which words those are is asked of the few rows that remain.
create or replace function lifecycle.search_rows(relation regclass, names text[], types text[], needles lifecycle.erasure_needles) returns text
language plpgsql stable set search_path = ''
as $$
declare
    columns  text;
    alone    text;
    body     text;
    hints    text := 'false';
    odd      text := '';
    odd_hint text := '';
begin
    select string_agg(format(', t.%I as c%s', c.name, c.place), '' order by c.place),
           string_agg(format(case when c.type = 'uuid' then 'r.c%s = any ($2)'
                                  when c.type = 'uuid[]' then 'r.c%s && $2'
                                  when c.type in ('inet', 'cidr') then 'host(r.c%s) = any ($3)'
                                  else 'lower(r.c%s::text) = any ($1)' end, c.place), ' or ')
      into columns, alone
      from unnest(names, types) with ordinality c(name, type, place)
     where c.type in ('uuid', 'uuid[]', 'inet', 'cidr') or c.type = 'text' and lifecycle.holds_names(c.name);
    select '(concat_ws(E''\n'', ' || string_agg(lifecycle.searched_expression(c.name, c.type), ', ') || ') collate "C")'
      into body
      from unnest(names, types) c(name, type)
     where cardinality(names) = 1
        or c.type not in ('uuid', 'uuid[]', 'inet', 'cidr') and not (c.type = 'text' and lifecycle.holds_names(c.name));
    if needles.odd_words <> '{}' then
        odd_hint := ' or exists (select from unnest($4) o where strpos(lower(r.content collate "default"), o) > 0)';
        odd := ' or exists (select from unnest($4) o where c.content collate "default" ~* lifecycle.whole_word_pattern(o))';
    end if;
    -- What every id and every address has is found by simple means at a fifth of the price of a pattern.
    if exists (select from unnest(types) t where t not in ('uuid', 'uuid[]', 'inet', 'cidr')) then
        hints := 'strpos(r.content, ''@'') > 0 or strpos(r.content, ''%40'') > 0 or r.content like ''%-____-____-____-____________%'''
            || coalesce(' or ' || lifecycle.session_hint('r.content', needles.session_length, needles.session_start), '');
    end if;
    -- Materialized: the planner expects a word in every row, and beside the price of asking for words that of reading
    -- alone would be nothing to it. Inside of coalesce() it does not estimate thousands of values one by one, and with
    -- an offset it neither makes the text twice nor a table of the values in each partition. An offset that is an integer
    -- would first have to become a bigint, and keep the workers out; so would a query over a row's words there.
    return format('with c as materialized (
                       select r.relation, r.place, r.content, coalesce(%1$s, false) as hit
                         from (select t.tableoid as relation, t.ctid as place, %3$s as content%4$s from %5$s t where true%8$s offset bigint ''0'') r
                        where coalesce(%1$s, false)%2$s or %6$s)
                   select c.relation, c.place, c.content from c
                    where c.hit%9$s or %7$s',
                  coalesce(alone, 'false'), odd_hint, coalesce(body, 'null::text'), columns, relation, hints,
                  lifecycle.holds_words('c.content', '$1', needles.session_length, needles.session_start),
                  lifecycle.but_what_jobs_wrote(relation), odd);
end $$;

-- Whether a column of this table holds ids that a client may choose: its own primary key, or one that refers to such a key.
-- Not where it names a person: those are the keys by which a person's rows are found.
create or replace function lifecycle.is_chosen_key(relation regclass, table_name text, column_name text) returns boolean
language sql stable set search_path = ''
as $$
    select exists (
        select from pg_constraint c
          join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey) and a.attname = is_chosen_key.column_name
          left join pg_constraint p on c.contype = 'f' and p.conrelid = c.confrelid and p.contype = 'p'
           and p.conkey[1] = c.confkey[array_position(c.conkey, a.attnum)]
         cross join lifecycle.erasure_policy policy
         where c.conrelid = relation and (c.contype = 'p' or p.oid is not null)
           and not exists (select from pg_constraint f
                            where f.conrelid = relation and f.contype = 'f' and a.attnum = any (f.conkey)
                              and f.confrelid in (lifecycle.reachable(policy.person_table), lifecycle.reachable(policy.sign_in_table)))
           and not exists (select from lifecycle.erasure_steps s
                            where s.table_name = is_chosen_key.table_name and s.key_column = is_chosen_key.column_name
                              and s.key_kind in ('person', policy.sign_in_kind)))
$$;

-- Who stands in one column, per job, noted under this treatment; how many people do.
create or replace function lifecycle.note_findings(batch uuid, relation regclass, col text, type_name text, treatment text,
                                                   needles lifecycle.erasure_needles) returns bigint
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'auto' set jit = off
as $$
declare
    matching constant text := lifecycle.search_rows(relation, array[col], array[type_name], needles);
    held   boolean;
    people bigint;
begin
    -- Of a relation in which somebody stands, most columns hold nobody.
    execute format('select exists (%s)', matching) into held using needles.words, needles.ids, needles.addresses, needles.odd_words;
    if not held then
        return 0;
    end if;
    execute format(
        'with held as materialized (select row_number() over () as number, r.content from (%s) r),
         word as (select distinct h.number, w.word from held h cross join lateral lifecycle.words_in(h.content, $5) w
                   union
                  select h.number, lower(h.content) from held h where octet_length(h.content) <= 320
                   union
                  select h.number, o.word from held h join unnest($4) o(word) on h.content collate "default" ~* lifecycle.whole_word_pattern(o.word))
         insert into lifecycle.erasure_findings as f (batch_id, job_id, table_name, column_name, treatment, rows)
         select $6, k.job_id, s.table_name, s.column_name, $7, count(distinct w.number)
           from word w
           join lifecycle.searched_keys(array(select j.id from lifecycle.deletion_jobs j where j.batch_id = $6 and j.state = ''erased'')) k
             on lower(k.key) = w.word and (not k.claimed or k.key = any ($10::text[]))
           join lifecycle.searched_columns($8) s on s.column_name = $9
          group by k.job_id, s.table_name, s.column_name
         on conflict on constraint erasure_findings_pkey do update set rows = f.rows + excluded.rows',
        matching)
      using needles.words, needles.ids, needles.addresses, needles.odd_words, lifecycle.session_pattern(needles.session_length),
            batch, treatment, relation, col, needles.claimed;
    get diagnostics people = row_count;
    return people;
end $$;

-- Where an id stands that a client may have chosen; how many people have one there.
create or replace function lifecycle.note_claimed(batch uuid, relation regclass, col text, type_name text,
                                                  needles lifecycle.erasure_needles) returns bigint
language sql set search_path = ''
as $$
    select case when needles.claimed = '{}' then 0
                else lifecycle.note_findings(batch, relation, col, type_name, 'claimed', lifecycle.some_needles(needles, true)) end
$$;

-- The words found in one column give way. A row that does not take it (a check, a trigger of the application's) keeps
-- nobody else's word in another row. Not planned anew for each row that a trigger sees, as in erase_jobs().
create or replace function lifecycle.take_words_out(relation regclass, col text, type_name text, needles lifecycle.erasure_needles)
returns void
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'auto' set jit = off
as $$
declare
    matching constant text := lifecycle.search_rows(relation, array[col], array[type_name], needles);
    session  constant text := lifecycle.session_pattern(needles.session_length);
    change   text;
    place    record;
begin
    select format('update %s t set %I = ', relation, col)
        || format(case when type_name = 'uuid' then 'null'
                       when a.atttypid in ('json'::regtype, 'jsonb'::regtype)
                       then 'lifecycle.document_without_words(t.%I::jsonb, $1, $4, $5)::%s'
                       else 'lifecycle.without_words(t.%I::text, $1, $4, $5)::%s' end, col, format_type(a.atttypid, a.atttypmod))
      into change from pg_attribute a where a.attrelid = relation and a.attname = col;
    begin
        execute format('%s from (%s) r where t.tableoid = r.relation and t.ctid = r.place', change, matching)
          using needles.words, needles.ids, needles.addresses, needles.odd_words, session;
    exception when others then
        if lifecycle.is_transient(sqlstate) then
            raise;
        end if;
        for place in execute format('select r.relation, r.place from (%s) r', matching)
                       using needles.words, needles.ids, needles.addresses, needles.odd_words loop
            begin
                execute change || ' where t.tableoid = $6 and t.ctid = $7'
                  using needles.words, needles.ids, needles.addresses, needles.odd_words, session, place.relation, place.place;
            exception when others then
                if lifecycle.is_transient(sqlstate) then
                    raise;
                end if;
            end;
        end loop;
    end;
end $$;

-- A column of others' free form: what is vouched for is taken out of it. Where it does not give way, and of what the person
-- claimed, is told that it stands there ('claimed'), which fails nobody. False when somebody is held for it: then nothing
-- was taken out.
create or replace function lifecycle.search_free_form(batch uuid, relation regclass, searched text, col text, type_name text,
                                                      needles lifecycle.erasure_needles) returns boolean
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    vouched constant lifecycle.erasure_needles := lifecycle.some_needles(needles, false);
begin
    if lifecycle.note_findings(batch, relation, col, type_name, 'redacted', vouched) > 0 then
        if lifecycle.hold_far_reaching(lifecycle.reach_in_texts(batch, searched, col)) > 0 then
            return false;
        end if;
        perform lifecycle.take_words_out(relation, col, type_name, vouched);
        -- What is there still was written anew meanwhile, or does not give way.
        perform lifecycle.take_words_out(relation, col, type_name, vouched);
        if lifecycle.note_findings(batch, relation, col, type_name, 'claimed', vouched) > 0 then
            update lifecycle.erasure_findings f set rows = f.rows - c.rows
              from lifecycle.erasure_findings c
             where f.batch_id = batch and f.table_name = searched and f.column_name = col and f.treatment = 'redacted'
               and c.batch_id = batch and c.table_name = searched and c.column_name = col and c.treatment = 'claimed'
               and c.job_id = f.job_id;
            delete from lifecycle.erasure_findings f where f.batch_id = batch and f.table_name = searched and f.rows <= 0;
        end if;
        insert into lifecycle.erasure_counts as c (job_id, table_name, action, rows)
        select f.job_id, searched, 'redact', sum(f.rows) from lifecycle.erasure_findings f
         where f.batch_id = batch and f.table_name = searched and f.column_name = col and f.treatment = 'redacted'
         group by 1
        on conflict on constraint erasure_counts_pkey do update set rows = c.rows + excluded.rows;
    end if;
    perform lifecycle.note_claimed(batch, relation, col, type_name, needles);
    return true;
end $$;

-- One relation: where do the people of this batch still stand? Per job and column, never what was found. It is read
-- once when nothing is left. Searched again, the relation's earlier findings give way.
create or replace function lifecycle.search_relation(batch uuid, relation regclass) returns bigint
language plpgsql set search_path = '' set row_security = off set plan_cache_mode = 'auto'
    -- The planner expects every row to come back from the workers. The plan looks dear, and compiling it would take
    -- longer than the search of a small table.
    set min_parallel_table_scan_size = '1MB' set parallel_tuple_cost = 0 set jit = off
as $$
#variable_conflict use_variable
declare
    started   constant timestamptz := clock_timestamp();
    needles   lifecycle.erasure_needles;
    names     text[];
    types     text[];
    searched  text;
    total     bigint;
    hits      bigint;
    found     bigint := 0;
    col       record;
    treatment text;
    finding   text;
begin
    perform lifecycle.renew_erasure_lease(batch);
    needles := lifecycle.needles_of(batch);
    select array_agg(s.column_name order by s.column_name), array_agg(s.type_name order by s.column_name), min(s.table_name)
      into names, types, searched
      from lifecycle.searched_columns(search_relation.relation) s;
    if names is null then
        return 0;
    end if;
    delete from lifecycle.erasure_findings f where f.batch_id = batch and f.table_name = searched;
    delete from lifecycle.erasure_unread u using lifecycle.deletion_jobs j
     where j.id = u.job_id and j.batch_id = batch and u.table_name = searched;
    execute format('select (select count(*) from %s), count(*) from (%s) r', relation,
                   lifecycle.search_rows(relation, names, types, needles))
       into total, hits using needles.words, needles.ids, needles.addresses, needles.odd_words;
    if hits > 0 then
        for col in select c.name, c.type from unnest(names, types) c(name, type) loop
            treatment := (lifecycle.treatment_of(searched, col.name)).treatment;
            if treatment = 'redacted' then
                if not lifecycle.search_free_form(batch, relation, searched, col.name, col.type, needles) then
                    -- Whoever is left goes on without the words of those who are held.
                    delete from lifecycle.erasure_needles n where n.batch_id = batch;
                    return case when exists (select from lifecycle.deletion_jobs j where j.batch_id = batch and j.state = 'erased')
                                then lifecycle.search_relation(batch, relation) else found end;
                end if;
                continue;
            end if;
            -- The treatment of a column that nobody has said anything about is that of one that must hold nothing. The
            -- person's own rows are found by bound keys, and proved gone by rows_to_erase().
            finding := case when treatment = 'exempt' then treatment
                when treatment = 'chosen' then 'claimed'
                when treatment in ('deleted', 'cleared', 'clean') and lifecycle.is_chosen_key(relation, searched, col.name) then 'claimed'
                else 'residual' end;
            if finding = 'residual' and treatment is not null then
                -- Somebody else may have written a claimed id there: that of a chat into a column of sign-in users.
                hits := lifecycle.note_findings(batch, relation, col.name, col.type, finding, lifecycle.some_needles(needles, false))
                      + lifecycle.note_claimed(batch, relation, col.name, col.type, needles);
            else
                hits := lifecycle.note_findings(batch, relation, col.name, col.type, finding, needles);
            end if;
            found := found + hits;
            if hits > 0 and treatment = 'refreshed' then
                -- It shows what its tables hold, and these were searched before it.
                update lifecycle.erasure_findings f set treatment = 'claimed'
                 where f.batch_id = batch and f.table_name = searched and f.column_name = col.name and f.treatment = 'residual'
                   and exists (select from lifecycle.erasure_findings c
                                where c.batch_id = batch and c.job_id = f.job_id and c.treatment = 'claimed');
            end if;
        end loop;
    end if;
    insert into lifecycle.erasure_scans as s (batch_id, table_name, columns, rows, duration_ms)
    values (batch, searched, cardinality(names), total, lifecycle.milliseconds_since(started))
    on conflict (batch_id, table_name) do update
       set columns = excluded.columns, rows = excluded.rows, duration_ms = excluded.duration_ms, scanned_at = now();
    return found;
end $$;
