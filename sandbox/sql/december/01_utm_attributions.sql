-- Where an account came from.

create table if not exists account_utm_attributions (
    account_id uuid primary key references accounts (id) on delete cascade,
    first_touch jsonb,
    last_touch jsonb,
    first_touch_at timestamptz,
    last_touch_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index if not exists account_utm_attributions_last_touch_at_idx
    on account_utm_attributions (last_touch_at desc nulls last);

alter table account_utm_attributions enable row level security;
create policy "Service role can manage UTM attributions" on account_utm_attributions
    using (is_service_role())
    with check (is_service_role());
create policy "Accounts can view own UTM attribution" on account_utm_attributions for select
    using (account_id = auth_account_id());
