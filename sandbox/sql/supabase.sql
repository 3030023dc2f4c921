-- What every Supabase database has before the application comes, as far as permissions can see it.
-- Run by supabase_admin in a database that `postgres` owns.

create schema extensions authorization postgres;
create schema auth;
grant usage on schema public, extensions, auth to anon, authenticated, service_role, postgres;

create table auth.users (
    id uuid primary key default gen_random_uuid(),
    email text unique,
    phone text unique,
    email_confirmed_at timestamptz,
    email_change text,
    raw_app_meta_data jsonb not null default '{}',
    raw_user_meta_data jsonb not null default '{}',
    created_at timestamptz not null default now(),
    deleted_at timestamptz
);
grant select, insert, update, delete, references on auth.users to postgres, service_role;

-- The setting is NULL when it was never made, '' once a transaction with SET LOCAL is over, JSON otherwise.
create function auth.jwt() returns jsonb
language sql stable set search_path = '' as $$
    select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb
$$;

create function auth.uid() returns uuid
language sql stable set search_path = '' as $$
    select nullif(auth.jwt() ->> 'sub', '')::uuid
$$;

create function auth.role() returns text
language sql stable set search_path = '' as $$
    select auth.jwt() ->> 'role'
$$;

create function auth.email() returns text
language sql stable set search_path = '' as $$
    select auth.jwt() ->> 'email'
$$;
