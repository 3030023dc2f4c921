-- What is recorded while people use the application. Only the audit trail has row-level security.

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
create index user_behavior_events_page_url_idx on user_behavior_events (page_url);
create index user_behavior_events_session_id_idx on user_behavior_events (session_id, event_timestamp desc);
create index user_behavior_events_timestamp_idx on user_behavior_events (event_timestamp desc);

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
create index business_metrics_events_experience_slug_idx on business_metrics_events (experience_slug);
create index business_metrics_events_session_id_idx on business_metrics_events (session_id, event_timestamp desc);
create index business_metrics_events_timestamp_idx on business_metrics_events (event_timestamp desc);

create table session_replay_events (
    id uuid primary key default gen_random_uuid(),
    session_id text not null,
    event_type text not null,
    event_data jsonb not null,
    "timestamp" timestamptz not null default now()
);
create index session_replay_events_session_id_idx on session_replay_events (session_id, "timestamp");
create index session_replay_events_timestamp_idx on session_replay_events ("timestamp" desc);

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
create index audit_events_created_at_idx on audit_events (created_at desc);
create index audit_events_entity_type_entity_id_idx on audit_events (entity_type, entity_id);

comment on table user_behavior_events is 'One row per page view, sent by the browser; event_timestamp is its clock';
comment on table business_metrics_events is 'Funnel, revenue and journey, sent by the browser';
comment on table session_replay_events is 'Mouse, scrolling and typed text of a visit; names no account';
comment on table search_queries is 'Searches and what was clicked of their results';
