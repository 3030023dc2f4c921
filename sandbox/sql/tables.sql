-- The application's types, tables and indexes. Constraints carry PostgreSQL's default names.

create type account_status as enum ('active', 'suspended', 'deleted');
create type activity_status as enum ('draft', 'published', 'archived');
create type booking_status as enum ('pending', 'confirmed', 'redeemed', 'cancelled');
create type chat_session_type as enum ('assistant', 'vendor_support', 'system');
create type deletion_request_status as enum ('pending', 'processing', 'completed', 'failed');
create type generated_activity_save_source as enum ('chat', 'recommendation', 'manual');
create type generated_activity_status as enum ('draft', 'approved', 'rejected', 'published');
create type interaction_source_type as enum ('manual', 'quiz', 'recommendation', 'chat', 'migration');
create type interaction_type as enum ('like', 'bookmark', 'view', 'share', 'book', 'qr_scan', 'ai_save');
create type job_status as enum ('queued', 'processing', 'ready', 'failed');
create type quiz_result_type as enum ('travel_type', 'destination_cluster');
create type quiz_session_status as enum ('in_progress', 'completed', 'abandoned');
create type recommendation_trigger as enum ('quiz_result', 'chat_prompt', 'manual', 'cron');

-- People -----------------------------------------------------------------------------------------------------

create table accounts (
    id uuid primary key default gen_random_uuid(),
    status account_status not null default 'active',
    onboarding_state jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table account_linkages (
    account_id uuid not null references accounts (id) on delete cascade,
    supabase_user_id uuid unique,
    provider_type text not null default 'supabase',
    linked_at timestamptz not null default now(),
    metadata jsonb not null default '{}',
    primary key (account_id, provider_type)
);

create table account_metadata (
    account_id uuid primary key references accounts (id) on delete cascade,
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

-- What they can do -------------------------------------------------------------------------------------------

create table activities (
    id uuid primary key default gen_random_uuid(),
    slug text not null unique,
    title text not null,
    summary text,
    description text,
    status activity_status not null default 'draft',
    google_place_id text,
    duration_minutes integer,
    price_tier text,
    metadata jsonb not null default '{}',
    is_active boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table activity_tags (
    id uuid primary key default gen_random_uuid(),
    slug text not null unique,
    name text not null,
    color text,
    is_active boolean not null default true,
    created_at timestamptz not null default now()
);

create table activity_tag_map (
    activity_id uuid not null references activities (id) on delete cascade,
    tag_id uuid not null references activity_tags (id) on delete cascade,
    primary key (activity_id, tag_id)
);

create table activity_interactions (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    activity_id uuid references activities (id) on delete restrict,
    activity_slug text not null,
    interaction_type interaction_type not null,
    source_type interaction_source_type,
    source_id uuid,
    score_delta integer,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create unique index unique_like_interactions on activity_interactions (account_id, activity_id, interaction_type)
    where interaction_type in ('like', 'bookmark', 'ai_save');
create index activity_interactions_account_id_created_at_idx on activity_interactions (account_id, created_at desc);
create index activity_interactions_slug_type_idx on activity_interactions (activity_slug, interaction_type);

-- Quizzes and recommendations --------------------------------------------------------------------------------

create table quiz_forms (
    id uuid primary key default gen_random_uuid(),
    version integer not null default 1,
    definition jsonb not null default '{}',
    published boolean not null default false,
    created_at timestamptz not null default now()
);

create table quiz_sessions (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    quiz_form_id uuid references quiz_forms (id) on delete set null,
    status quiz_session_status not null default 'in_progress',
    started_at timestamptz not null default now(),
    completed_at timestamptz,
    location_permission boolean,
    metadata jsonb not null default '{}'
);
create index quiz_sessions_account_id_started_at_idx on quiz_sessions (account_id, started_at desc);

create table quiz_answers (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references quiz_sessions (id) on delete cascade,
    question_ref text not null,
    answer_value jsonb not null,
    answered_at timestamptz not null default now()
);
create index quiz_answers_session_id_idx on quiz_answers (session_id);

create table quiz_results (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references quiz_sessions (id) on delete cascade,
    account_id uuid not null references accounts (id) on delete cascade,
    result_type quiz_result_type not null,
    travel_type_code text,
    travel_type_payload jsonb,
    recommendation_snapshot jsonb,
    created_at timestamptz not null default now()
);
create index quiz_results_account_id_created_at_idx on quiz_results (account_id, created_at desc);
create index quiz_results_session_id_idx on quiz_results (session_id);

create table recommendation_runs (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    trigger recommendation_trigger not null,
    input_payload jsonb not null default '{}',
    model_metadata jsonb not null default '{}',
    status job_status not null default 'queued',
    created_at timestamptz not null default now(),
    completed_at timestamptz
);
create index recommendation_runs_account_id_created_at_idx on recommendation_runs (account_id, created_at desc);

create table recommendation_items (
    id uuid primary key default gen_random_uuid(),
    run_id uuid not null references recommendation_runs (id) on delete cascade,
    activity_id uuid references activities (id) on delete set null,
    place_id text,
    rank integer not null,
    score numeric,
    presentation_payload jsonb not null default '{}',
    presented_at timestamptz,
    clicked_at timestamptz,
    dismissed_at timestamptz
);
create index recommendation_items_run_id_rank_idx on recommendation_items (run_id, rank);

-- Conversations ----------------------------------------------------------------------------------------------

create table chat_sessions (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    session_type chat_session_type not null default 'assistant',
    title text,
    state jsonb not null default '{}',
    started_at timestamptz not null default now(),
    last_activity_at timestamptz not null default now(),
    closed_at timestamptz,
    metadata jsonb not null default '{}'
);
create index chat_sessions_account_id_started_at_idx on chat_sessions (account_id, started_at desc);

create table chat_messages (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references chat_sessions (id) on delete cascade,
    role text not null check (role in ('user', 'assistant', 'tool')),
    content text not null,
    tool_calls jsonb,
    latency_ms integer,
    created_at timestamptz not null default now()
);
create index chat_messages_session_id_created_at_idx on chat_messages (session_id, created_at);

create table generated_activities (
    id uuid primary key default gen_random_uuid(),
    chat_session_id uuid references chat_sessions (id) on delete set null,
    draft_slug text,
    title text not null,
    summary text,
    body_mdx text not null,
    source_place_id text,
    status generated_activity_status not null default 'draft',
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table generated_activity_saves (
    id uuid primary key default gen_random_uuid(),
    generated_activity_id uuid not null references generated_activities (id) on delete cascade,
    account_id uuid not null references accounts (id) on delete cascade,
    source generated_activity_save_source not null,
    interaction_id uuid,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    unique (generated_activity_id, account_id)
);

-- Bookings, vouchers, vendors --------------------------------------------------------------------------------

create table form_submissions (
    id uuid primary key default gen_random_uuid(),
    activity_id uuid references activities (id),
    experience_slug text not null default '',
    experience_title text not null default '',
    account_id uuid references accounts (id),
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
    status booking_status not null default 'pending',
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

create table voucher_redemptions (
    id uuid primary key default gen_random_uuid(),
    voucher_id uuid not null references vouchers (id) on delete cascade,
    vendor_member_id uuid,
    scan_context jsonb not null default '{}',
    scanned_at timestamptz not null default now()
);
create index voucher_redemptions_voucher_id_scanned_at_idx on voucher_redemptions (voucher_id, scanned_at desc);

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
create index vendor_members_vendor_id_idx on vendor_members (vendor_id);
create index vendor_members_account_id_idx on vendor_members (account_id);

-- What is recorded -------------------------------------------------------------------------------------------

create table user_behavior_events (
    id uuid primary key default gen_random_uuid(),
    account_id uuid references accounts (id) on delete set null,
    session_id text not null,
    event_timestamp timestamptz not null default now(),
    page_url text not null,
    user_agent text,
    screen_resolution text,
    viewport_size text,
    language text,
    timezone text,
    referrer text,
    actions jsonb not null default '[]',
    performance jsonb,
    engagement jsonb,
    created_at timestamptz not null default now()
);
create index user_behavior_events_account_id_idx on user_behavior_events (account_id, event_timestamp desc);
create index user_behavior_events_session_id_idx on user_behavior_events (session_id, event_timestamp desc);
create index user_behavior_events_timestamp_idx on user_behavior_events (event_timestamp desc);
create index user_behavior_events_page_url_idx on user_behavior_events (page_url);
comment on table user_behavior_events is 'One row per page view, sent by the browser; event_timestamp is its clock';
comment on column user_behavior_events.event_timestamp is 'Clock of the visitor''s device, not of the server';
comment on column user_behavior_events.engagement is 'timeOnPage in seconds, scrollDepth in percent';

create table business_metrics_events (
    id uuid primary key default gen_random_uuid(),
    account_id uuid references accounts (id) on delete set null,
    session_id text not null,
    event_timestamp timestamptz not null default now(),
    page_url text not null,
    experience_slug text,
    experience_title text,
    conversion_funnel jsonb,
    revenue_metrics jsonb,
    user_journey jsonb,
    content_performance jsonb,
    customer_satisfaction jsonb,
    created_at timestamptz not null default now()
);
create index business_metrics_events_account_id_idx on business_metrics_events (account_id, event_timestamp desc);
create index business_metrics_events_session_id_idx on business_metrics_events (session_id, event_timestamp desc);
create index business_metrics_events_timestamp_idx on business_metrics_events (event_timestamp desc);
create index business_metrics_events_experience_slug_idx on business_metrics_events (experience_slug);

create table session_replay_events (
    id uuid primary key default gen_random_uuid(),
    session_id text not null,
    event_type text not null,
    event_data jsonb not null,
    "timestamp" timestamptz not null default now()
);
create index session_replay_events_session_id_idx on session_replay_events (session_id, "timestamp");
create index session_replay_events_timestamp_idx on session_replay_events ("timestamp" desc);
comment on column session_replay_events.event_data is 'What the visitor did, typed text included';

create table search_queries (
    id uuid primary key default gen_random_uuid(),
    account_id uuid references accounts (id) on delete set null,
    session_id text,
    search_query text not null,
    search_source text,
    search_context jsonb,
    page_url text,
    results_count integer,
    clicked_result_id uuid,
    clicked_result_position integer,
    searched_at timestamptz not null default now(),
    created_at timestamptz not null default now()
);
create index search_queries_account_id_idx on search_queries (account_id, searched_at desc);
create index search_queries_query_idx on search_queries (search_query, searched_at desc);
create index search_queries_searched_at_idx on search_queries (searched_at desc);

create table audit_events (
    id uuid primary key default gen_random_uuid(),
    entity_type text not null,
    entity_id text not null,
    event_type text not null,
    performed_by uuid,
    payload jsonb not null default '{}',
    created_at timestamptz not null default now()
);
create index audit_events_entity_idx on audit_events (entity_type, entity_id);
create index audit_events_created_at_idx on audit_events (created_at desc);
