-- Booking forms and the vouchers that come of them. Forms name the guest; account_id refers to nothing.

create table form_submissions (
    id uuid primary key default gen_random_uuid(),
    activity_id uuid references activities (id),
    experience_slug text not null default '',
    experience_title text not null default '',
    account_id uuid,
    email text not null,
    phone_number text,
    first_name text,
    last_name text,
    country text,
    nationality text,
    visit_purposes text[],
    travel_issues text[],
    agree_to_terms boolean not null default true,
    coupon_code text,
    booking_date date,
    status text not null default 'pending',
    scans_used integer not null default 0,
    max_scans integer default 3,
    qr_code_data jsonb,
    user_agent text,
    ip_address text,
    referrer text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table vouchers (
    id uuid primary key default gen_random_uuid(),
    form_submission_id uuid not null references form_submissions (id) on delete cascade,
    voucher_code text not null unique,
    qr_token text,
    valid_from timestamptz,
    valid_until timestamptz,
    max_redemptions integer not null default 1,
    redemptions_used integer not null default 0,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now()
);
create index vouchers_form_submission_id_idx on vouchers (form_submission_id);
create index vouchers_voucher_code_idx on vouchers (voucher_code);

create table voucher_redemptions (
    id uuid primary key default gen_random_uuid(),
    voucher_id uuid not null references vouchers (id) on delete cascade,
    vendor_member_id uuid,
    scan_context jsonb not null default '{}',
    scanned_at timestamptz not null default now()
);
create index voucher_redemptions_voucher_id_scanned_at_idx on voucher_redemptions (voucher_id, scanned_at desc);
