-- Who may see what. Policies and grants themselves are made by `lifecycle migrate` from lifecycle/access_policies, after
-- the last revision: they are declared as data and compared with the catalog each day.

create table lifecycle.access_changes (
    id         bigint generated always as identity primary key,
    changed_at timestamptz not null default now(),
    object     text not null,
    change     text not null check (change in ('revoke', 'grant', 'grant option', 'row security', 'policy roles')),
    subject    text not null,
    detail     text not null default '',
    grantable  boolean not null default false,
    repaired   boolean not null
);
comment on table lifecycle.access_changes is 'What `lifecycle migrate` closed and opened: the way back, and the list of what was exposed before. `repaired`: it had been as declared already, and the way back leaves it so.';

create table lifecycle.accepted_access (
    object      text not null,
    kind        text not null check (kind in ('policy', 'grant')),
    subject     text not null,
    definition  text not null,
    declared    text,
    accepted_at timestamptz not null default now(),
    primary key (object, kind, subject)
);
comment on table lifecycle.accepted_access is 'Policies and grants as they stood when they were looked at: `lifecycle access accept` takes them as they are now. `declared` is the condition in lifecycle/access_policies that a policy of ours was made from.';

-- The role that the API becomes for a token with the claim role=ops. -------------------------------------------

do $$
declare
    held record;
begin
    select r.* into held from pg_catalog.pg_roles r where r.rolname = 'ops';
    if held.rolname is null then
        begin
            create role ops nologin noinherit;
        exception
            when duplicate_object or unique_violation then null;  -- another database of the server made it meanwhile
            when insufficient_privilege then
                raise exception 'the role "ops" does not exist, and "%" may not make roles', current_user
                    using errcode = 'insufficient_privilege',
                          hint = 'Run as a role with CREATEROLE (on Supabase postgres): create role ops nologin noinherit; then lifecycle migrate again.';
        end;
    elsif held.rolsuper or held.rolbypassrls or held.rolcreaterole or held.rolreplication or held.rolcanlogin then
        raise exception 'a role "ops" exists that may do more than read: superuser, BYPASSRLS, CREATEROLE, REPLICATION or LOGIN'
            using errcode = 'duplicate_object',
                  hint = 'Rename it, or take these rights from it (alter role ops nosuperuser nobypassrls nocreaterole noreplication nologin); then lifecycle migrate again.';
    elsif exists (select from pg_catalog.pg_auth_members m where m.member = held.oid) then
        raise exception 'a role "ops" exists that is a member of other roles: %',
            (select string_agg(m.roleid::regrole::text, ', ') from pg_catalog.pg_auth_members m where m.member = held.oid)
            using errcode = 'duplicate_object',
                  hint = 'Rename it, or revoke these roles from it; then lifecycle migrate again.';
    end if;
    if exists (select from pg_catalog.pg_roles r where r.rolname = 'authenticator')
       and not pg_catalog.pg_has_role('authenticator', 'ops', 'member') then
        begin
            grant ops to authenticator;
        exception when insufficient_privilege then
            raise exception '"%" may not make the API''s login role a member of "ops"', current_user
                using errcode = 'insufficient_privilege',
                      hint = 'Run as the role that made ops: grant ops to authenticator; then lifecycle migrate again.';
        end;
    end if;
    if not pg_catalog.has_schema_privilege('ops', 'public', 'usage') then
        grant usage on schema public to ops;
    end if;
end $$;

-- Helpers of policies. Policies call them by what they are, so nobody needs USAGE on the schema and nobody can name
-- them. Their owner passes row-level security by: a policy of vendor_members that asked vendor_members would go round
-- in circles.

do $$
begin
    if to_regnamespace('private') is null then
        create schema private;
        comment on schema private is 'lifecycle: helpers of policies; not exposed';
        revoke all on schema private from public;
    end if;
end $$;

-- The caller's claims. None, the empty string that SET LOCAL leaves behind, and what is no JSON are no claims.
create function private.claims() returns jsonb
language plpgsql stable set search_path = ''
as $$
begin
    return coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb;
exception when data_exception then
    return '{}';
end $$;

-- Only the top of the claims counts: what a person can write of himself stands in user_metadata.
create function public.is_ops_role() returns boolean
language sql stable set search_path = ''
return coalesce(private.claims() ->> 'role' = 'ops', false);

create function private.my_user_id() returns uuid
language sql stable security definer set search_path = ''
return (select case when c.sub ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' then c.sub::uuid end
          from (select private.claims() ->> 'sub') c(sub));

create function private.my_account_id() returns uuid
language sql stable security definer set search_path = ''
return (select l.account_id from public.account_linkages l where l.supabase_user_id = (select private.my_user_id()) limit 1);

-- Vendors of which the caller is a member now. A membership that names an account is that account's alone.
create function private.my_vendor_ids() returns setof uuid
language sql stable security definer set search_path = ''
begin atomic
    select m.vendor_id from public.vendor_members m
     where m.status = 'active'
       and (m.account_id = (select private.my_account_id())
            or m.account_id is null and m.supabase_user_id = (select private.my_user_id()));
end;

-- Everybody who scans or ever scanned for these vendors: what a colleague who has left redeemed stays the vendor's.
create function private.my_vendor_member_ids() returns setof uuid
language sql stable security definer set search_path = ''
begin atomic
    select m.id from public.vendor_members m where m.vendor_id in (select v from private.my_vendor_ids() v);
end;

-- Whether nobody signs in to this account, so that a browser which knows its id is all the proof there is.
create function private.is_guest_account(account uuid) returns boolean
language sql stable security definer set search_path = ''
return exists (select from public.accounts a where a.id = account and a.status <> 'deleted')
       and not exists (select from public.account_linkages l where l.account_id = account and l.supabase_user_id is not null);

-- New functions are open to everyone, in some projects to the API's roles by name.
select lifecycle.close_to_readers(
    array['lifecycle.access_changes', 'lifecycle.accepted_access']::regclass[],
    array['private.claims', 'private.my_user_id', 'private.my_account_id', 'private.my_vendor_ids',
          'private.my_vendor_member_ids', 'private.is_guest_account', 'public.is_ops_role']);
-- Some of revision 0007 stayed open, behind a schema that is closed. Triggers need no EXECUTE to fire.
revoke all on all routines in schema lifecycle from public;

grant execute on function private.claims(), public.is_ops_role() to ops;
do $$
declare
    caller text;
begin
    for caller in select r.rolname from pg_catalog.pg_roles r where r.rolname in ('anon', 'authenticated') loop
        execute format('grant execute on function private.my_account_id(), private.is_guest_account(uuid) to %I', caller);
        if caller = 'authenticated' then
            execute format('grant execute on function private.my_user_id(), private.my_vendor_ids(), private.my_vendor_member_ids() to %I', caller);
        end if;
    end loop;
end $$;
