-- Projects since 2026: nothing is granted by itself, so the application grants what its own API needs.

grant select, insert, update, delete on all tables in schema public to anon, authenticated, service_role;
grant execute on all functions in schema public to anon, authenticated, service_role;
