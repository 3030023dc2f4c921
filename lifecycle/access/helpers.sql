-- What policies of this project ask about the caller. Facts of the application stand in its own folder.

-- The caller's claims. None, the empty string that SET LOCAL leaves behind, and what is no JSON are no claims.
create or replace function private.claims() returns jsonb
language plpgsql stable set search_path = ''
as $$
begin
    return coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb;
exception when data_exception then
    return '{}';
end $$;

-- Only the top of the claims counts: what a person can write of himself stands in user_metadata.
create or replace function public.is_ops_role() returns boolean
language sql stable set search_path = ''
as $$
select coalesce(private.claims() ->> 'role' = 'ops', false)
$$;
