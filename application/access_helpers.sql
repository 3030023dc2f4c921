-- What the policies of access.yaml ask, once per statement rather than once per row. They run as their owner, who passes
-- row-level security by: a policy of vendor_members that asked vendor_members would go round in circles. Nobody has USAGE
-- on their schema, so nobody can name them; policies need EXECUTE only, which access.yaml grants.

-- Who signed in, as the token says; null where it names no user.
create or replace function private.my_user_id() returns uuid
language sql stable security definer set search_path = ''
as $$
select case when c.sub ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' then c.sub::uuid end
  from (select private.claims() ->> 'sub') c(sub)
$$;

-- The account of whoever signed in.
create or replace function private.my_account_id() returns uuid
language sql stable security definer set search_path = ''
as $$
select l.account_id from public.account_linkages l where l.supabase_user_id = (select private.my_user_id()) limit 1
$$;

-- Vendors of which the caller is a member now. A membership that names an account is that account's alone.
create or replace function private.my_vendor_ids() returns setof uuid
language sql stable security definer set search_path = ''
as $$
select m.vendor_id from public.vendor_members m
 where m.status = 'active'
   and (m.account_id = (select private.my_account_id())
        or m.account_id is null and m.supabase_user_id = (select private.my_user_id()))
$$;

-- Everybody who scans or ever scanned for these vendors: what a colleague who has left redeemed stays the vendor's.
create or replace function private.my_vendor_member_ids() returns setof uuid
language sql stable security definer set search_path = ''
as $$
select m.id from public.vendor_members m where m.vendor_id in (select v from private.my_vendor_ids() v)
$$;

-- Whether nobody signs in to this account, so that a browser which knows its id is all the proof there is.
create or replace function private.is_guest_account(account uuid) returns boolean
language sql stable security definer set search_path = ''
as $$
select exists (select from public.accounts a where a.id = account and a.status <> 'deleted')
       and not exists (select from public.account_linkages l
                        where l.account_id = account and l.supabase_user_id is not null)
$$;

-- A request from the future would never be due, one from long ago would jump the queue and its days of grace.
create or replace function private.is_new_request(request jsonb) returns boolean
language sql stable set search_path = ''
as $$
select request ->> 'status' = 'pending'
       and (request ->> 'requested_at')::timestamptz between now() - interval '1 day' and now() + interval '1 day'
       and request ->> 'processed_at' is null and request ->> 'completed_at' is null
       and request ->> 'processed_by' is null
$$;
