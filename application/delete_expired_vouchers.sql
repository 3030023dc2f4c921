-- The vouchers past retention by their own name, for psql and Supabase's scheduler: expiry.yaml says which those are.
-- Call it until it deletes none.
create or replace function public.delete_expired_vouchers(batch_size int default null)
returns table (redemptions bigint, vouchers bigint, outcome text, error text)
language sql set search_path = ''
as $$
    select (d.deleted ->> 'voucher_redemptions')::bigint, (d.deleted ->> 'vouchers')::bigint, d.outcome, d.error
      from lifecycle.delete_expired_rows('delete_expired_vouchers', batch_size) d
$$;
