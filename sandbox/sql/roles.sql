-- The roles of a hosted Supabase server that matter to permissions, once per server, run by supabase_admin.

create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;

-- The one role that the API logs in with; it then becomes one of the three above.
create role authenticator login noinherit;
grant anon, authenticated, service_role to authenticator;

-- Owner of everything the application makes. Not a superuser.
create role postgres login createdb createrole replication bypassrls;
grant anon, authenticated, service_role to postgres;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role postgres set statement_timeout = '2min';
