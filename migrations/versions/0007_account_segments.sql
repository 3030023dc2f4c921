-- Segments: the tags that an account likes, from its quiz and its interactions, in preferences->'segments' of its
-- profile. Triggers note whose sources changed, refresh_account_segments() computes those again.
create table lifecycle.segment_policy (
    singleton           boolean primary key default true check (singleton),
    version             int not null,
    questions           text[] not null,
    interaction_weights jsonb not null,
    half_life           interval not null check (half_life > interval '0'),
    quiz_weight         numeric not null check (quiz_weight >= 0),
    interaction_weight  numeric not null check (interaction_weight >= 0)
);
comment on table lifecycle.segment_policy is 'One row: copy of lifecycle/policy.py, written by `lifecycle migrate`. Change it there.';

-- Only ever appended to by the application. No key and no index: two writers must never wait for each other here.
create table lifecycle.changed_segment_accounts (
    account_id uuid,
    logged_at  timestamptz not null default clock_timestamp()
);
comment on table lifecycle.changed_segment_accounts is 'Accounts whose segments wait to be computed again, once for each change; a null account means all of them.';

-- SECURITY DEFINER: the application's roles write the tables and have no right here. Nothing is caught: an
-- exception block would make a subtransaction of each row that the application writes, and an INSERT into a table
-- without constraints has nothing to fail on. An account that is being deleted is not noted: its id would outlive it.
create function lifecycle.log_segment_account() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into lifecycle.changed_segment_accounts (account_id)
    select a.id from public.accounts a where a.id in (old.account_id, new.account_id);
    return null;
end $$;

create function lifecycle.log_segment_answer() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into lifecycle.changed_segment_accounts (account_id)
    select s.account_id from public.quiz_sessions s
     where s.id in (old.session_id, new.session_id)
       and exists (select from lifecycle.segment_policy p
                    where old.question_ref = any (p.questions) or new.question_ref = any (p.questions));
    return null;
end $$;

create function lifecycle.log_all_segment_accounts() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
    insert into lifecycle.changed_segment_accounts default values;
    return null;
end $$;

-- The first policy is a change, too: it asks for everybody's segments.
create trigger segment_policy_changed after insert or update or delete on lifecycle.segment_policy
    for each row execute function lifecycle.log_all_segment_accounts();

-- An application without one of these tables has nothing to note there.
do $$
declare
    watched record;
begin
    for watched in
        select * from (values
            ('quiz_answers', 'added_or_deleted', 'insert or delete', 'row', 'log_segment_answer'),
            ('quiz_answers', 'changed', 'update of id, session_id, question_ref, answer_value, answered_at',
             'row when (old is distinct from new)', 'log_segment_answer'),
            -- Answers of a deleted session go with it, and no longer know whose they were.
            ('quiz_sessions', 'deleted', 'delete', 'row', 'log_segment_account'),
            ('quiz_sessions', 'changed', 'update of account_id',
             'row when (old.account_id is distinct from new.account_id)', 'log_segment_account'),
            ('activity_interactions', 'added_or_deleted', 'insert or delete', 'row', 'log_segment_account'),
            ('activity_interactions', 'changed',
             'update of account_id, activity_id, activity_slug, interaction_type, created_at',
             'row when ((old.account_id, old.activity_id, old.activity_slug, old.interaction_type, old.created_at)
                        is distinct from
                        (new.account_id, new.activity_id, new.activity_slug, new.interaction_type, new.created_at))',
             'log_segment_account'),
            -- The refresh writes here itself; noting that would compute the same accounts for ever.
            ('account_profiles', 'added', 'insert', 'row', 'log_segment_account'),
            ('account_profiles', 'changed', 'update of account_id, preferences',
             $when$row when ((old.account_id is distinct from new.account_id
                              or old.preferences #> '{consent,preferences,personalization}'
                                 is distinct from new.preferences #> '{consent,preferences,personalization}'
                              or old.preferences -> 'segments' is distinct from new.preferences -> 'segments')
                             and current_setting('lifecycle.writes_segments', true) is distinct from 'yes')$when$,
             'log_segment_account'),
            -- Tags and what they hang on change seldom, and for many accounts at once.
            ('activity_tag_map', 'added_or_deleted', 'insert or delete', 'row', 'log_all_segment_accounts'),
            ('activity_tag_map', 'changed', 'update', 'row when (old is distinct from new)', 'log_all_segment_accounts'),
            ('activity_tags', 'added_or_deleted', 'insert or delete', 'row', 'log_all_segment_accounts'),
            ('activity_tags', 'changed', 'update of id, slug, is_active',
             'row when ((old.id, old.slug, old.is_active) is distinct from (new.id, new.slug, new.is_active))',
             'log_all_segment_accounts'),
            -- An interaction without activity_id finds its activity by slug.
            ('activities', 'changed', 'update of slug', 'row when (old.slug is distinct from new.slug)',
             'log_all_segment_accounts'),
            ('quiz_answers', 'truncated', 'truncate', 'statement', 'log_all_segment_accounts'),
            ('quiz_sessions', 'truncated', 'truncate', 'statement', 'log_all_segment_accounts'),
            ('activity_interactions', 'truncated', 'truncate', 'statement', 'log_all_segment_accounts'),
            ('activity_tag_map', 'truncated', 'truncate', 'statement', 'log_all_segment_accounts'),
            ('activity_tags', 'truncated', 'truncate', 'statement', 'log_all_segment_accounts')
        ) w(relation, name, event, each, noter)
    loop
        if to_regclass(format('public.%I', watched.relation)) is not null then
            execute format('create trigger %I after %s on public.%I for each %s execute function lifecycle.%I()',
                           'lifecycle_segments_' || watched.name, watched.event, watched.relation, watched.each,
                           watched.noter);
        end if;
    end loop;
end $$;

-- Consent that was never given is consent withheld.
create function lifecycle.may_personalize(preferences jsonb) returns boolean
language sql immutable
return coalesce(preferences #>> '{consent,preferences,personalization}' = 'true', false);

-- The whole computation: the tags of accounts that consented, best first; no row for an account without any.
-- An interaction weighs half after each half-life, counted back from the account's latest one. That moment cancels
-- out when the account's strongest tag becomes 1, so a score changes only when the account does something, never
-- because time passes. Powers are rounded to numeric first: sums of float8 depend on the order of the rows. A plan made
-- for one account is a poor one for a thousand, so each call makes its own.
create function lifecycle.compute_segments(account_ids uuid[]) returns table (account_id uuid, tags jsonb)
language plpgsql stable set search_path = '' set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
begin
    return query
        with chosen_account as (
            select p.account_id from public.account_profiles p
             where p.account_id = any (account_ids) and lifecycle.may_personalize(p.preferences)
        ), answer as (
            select distinct on (s.account_id, q.question_ref) s.account_id, q.answer_value
              from chosen_account c
              join public.quiz_sessions s on s.account_id = c.account_id
              join public.quiz_answers q on q.session_id = s.id
              join lifecycle.segment_policy p on q.question_ref = any (p.questions)
             order by s.account_id, q.question_ref, q.answered_at desc, q.id desc
        ), taste as (
            select distinct a.account_id, t.slug
              from answer a
             cross join lateral jsonb_array_elements(
                   case jsonb_typeof(a.answer_value) when 'array' then a.answer_value
                        else jsonb_build_array(a.answer_value) end) e(choice)
              join public.activity_tags t on t.is_active and t.slug = e.choice #>> '{}'
             where jsonb_typeof(e.choice) = 'string'
        ), interaction as (
            select i.id, i.account_id, coalesce(i.activity_id, a.id) as activity_id, i.created_at,
                   (p.interaction_weights ->> i.interaction_type::text)::numeric as weight
              from chosen_account c
              join public.activity_interactions i on i.account_id = c.account_id
              join lifecycle.segment_policy p on p.interaction_weights ? i.interaction_type::text
              left join public.activities a on i.activity_id is null and a.slug = i.activity_slug
             where isfinite(i.created_at)
        ), tagged as (
            select i.account_id, t.slug, i.weight, i.created_at,
                   max(i.created_at) over (partition by i.account_id) as latest,
                   -- One interaction is one vote, however many tags share it.
                   count(*) over (partition by i.id) as shares
              from interaction i
              join public.activity_tag_map m on m.activity_id = i.activity_id
              join public.activity_tags t on t.id = m.tag_id and t.is_active
        ), affinity as (
            select g.account_id, g.slug,
                   sum(g.weight / g.shares * round(power(0.5::float8, least(64,
                       (extract(epoch from g.latest) - extract(epoch from g.created_at)) / extract(epoch from p.half_life)
                   )::float8)::numeric, 12)) as strength
              from tagged g cross join lifecycle.segment_policy p
             group by g.account_id, g.slug
        ), relative as (
            select a.account_id, a.slug,
                   a.strength / nullif(max(a.strength) over (partition by a.account_id), 0) as strength
              from affinity a
        ), scored as (
            select account_id, slug,
                   round(case when t.slug is null then 0 else p.quiz_weight end
                         + coalesce(r.strength, 0) * p.interaction_weight, 4) as score,
                   case when r.slug is null then 'quiz' when t.slug is null then 'interactions' else 'both' end as source
              from taste t full join relative r using (account_id, slug)
             cross join lifecycle.segment_policy p
        )
        select s.account_id,
               jsonb_agg(jsonb_build_object('slug', s.slug, 'score', s.score, 'source', s.source)
                         order by s.score desc, s.slug collate "C")
          from scored s
         where s.score > 0
         group by s.account_id;
end $$;

-- One batch: the accounts that have waited longest. A profile that somebody edits just now stays in the log.
create function lifecycle.refresh_segment_batch(batch_size int)
returns table (accounts_seen int, written int, cleared int, unchanged int, skipped_busy int, remaining bigint)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    waiting uuid[];
    locked  uuid[];
    -- Null until the policy is written: without it nobody would have tastes, and all segments would go.
    version constant int := (select p.version from lifecycle.segment_policy p);
begin
    if version is null then
        raise exception 'lifecycle.segment_policy is empty' using hint = 'Run lifecycle migrate.';
    end if;
    with everybody as (
        delete from lifecycle.changed_segment_accounts l where l.account_id is null returning l.logged_at
    )
    insert into lifecycle.changed_segment_accounts (account_id, logged_at)
    select p.account_id, e.since
      from (select min(e.logged_at) as since from everybody e) e
      join public.account_profiles p
        on e.since is not null and (lifecycle.may_personalize(p.preferences) or p.preferences -> 'segments' is not null);

    waiting := array(select l.account_id from lifecycle.changed_segment_accounts l where l.account_id is not null
                      group by l.account_id order by min(l.logged_at), l.account_id limit batch_size);
    locked := array(select p.account_id from public.account_profiles p where p.account_id = any (waiting)
                     order by p.account_id for no key update skip locked);
    -- Before anything is computed: what this statement does not see was committed later and waits for the next call.
    delete from lifecycle.changed_segment_accounts l
     where l.account_id = any (locked)
        or l.account_id = any (waiting)
           and not exists (select from public.account_profiles p where p.account_id = l.account_id);

    perform set_config('lifecycle.writes_segments', 'yes', true);
    with wanted as (
        select p.account_id, p.preferences -> 'segments' as held,
               case when c.tags is not null then
                   jsonb_build_object('version', version, 'tags', c.tags,
                                      'computed_at', p.preferences -> 'segments' -> 'computed_at') end as segments
          from public.account_profiles p
          left join lifecycle.compute_segments(locked) c on c.account_id = p.account_id
         where p.account_id = any (locked)
    ), changed as (
        update public.account_profiles p
           set preferences = case
                   when w.segments is not null and lifecycle.may_personalize(p.preferences)
                   then jsonb_set(p.preferences, '{segments}', w.segments || jsonb_build_object(
                            'computed_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
                   else p.preferences - 'segments' end
          from wanted w
         where p.account_id = w.account_id and w.held is distinct from w.segments
        returning p.preferences -> 'segments' is null as cleared
    )
    select count(*) filter (where not c.cleared), count(*) filter (where c.cleared) into written, cleared from changed c;
    perform set_config('lifecycle.writes_segments', '', true);

    accounts_seen := cardinality(waiting);
    skipped_busy := (select count(*) from unnest(waiting) w(account_id)
                      where w.account_id <> all (locked)
                        and exists (select from public.account_profiles p where p.account_id = w.account_id));
    unchanged := accounts_seen - skipped_busy - written - cleared;
    remaining := (select count(*) from (select distinct l.account_id from lifecycle.changed_segment_accounts l) l);
    return next;
end $$;

-- Computes what changed, at most `batch_size` accounts, and says how many wait: call it until none do. One row, and
-- one row in audit_events; an error is in both, and then nothing was changed.
create function public.refresh_account_segments(batch_size int default 5000)
returns table (accounts_seen int, written int, cleared int, unchanged int, skipped_busy int, remaining bigint,
               outcome text, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    started constant timestamptz := clock_timestamp();
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
        select b.* into accounts_seen, written, cleared, unchanged, skipped_busy, remaining
          from lifecycle.refresh_segment_batch(batch_size) b;
        outcome := 'success';
    exception when others then
        outcome := 'failure';
        error := lifecycle.first_line(sqlerrm);
    end;
    perform lifecycle.record_outcome('refresh_account_segments', '', error, jsonb_build_object(
        'accounts_seen', accounts_seen, 'written', written, 'cleared', cleared, 'unchanged', unchanged,
        'skipped_busy', skipped_busy, 'remaining', remaining,
        'duration_ms', round(extract(epoch from clock_timestamp() - started) * 1000)));
    return next;
end $$;

-- The recommendation read: one query over the cache. It runs as the caller, so the policies of account_profiles
-- decide whose segments are seen; consent withdrawn a moment ago counts at once. What is no tag and score is passed
-- over: an owner may write anything into their own preferences. plpgsql keeps the plan, which costs more than the read.
create function public.recommend_activities(account_id uuid, result_limit int default 10)
returns table (activity_id uuid, slug text, title text, score numeric, matched_tags text[])
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
        select a.id, a.slug, a.title, sum(l.score),
               array_agg(l.slug order by l.score desc, l.slug collate "C")
          from public.account_profiles p
         cross join lateral (
               select e.tag ->> 'slug' as slug, (e.tag -> 'score')::numeric as score
                 from jsonb_path_query(
                      p.preferences, '$.segments.tags[*] ? (@.slug.type() == "string" && @.score.type() == "number")'
                      ) e(tag)) l
          join public.activity_tags t on t.slug = l.slug and t.is_active
          join public.activity_tag_map m on m.tag_id = t.id
          join public.activities a on a.id = m.activity_id and a.status = 'published' and a.is_active
         where p.account_id = recommend_activities.account_id
           and p.preferences #>> '{consent,preferences,personalization}' = 'true'
         group by a.id
         order by 4 desc, a.slug
         limit greatest(coalesce(result_limit, 10), 0);
end $$;

-- The same answer without the cache: what tests and benchmarks compare with.
create function lifecycle.recommend_activities_uncached(account_id uuid, result_limit int default 10)
returns table (activity_id uuid, slug text, title text, score numeric, matched_tags text[])
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
        select a.id, a.slug, a.title, sum(l.score),
               array_agg(l.slug order by l.score desc, l.slug collate "C")
          from lifecycle.compute_segments(array[recommend_activities_uncached.account_id]) c
         cross join lateral jsonb_to_recordset(c.tags) l(slug text, score numeric)
          join public.activity_tags t on t.slug = l.slug and t.is_active
          join public.activity_tag_map m on m.tag_id = t.id
          join public.activities a on a.id = m.activity_id and a.status = 'published' and a.is_active
         group by a.id
         order by 4 desc, a.slug
         limit greatest(coalesce(result_limit, 10), 0);
end $$;

revoke all on function public.refresh_account_segments(int), public.recommend_activities(uuid, int) from public;
do $$
declare
    api_role name;
begin
    for api_role in select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated') loop
        execute format('revoke all on function public.refresh_account_segments(int) from %I', api_role);
        execute format('revoke all on function public.recommend_activities(uuid, int) from %I', api_role);
    end loop;
    for api_role in select r.rolname from pg_roles r where r.rolname in ('authenticated', 'service_role') loop
        execute format('grant execute on function public.recommend_activities(uuid, int) to %I', api_role);
    end loop;
end $$;
