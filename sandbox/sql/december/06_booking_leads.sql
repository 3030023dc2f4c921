-- Who wanted to book where: name, e-mail and address of people with and without an account.

create table if not exists booking_leads (
    id uuid primary key default gen_random_uuid(),
    account_id uuid,
    place_id text not null,
    place_name text not null,
    full_name text not null,
    email text not null,
    booking_url text,
    page_url text,
    ip_address text,
    user_agent text,
    referrer text,
    created_at timestamptz not null default now()
);
alter table booking_leads
    add constraint booking_leads_account_id_fkey foreign key (account_id) references accounts (id) on delete set null;

create index if not exists booking_leads_created_at_idx on booking_leads (created_at desc);
create index if not exists booking_leads_account_id_idx on booking_leads (account_id, created_at desc);
create index if not exists booking_leads_place_id_idx on booking_leads (place_id, created_at desc);
create index if not exists booking_leads_email_idx on booking_leads (email, created_at desc);
alter table booking_leads enable row level security;
comment on table booking_leads is 'Bookings that somebody began, by account and place';
