-- People: the account, how it signs in, what it prefers and consents to, and whether it wants to go.

create table accounts (
    id uuid primary key default gen_random_uuid(),
    status account_status not null default 'active',
    onboarding_state jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table account_linkages (
    account_id uuid not null,
    supabase_user_id uuid unique,
    provider_type text not null default 'supabase',
    linked_at timestamptz not null default now(),
    metadata jsonb not null default '{}',
    primary key (account_id, provider_type)
);

create table account_metadata (
    account_id uuid primary key,
    quiz_state jsonb,
    last_synced_at timestamptz,
    flags jsonb default '{}'
);

create table account_profiles (
    account_id uuid primary key references accounts (id) on delete cascade,
    display_name text,
    locale text,
    timezone text,
    demographics jsonb not null default '{}',
    preferences jsonb not null default '{}',
    updated_at timestamptz not null default now()
);
create index account_profiles_locale_idx on account_profiles (locale);
create index account_profiles_timezone_idx on account_profiles (timezone);

create table consent_history (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    consent_version text not null,
    preferences jsonb not null,
    ip_address inet,
    user_agent text,
    created_at timestamptz not null default now()
);
create index consent_history_account_id_idx on consent_history (account_id, created_at desc);
create index consent_history_created_at_idx on consent_history (created_at desc);

create table data_deletion_requests (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    request_reason text,
    status deletion_request_status not null default 'pending',
    requested_at timestamptz not null default now(),
    processed_at timestamptz,
    completed_at timestamptz,
    processed_by text,
    notes text
);
create index data_deletion_requests_account_id_idx on data_deletion_requests (account_id);
create index data_deletion_requests_status_idx on data_deletion_requests (status, requested_at);

comment on column account_profiles.preferences is
    'consent.preferences (necessary, analytics, marketing, personalization), notifications, display';
comment on table consent_history is 'Every consent as it was given, with address and device';
comment on table data_deletion_requests is 'Accounts that asked to be deleted';
