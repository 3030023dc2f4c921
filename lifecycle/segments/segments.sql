-- A document with `value` at `path`; objects on the way are made. What is no object stays as it is.
create or replace function lifecycle.json_with(document jsonb, path text[], value jsonb) returns jsonb
language plpgsql immutable set search_path = ''
as $$
begin
    if jsonb_typeof(document) <> 'object' then
        return document;
    end if;
    return coalesce(document, '{}') || jsonb_build_object(path[1], case when cardinality(path) = 1 then value
        else lifecycle.json_with(document -> path[1], path[2:], value) end);
end $$;

-- The whole computation: the tags of accounts that consented, best first; no row for an account without any.
-- An interaction weighs half after each half-life, counted back from the account's latest one. That moment cancels
-- out when the account's strongest tag becomes 1, so a score changes only when the account does something, never
-- because time passes. Powers are rounded to numeric first: sums of float8 depend on the order of the rows.
-- What a lost source gave is taken from the document that the account holds, as the answer to that question at that
-- time: a newer answer from elsewhere replaces it, an older one does not come back. A plan made for one account is a
-- poor one for a thousand, so each call makes its own.
create or replace function lifecycle.compute_segments(account_ids text[]) returns table (account text, tags jsonb, answers jsonb)
language plpgsql volatile set search_path = '' set row_security = off
as $$
declare
    target   constant lifecycle.segment_targets := lifecycle.segment_target();
    key_type constant text := lifecycle.column_type(target.schema_name, target.table_name, target.key_column);
    lost     constant text[] := lifecycle.lost_segment_sources();
    chosen   constant text := format(
        'select target.%I::text as account, target.%I::jsonb #> %L as held from %I.%I target'
        ' where target.%1$I = any ($1::%6$s[]) and (%7$s)', target.key_column, target.document_column, target.path,
        target.schema_name, target.table_name, key_type, target.consent);
    queries  jsonb;
    tastes   text;
begin
    if target.table_name is null then
        return;
    end if;
    if 'tags' = any (lost) then
        return query execute format('select c.account, c.held -> ''tags'', c.held -> ''answers'' from (%s) c'
                                    ' where c.held is not null', chosen) using account_ids;
        return;
    end if;
    select jsonb_object_agg(s.kind, lifecycle.segment_source_query(s, key_type)) filter (where s.kind <> 'taste'),
           string_agg(lifecycle.segment_source_query(s, key_type), E'\n union all\n') filter (where s.kind = 'taste')
      into queries, tastes from lifecycle.segment_sources s where s.readable;
    tastes := coalesce(tastes, 'select 0 as position, '''' as source, '''' as account, '''' as question,'
                               ' null::jsonb as answer, null::numeric as at where false');
    return query execute format($query$
        with chosen as (%s),
        catalogue as materialized (select distinct t.tag from (%s) t),
        held as (
            select c.account, h.tag ->> 'slug' as tag, h.tag ->> 'source' as source, (h.tag -> 'score')::numeric as score,
                   case jsonb_typeof(h.tag -> 'tastes') when 'array' then h.tag -> 'tastes' else '[]' end as tastes
              from chosen c
             cross join lateral jsonb_path_query(c.held, '$.tags[*] ? (@.slug.type() == "string"
                    && @.score.type() == "number" && @.source.type() == "string")') h(tag)
             where cardinality($2) > 0 and exists (select from catalogue k where k.tag = h.tag ->> 'slug')
        ), kept as (
            select s.position, s.name as source, c.account, q.question,
                   (select coalesce(jsonb_agg(h.tag), '[]') from held h
                     where h.account = c.account and h.tastes ? q.question) as answer,
                   case jsonb_typeof(q.given -> 'at') when 'number' then (q.given -> 'at')::numeric end as at
              from chosen c
             cross join lateral jsonb_each(case jsonb_typeof(c.held -> 'answers') when 'object' then c.held -> 'answers' end)
                   q(question, given)
              join lifecycle.segment_sources s on s.name = q.given ->> 'source' and s.name = any ($2)
        ), answer as (
            select distinct on (a.account, a.question) a.account, a.question, a.source, a.answer, a.at
              from (%s
                    union all
                    select k.position, k.source, k.account, k.question, k.answer, k.at from kept k) a
              join chosen c on c.account = a.account
             order by a.account, a.question, a.at desc nulls last, a.position, a.answer
        ), answered as (
            select a.account, jsonb_object_agg(a.question, jsonb_build_object('source', a.source, 'at', a.at)) as answers
              from answer a group by a.account
        ), taste as (
            select a.account, k.tag, jsonb_agg(distinct a.question) as questions
              from answer a
             cross join lateral jsonb_array_elements(
                   case jsonb_typeof(a.answer) when 'array' then a.answer else jsonb_build_array(a.answer) end) e(choice)
              join catalogue k on k.tag = e.choice #>> '{}'
             where jsonb_typeof(e.choice) = 'string'
             group by a.account, k.tag
        ), relative as (%s), scored as (
            select account, tag, t.questions,
                   round(case when t.tag is null then 0 else p.taste_weight end
                         + coalesce(r.strength, 0) * p.interaction_weight, 4) as score,
                   case when r.tag is null then 'quiz' when t.tag is null then 'interactions' else 'both' end as source
              from taste t full join relative r using (account, tag)
             cross join lifecycle.segment_policy p
        )
        select s.account,
               jsonb_agg(jsonb_build_object('slug', s.tag, 'score', s.score, 'source', s.source)
                         || case when s.questions is null then '{}' else jsonb_build_object('tastes', s.questions) end
                         order by s.score desc, s.tag collate "C"),
               coalesce((select a.answers from answered a where a.account = s.account), '{}')
          from scored s where s.score > 0 group by s.account
        $query$, chosen, queries ->> 'tags', tastes,
        lifecycle.segment_affinity_query(queries ->> 'interactions', queries ->> 'items', lost))
        using account_ids, lost;
end $$;

-- How much an account is drawn to each tag, 1 for its strongest. Without its sources, as the tags held say.
create or replace function lifecycle.segment_affinity_query(interactions text, items text, lost text[]) returns text
language sql immutable set search_path = ''
as $$
    select case
        when lost && array['interactions', 'items'] then $query$
            select h.account, h.tag, (h.score - case h.source when 'both' then p.taste_weight else 0 end)
                                     / nullif(p.interaction_weight, 0) as strength
              from held h cross join lifecycle.segment_policy p where h.source in ('interactions', 'both')$query$
        when interactions is null or items is null then
            'select null::text as account, null::text as tag, null::numeric as strength where false'
        else format($query$
            select a.account, a.tag, a.strength / nullif(max(a.strength) over (partition by a.account), 0) as strength
              from (select i.account, i.tag,
                           sum(i.weight / i.shares * round(power(0.5::float8, least(64,
                               (extract(epoch from i.latest) - extract(epoch from i.at)) / extract(epoch from p.half_life)
                           )::float8)::numeric, 12)) as strength
                      from (select d.account, g.tag, d.weight, d.at, g.shares,
                                   max(d.at) over (partition by d.account) as latest
                              from (select q.account, q.item, q.at, (p.weights ->> q.kind)::numeric as weight
                                      from (%s) q
                                      join chosen c on c.account = q.account
                                      join lifecycle.segment_policy p on p.weights ? q.kind
                                     where isfinite(q.at)) d
                              -- One interaction is one vote, however many tags share it.
                              join (select t.item, t.tag, count(*) over (partition by t.item) as shares
                                      from (select distinct m.item, m.tag from (%s) m
                                             where exists (select from catalogue k where k.tag = m.tag)) t) g
                                on g.item = d.item) i
                     cross join lifecycle.segment_policy p
                     group by i.account, i.tag) a$query$, interactions, items)
        end
$$;

-- One batch: the accounts that have waited longest. A row that somebody edits just now stays in the log.
create or replace function lifecycle.refresh_segment_batch(batch_size int, target lifecycle.segment_targets)
returns table (accounts_seen int, written int, cleared int, unchanged int, skipped_busy int, remaining bigint)
language plpgsql set search_path = '' set row_security = off
as $$
#variable_conflict use_variable
declare
    place    constant text := format('%I.%I', target.schema_name, target.table_name);
    key_type constant text := lifecycle.column_type(target.schema_name, target.table_name, target.key_column);
    version  constant int := (select p.version from lifecycle.segment_policy p);
    since    timestamptz;
    waiting  text[];
    present  text[];
    locked   text[];
begin
    with everybody as (
        delete from lifecycle.changed_segment_accounts l where l.account is null returning l.logged_at
    )
    select min(e.logged_at) into since from everybody e;
    if since is not null then
        execute format('insert into lifecycle.changed_segment_accounts (account, logged_at)
            select target.%I::text, $2 from %s target where (%s) or target.%I::jsonb #> $1 is not null',
            target.key_column, place, target.consent, target.document_column) using target.path, since;
    end if;
    waiting := array(select l.account from lifecycle.changed_segment_accounts l
                      group by l.account order by min(l.logged_at), l.account limit batch_size);
    execute format('select array(select t.%1$I::text from %2$s t where t.%1$I = any ($1::%3$s[])
                                  order by t.%1$I for no key update skip locked)', target.key_column, place, key_type)
       into locked using waiting;
    execute format('select array(select t.%1$I::text from %2$s t where t.%1$I = any ($1::%3$s[]))',
                   target.key_column, place, key_type) into present using waiting;
    -- Before anything is computed: what this statement does not see was committed later and waits for the next call.
    delete from lifecycle.changed_segment_accounts l
     where l.account = any (locked) or l.account = any (waiting) and l.account <> all (present);

    perform set_config('lifecycle.writes_segments', 'yes', true);
    execute format($query$
        with wanted as (
            select target.%1$I as key, target.%2$I::jsonb #> $3 as held,
                   case when c.tags is not null then jsonb_build_object('version', $2, 'tags', c.tags, 'answers', c.answers,
                        'computed_at', target.%2$I::jsonb #> $3 -> 'computed_at') end as segments
              from %3$s target left join lifecycle.compute_segments($1) c on c.account = target.%1$I::text
             where target.%1$I = any ($1::%4$s[])
        ), changed as (
            update %3$s target
               set %2$I = case when w.segments is not null and (%5$s)
                   then lifecycle.json_with(target.%2$I::jsonb, $3, w.segments || jsonb_build_object(
                        'computed_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
                   else target.%2$I::jsonb #- $3 end
              from wanted w
             where target.%1$I = w.key and w.held is distinct from w.segments
            returning target.%2$I::jsonb #> $3 is null as cleared
        )
        select count(*) filter (where not c.cleared), count(*) filter (where c.cleared) from changed c
        $query$, target.key_column, target.document_column, place, key_type, target.consent)
       into written, cleared using locked, version, target.path;
    perform set_config('lifecycle.writes_segments', '', true);

    accounts_seen := cardinality(waiting);
    skipped_busy := cardinality(present) - cardinality(locked);
    unchanged := accounts_seen - skipped_busy - written - cleared;
    remaining := (select count(*) from (select distinct l.account from lifecycle.changed_segment_accounts l) l);
    return next;
end $$;

-- Computes what changed, at most `batch_size` accounts, and says how many wait: call it until none do. One row, and
-- one row in the ledger. `incomplete`: a source or the place of segments is gone, which `error` names; what depends on
-- it stays as it was. With `busy` and `failure` nothing was changed.
create or replace function public.refresh_account_segments(batch_size int default 5000)
returns table (accounts_seen int, written int, cleared int, unchanged int, skipped_busy int, remaining bigint,
               outcome text, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    job     constant text := 'refresh_account_segments';
    started constant timestamptz := clock_timestamp();
    target  lifecycle.segment_targets;
begin
    if batch_size is null or batch_size < 1 then
        raise exception 'batch_size must be at least 1, not %', coalesce(batch_size::text, 'null')
            using errcode = 'invalid_parameter_value', hint = 'Leave it out for 5000 accounts.';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('lifecycle.refresh_account_segments', 0)) then
        raise exception 'refresh_account_segments already runs in another session'
            using errcode = 'lock_not_available', hint = 'Wait until it is done; nothing was changed.';
    end if;
    begin
        if not exists (select from lifecycle.segment_policy) then
            -- Without it nobody would have tastes, and all segments would go.
            raise exception 'lifecycle.segment_policy is empty' using hint = 'Run lifecycle migrate.';
        end if;
        target := lifecycle.segment_target();
        perform lifecycle.note_segment_target(target);
        if target.table_name is null then
            accounts_seen := 0; written := 0; cleared := 0; unchanged := 0; skipped_busy := 0;
            remaining := (select count(*) from lifecycle.changed_segment_accounts);
        else
            perform lifecycle.look_at_segment_sources(target);
            perform lifecycle.tell_unwatched_tables();
            select b.* into accounts_seen, written, cleared, unchanged, skipped_busy, remaining
              from lifecycle.refresh_segment_batch(batch_size, target) b;
        end if;
        error := lifecycle.what_segments_lack(target);
        outcome := case when error is null then 'success' else 'incomplete' end;
    exception
        when lock_not_available or deadlock_detected then
            outcome := 'busy';
            error := lifecycle.first_line(sqlerrm);
        when others then
            outcome := 'failure';
            error := lifecycle.first_line(sqlerrm);
    end;
    perform lifecycle.record_outcome(job, '', case when outcome in ('busy', 'failure') then error end, jsonb_build_object(
        'accounts_seen', accounts_seen, 'written', written, 'cleared', cleared, 'unchanged', unchanged,
        'skipped_busy', skipped_busy, 'remaining', remaining, 'incomplete', case outcome when 'incomplete' then error end,
        'duration_ms', lifecycle.milliseconds_since(started)), outcome <> 'busy');
    return next;
end $$;

-- Another place than last time has everybody's segments to get; that there is none is told once.
create or replace function lifecycle.note_segment_target(target lifecycle.segment_targets) returns void
language plpgsql set search_path = ''
as $$
declare
    held constant text := (select p.target from lifecycle.segment_policy p);
    used constant text := case when target.table_name is null then '' else
                          format('%I.%I.%I', target.schema_name, target.table_name, target.document_column) end;
begin
    if used = '' then
        -- Nobody can be found by a key: later everybody has to be looked at.
        delete from lifecycle.changed_segment_accounts l where l.account is not null;
    end if;
    if held is not distinct from used then
        return;
    end if;
    if used = '' then
        perform lifecycle.record_outcome('refresh_account_segments', 'target',
            'none of the declared targets exists; segments stay where they are. Correct the targets in segments.yaml, '
            'then run lifecycle migrate');
    elsif held = '' then
        perform lifecycle.record_outcome('refresh_account_segments', 'target', null);
    end if;
    insert into lifecycle.changed_segment_accounts default values;
    update lifecycle.segment_policy p set target = used;
end $$;

-- Told once, and once more when all are watched.
create or replace function lifecycle.tell_unwatched_tables() returns void
language plpgsql set search_path = ''
as $$
declare
    unwatched constant text := array_to_string(lifecycle.unwatched_segment_tables(), ', ');
    told      constant boolean := exists (select from lifecycle.open_problems p
                                           where p.job = 'refresh_account_segments' and p.cause = 'triggers');
begin
    if unwatched <> '' and not told then
        perform lifecycle.record_outcome('refresh_account_segments', 'triggers',
                                         format('changes of %s are not noted; run lifecycle migrate', unwatched));
    elsif unwatched = '' and told then
        perform lifecycle.record_outcome('refresh_account_segments', 'triggers', null);
    end if;
end $$;

-- Why segments are incomplete, in one line; null when nothing is missing.
create or replace function lifecycle.what_segments_lack(target lifecycle.segment_targets) returns text
language sql stable set search_path = ''
as $$
    select string_agg(l.lack, '; ') from (
        select 'none of the declared targets exists' as lack where target.table_name is null
         union all
        select * from (select format('source %s is gone: %s', s.name, s.lost_reason) from lifecycle.segment_sources s
                        where s.lost_reason is not null order by s.position) s
         union all
        select format('changes of %s are not noted: run lifecycle migrate', t) from unnest(lifecycle.unwatched_segment_tables()) t) l
$$;

-- How the cache stands, in accounts. A waiting row without an account stands for all of them. No target, no row.
create or replace function lifecycle.segments_status()
returns table (consented bigint, with_segments bigint, without_consent bigint, waiting bigint, oldest_waiting timestamptz,
               lack text)
language plpgsql volatile set search_path = '' set row_security = off
as $$
declare
    target constant lifecycle.segment_targets := lifecycle.segment_target();
begin
    if target.table_name is null then
        return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, null::timestamptz, lifecycle.what_segments_lack(target);
        return;
    end if;
    return query execute format($query$
        select count(*) filter (where s.may), count(*) filter (where s.holds),
               count(*) filter (where s.holds and not s.may and not w.waits), count(*) filter (where w.waits),
               (select min(l.logged_at) from lifecycle.changed_segment_accounts l), $2
          from (select target.%1$I::text as account, coalesce((%2$s), false) as may,
                       target.%3$I::jsonb #> $1 is not null as holds from %4$I.%5$I target) s
         cross join (select exists (select from lifecycle.changed_segment_accounts l where l.account is null)) e(everybody)
          left join (select distinct l.account from lifecycle.changed_segment_accounts l) l on l.account = s.account
         cross join lateral (select e.everybody or l.account is not null) w(waits)
        $query$, target.key_column, target.consent, target.document_column, target.schema_name, target.table_name)
        using target.path, lifecycle.what_segments_lack(target);
end $$;

-- Only tags of the catalogue: an owner may write anything into their own document.
create or replace function lifecycle.accounts_per_tag() returns table (tag text, accounts bigint)
language plpgsql volatile set search_path = '' set row_security = off
as $$
declare
    target    constant lifecycle.segment_targets := lifecycle.segment_target();
    catalogue constant text := (select lifecycle.segment_source_query(s, null) from lifecycle.segment_sources s
                                 where s.kind = 'tags' and s.readable);
begin
    if target.table_name is null or catalogue is null then
        return;
    end if;
    return query execute format($query$
        select c.tag, count(*) from %I.%I target
         cross join lateral jsonb_path_query(target.%I::jsonb #> $1, '$.tags[*]') e(tag)
          join (select distinct t.tag from (%s) t) c on c.tag = e.tag ->> 'slug'
         group by 1 order by 2 desc, 1$query$, target.schema_name, target.table_name, target.document_column, catalogue)
        using target.path;
end $$;
