-- The archive of chat messages, and the end of vouchers. Rows are moved by a worker outside of the server
-- (lifecycle/chat_archive), which compresses; the tables, their access and their triggers are made here.

create table lifecycle.retention_policies (
    name       text primary key,
    keep_for   interval not null check (keep_for > interval '0'),
    batch_size int not null check (batch_size > 0)
);
comment on table lifecycle.retention_policies is 'Copy of lifecycle/policy.py, written by `lifecycle migrate`: how long chat messages stay as they are, and vouchers stay at all. Change it there.';

create table lifecycle.restored_chat_sessions (
    session_id  uuid primary key references public.chat_sessions (id) on delete cascade,
    restored_at timestamptz not null default now(),
    until       timestamptz not null
);
comment on table lifecycle.restored_chat_sessions is 'Chat sessions that were brought back from the archive, and stay out of it until then.';

-- The table begins under the name of its source, in another schema: a policy's expression, as PostgreSQL prints it,
-- then means the new table's own columns, and needs no editing of text. No default privilege opens it there, either.
create table lifecycle.chat_messages (
    id             uuid not null constraint chat_messages_archive_pkey primary key,
    session_id     uuid not null constraint chat_messages_archive_session_id_fkey
                   references public.chat_sessions (id) on delete cascade,
    role           text not null,
    tool_calls     jsonb,
    latency_ms     int,
    created_at     timestamptz not null,
    content_gzip   bytea not null,
    content_sha256 bytea not null,
    archived_at    timestamptz not null default now()
);
-- What is compressed already must not be tried again.
alter table lifecycle.chat_messages alter column content_gzip set storage external;
create index chat_messages_archive_session_id_created_at_idx on lifecycle.chat_messages (session_id, created_at);
create index chat_messages_archive_created_at_idx on lifecycle.chat_messages (created_at);
comment on table lifecycle.chat_messages is 'Chat messages past retention: the text as gzip, everything else as it was. Written only by the archive job.';
comment on column lifecycle.chat_messages.content_gzip is 'The text in UTF-8, in gzip format.';
comment on column lifecycle.chat_messages.content_sha256 is 'SHA-256 of the text in UTF-8, before compression.';

-- Who may read which message of the chat may read it in the archive; nobody may write there. A policy that reads the
-- text cannot follow: left out where it opens, closed where it restricts.
create function lifecycle.copy_read_policies() returns void
language plpgsql set search_path = ''
as $$
declare
    policy record;
begin
    -- Also where the source has none: a hole there is no reason for a second one.
    alter table lifecycle.chat_messages enable row level security;
    for policy in
        select p.polname, p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as condition,
               (select string_agg(case when r = 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ')
                  from unnest(p.polroles) r) as roles
          from pg_catalog.pg_policy p
         where p.polrelid = 'public.chat_messages'::regclass and p.polcmd in ('r', '*') and p.polqual is not null
    loop
        begin
            execute format('create policy %I on lifecycle.chat_messages as %s for select to %s using (%s)', policy.polname,
                           case when policy.polpermissive then 'permissive' else 'restrictive' end, policy.roles,
                           policy.condition);
        exception when undefined_column then
            raise warning 'policy "%" of chat_messages reads the text and opens nothing in the archive', policy.polname;
            if not policy.polpermissive then
                execute format('create policy %I on lifecycle.chat_messages as restrictive for select to %s using (false)',
                               policy.polname, policy.roles);
            end if;
        end;
    end loop;
end $$;
select lifecycle.copy_read_policies();
drop function lifecycle.copy_read_policies();
alter table lifecycle.chat_messages rename to chat_messages_archive;
alter table lifecycle.chat_messages_archive set schema public;

create view public.chat_messages_recent with (security_invoker = true) as
select m.id, m.session_id, m.role, m.content, m.tool_calls, m.latency_ms, m.created_at
  from public.chat_messages m
 where m.created_at >= now() - interval '2160 hours';
comment on view public.chat_messages_recent is 'Chat messages of the last 90 days, for the API: what the archive will not take. Each reader sees what they see in chat_messages.';

-- Past conversations, for the admin screen. Runs as the caller, so the policies of the archive decide.
create function public.archived_chat_messages(session_id uuid)
returns table (id uuid, role text, tool_calls jsonb, latency_ms int, created_at timestamptz, content_gzip bytea,
               content_sha256 bytea, archived_at timestamptz)
language sql stable set search_path = ''
as $$
    select a.id, a.role, a.tool_calls, a.latency_ms, a.created_at, a.content_gzip, a.content_sha256, a.archived_at
      from public.chat_messages_archive a
     where a.session_id = archived_chat_messages.session_id
     order by a.created_at, a.id
$$;
comment on function public.archived_chat_messages(uuid) is 'The archived messages of one chat session, oldest first; the text is gzip. Row-level security decides what the caller sees.';

-- Default privileges may have opened what is new: it gets SELECT for exactly those who may SELECT the source, or some
-- of its columns.
create function lifecycle.copy_read_grants(target regclass) returns void
language plpgsql set search_path = ''
as $$
declare
    granted record;
begin
    for granted in
        select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
          from pg_catalog.pg_class c, aclexplode(c.relacl) a
         where c.oid = target and a.grantee <> c.relowner
    loop
        execute format('revoke all on %s from %s', target, granted.grantee);
    end loop;
    for granted in
        select '' as columns, c.relowner, a.grantee
          from pg_catalog.pg_class c, aclexplode(c.relacl) a
         where c.oid = 'public.chat_messages'::regclass and a.privilege_type = 'SELECT'
         union
        select format('(%I)', o.attname), c.relowner, a.grantee
          from pg_catalog.pg_class c
          join pg_catalog.pg_attribute t on t.attrelid = c.oid and not t.attisdropped
          join pg_catalog.pg_attribute o on o.attrelid = target and o.attname in (t.attname, t.attname || '_gzip')
         cross join lateral aclexplode(t.attacl) a
         where c.oid = 'public.chat_messages'::regclass and a.privilege_type = 'SELECT'
    loop
        continue when granted.grantee = granted.relowner;
        execute format('grant select %s on %s to %s', granted.columns, target,
                       case when granted.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(granted.grantee)) end);
    end loop;
end $$;
select lifecycle.copy_read_grants('public.chat_messages_archive'), lifecycle.copy_read_grants('public.chat_messages_recent');
drop function lifecycle.copy_read_grants(regclass);

-- Statistics do not see where a message lies -----------------------------------------------------------------

create or replace view lifecycle.chat_message_facts as
select m.id, m.session_id, m.role, m.tool_calls, m.latency_ms, m.created_at from public.chat_messages m
 union all
select a.id, a.session_id, a.role, a.tool_calls, a.latency_ms, a.created_at from public.chat_messages_archive a;

-- A message that moves is no change: noting each would count months of hours again. A real change is noted, wherever the
-- message lies. The setting lasts for the transaction that moves.
create or replace trigger lifecycle_late_insert after insert on public.chat_messages for each row
    when (new.created_at < now() - interval '2 hours'
          and current_setting('lifecycle.moves_messages', true) is distinct from 'yes')
    execute function lifecycle.note_changed_messages();
create or replace trigger lifecycle_late_delete after delete on public.chat_messages for each row
    when (old.created_at < now() - interval '2 hours'
          and current_setting('lifecycle.moves_messages', true) is distinct from 'yes')
    execute function lifecycle.note_changed_messages();
create trigger lifecycle_late_insert after insert on public.chat_messages_archive for each row
    when (new.created_at < now() - interval '2 hours'
          and current_setting('lifecycle.moves_messages', true) is distinct from 'yes')
    execute function lifecycle.note_changed_messages();
create trigger lifecycle_late_delete after delete on public.chat_messages_archive for each row
    when (old.created_at < now() - interval '2 hours'
          and current_setting('lifecycle.moves_messages', true) is distinct from 'yes')
    execute function lifecycle.note_changed_messages();
create trigger lifecycle_late_update
    after update of session_id, role, tool_calls, latency_ms, created_at on public.chat_messages_archive for each row
    when (least(old.created_at, new.created_at) < now() - interval '2 hours')
    execute function lifecycle.note_changed_messages();

-- Vouchers ---------------------------------------------------------------------------------------------------

-- Deletes redemptions older than the policy says, and vouchers that ended, were made and were last redeemed before that:
-- at most `batch_size` of each. Call it until it deletes none. One row, and one row in audit_events; an error is in both,
-- and then nothing was deleted. What somebody else holds waits for the next call.
create function public.delete_expired_vouchers(batch_size int default null)
returns table (redemptions bigint, vouchers bigint, outcome text, error text)
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    started constant timestamptz := clock_timestamp();
    policy  lifecycle.retention_policies;
    most    int;
    cutoff  timestamptz;
    chosen  uuid[];
begin
    select p.* into policy from lifecycle.retention_policies p where p.name = 'vouchers';
    if policy.name is null then
        raise exception 'lifecycle.retention_policies has no row for vouchers' using hint = 'Run lifecycle migrate.';
    end if;
    most := coalesce(batch_size, policy.batch_size);
    if most < 1 then
        raise exception 'batch_size must be at least 1, not %', most
            using errcode = 'invalid_parameter_value', hint = 'Leave it out for what the policy says.';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('lifecycle.delete_expired_vouchers', 0)) then
        raise exception 'delete_expired_vouchers already runs in another session'
            using errcode = 'lock_not_available', hint = 'Wait until it is done; nothing was deleted.';
    end if;
    cutoff := (now() at time zone 'UTC' - policy.keep_for) at time zone 'UTC';
    redemptions := 0; vouchers := 0;
    begin
        delete from public.voucher_redemptions r
         where r.scanned_at < cutoff
           and r.id in (select o.id from public.voucher_redemptions o where o.scanned_at < cutoff
                         limit most for update skip locked);
        get diagnostics redemptions = row_count;
        chosen := array(select v.id from public.vouchers v
                         where v.created_at < cutoff and coalesce(v.valid_until, v.created_at) < cutoff
                           and not exists (select from public.voucher_redemptions r where r.voucher_id = v.id)
                         limit most for update of v skip locked);
        -- Again, under the locks: what was redeemed a moment ago is not seen by the statement above.
        delete from public.vouchers v
         where v.id = any (chosen) and v.created_at < cutoff and coalesce(v.valid_until, v.created_at) < cutoff
           and not exists (select from public.voucher_redemptions r where r.voucher_id = v.id);
        get diagnostics vouchers = row_count;
        outcome := 'success';
    exception when others then
        redemptions := 0; vouchers := 0;
        outcome := 'failure';
        error := lifecycle.first_line(sqlerrm);
    end;
    perform lifecycle.record_outcome('delete_expired_vouchers', '', error, jsonb_build_object(
        'redemptions', redemptions, 'vouchers', vouchers,
        'duration_ms', round(extract(epoch from clock_timestamp() - started) * 1000)));
    return next;
end $$;

revoke all on function public.delete_expired_vouchers(int), public.archived_chat_messages(uuid) from public;
do $$
declare
    api_role name;
begin
    for api_role in select r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated') loop
        execute format('revoke all on table lifecycle.retention_policies, lifecycle.restored_chat_sessions from %I', api_role);
        execute format('revoke all on function public.delete_expired_vouchers(int), public.archived_chat_messages(uuid) from %I',
                       api_role);
    end loop;
    for api_role in select r.rolname from pg_roles r where r.rolname in ('authenticated', 'service_role') loop
        execute format('grant execute on function public.archived_chat_messages(uuid) to %I', api_role);
    end loop;
end $$;
