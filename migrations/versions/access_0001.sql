-- Policies and grants themselves are made from access.yaml after the revisions, and compared with the catalog each day.

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
comment on table lifecycle.accepted_access is 'Policies and grants as they stood when they were looked at: `lifecycle access accept` takes them as they are now. `declared` is the condition in access.yaml that a policy of ours was made from.';

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

-- Policies call their helpers by what they are, so nobody needs USAGE on the schema and nobody can name them.
do $$
begin
    if to_regnamespace('private') is null then
        create schema private;
        comment on schema private is 'lifecycle: helpers of policies; not exposed';
        revoke all on schema private from public;
    end if;
end $$;
