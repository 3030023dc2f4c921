-- What policies of this project ask about the caller. Facts of the application stand in its own folder.

-- The caller's claims. None, the empty string that SET LOCAL leaves behind, and what is no JSON are no claims. Helpers of
-- the application ask it as their owner: who calls them has no USAGE on the schema.
create or replace function private.claims() returns jsonb
language plpgsql stable set search_path = ''
as $$
begin
    return coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb;
exception when data_exception then
    return '{}';
end $$;

-- Only the top of the claims counts: what a person can write of himself stands in user_metadata. With the caller's
-- rights, so it cannot name the function above.
create or replace function public.is_ops_role() returns boolean
language plpgsql stable set search_path = ''
as $$
begin
    return coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' = 'ops', false);
exception when data_exception then
    return false;
end $$;
