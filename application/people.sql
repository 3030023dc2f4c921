-- What only this application knows of its people.

-- Of these accounts those that must not be erased yet: the only admin of a vendor who stays.
create or replace function lifecycle.sole_admins(people text[]) returns table (person text, reason text)
language sql stable set search_path = ''
as $$
    select distinct m.account_id::text, 'the only admin of a vendor; make somebody else admin first'
      from unnest(people) p(id)
      join public.vendor_members m on m.account_id = p.id::uuid and m.role = 'admin' and m.status = 'active'
     where not exists (
        select from lifecycle.staying(array(
            select o.account_id::text from public.vendor_members o
             where o.vendor_id = m.vendor_id and o.role = 'admin' and o.status = 'active'
               and o.account_id <> m.account_id)))
$$;

-- Of these addresses those with which somebody signs in who stays: they tie no row to the one who leaves.
create or replace function lifecycle.addresses_of_others(keys text[]) returns setof text
language plpgsql stable set search_path = '' set plan_cache_mode = 'force_custom_plan'
as $$
declare
    addresses text[];
    owners    text[];
begin
    if lifecycle.reachable('auth.users') is null then
        return;
    end if;
    select array_agg(lower(btrim(u.email))), array_agg(l.account_id::text) into addresses, owners
      from unnest(keys) k(address)
      join auth.users u on u.email = k.address and u.email_confirmed_at is not null
      join public.account_linkages l on l.supabase_user_id = u.id;
    return query
        select distinct a.address from unnest(addresses, owners) a(address, owner)
          join lifecycle.staying(owners) s(person) on s.person = a.owner;
end $$;
