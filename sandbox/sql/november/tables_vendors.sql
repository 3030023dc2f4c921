-- Who offers it.

create table vendors (
    id uuid primary key default gen_random_uuid(),
    name text not null,
    contact_email text,
    contact_phone text,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now()
);

create table vendor_members (
    id uuid primary key default gen_random_uuid(),
    vendor_id uuid not null references vendors (id) on delete cascade,
    account_id uuid references accounts (id) on delete set null,
    supabase_user_id uuid,
    role text not null check (role in ('admin', 'staff')),
    invited_at timestamptz,
    joined_at timestamptz,
    status text not null default 'active',
    unique (vendor_id, account_id)
);
create index vendor_members_account_id_idx on vendor_members (account_id);
create index vendor_members_vendor_id_idx on vendor_members (vendor_id);

create table activity_vendor_map (
    activity_id uuid not null references activities (id) on delete cascade,
    vendor_id uuid not null references vendors (id) on delete cascade,
    relationship_type text not null check (relationship_type in ('owner', 'partner')),
    primary key (activity_id, vendor_id)
);
