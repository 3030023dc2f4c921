-- Chats with the assistant, and the activities that it drafted.

create table chat_sessions (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    session_type chat_session_type not null default 'assistant',
    state jsonb not null default '{}',
    started_at timestamptz not null default now(),
    last_activity_at timestamptz not null default now(),
    closed_at timestamptz,
    metadata jsonb not null default '{}',
    title text not null default 'New chat'
);
create index chat_sessions_account_id_last_activity_idx on chat_sessions (account_id, last_activity_at desc);
create index chat_sessions_account_id_started_at_idx on chat_sessions (account_id, started_at desc);

create table chat_messages (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references chat_sessions (id) on delete cascade,
    role text not null check (role in ('user', 'assistant', 'tool')),
    content text not null,
    tool_calls jsonb,
    latency_ms integer,
    created_at timestamptz not null default now(),
    metadata jsonb not null default '{}',
    sequence bigint not null
);
create index chat_messages_session_id_created_at_idx on chat_messages (session_id, created_at);
create unique index chat_messages_session_sequence_idx on chat_messages (session_id, sequence);

create table chat_session_summaries (
    session_id uuid primary key references chat_sessions (id) on delete cascade,
    summary text not null,
    title_suggestion text,
    last_message_excerpt text,
    tags text[] default '{}',
    updated_at timestamptz not null default now()
);

create table generated_activities (
    id uuid primary key default gen_random_uuid(),
    chat_session_id uuid references chat_sessions (id) on delete set null,
    draft_slug text,
    title text not null,
    summary text,
    body_mdx text not null,
    source_place_id text,
    status generated_activity_status not null default 'draft',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    metadata jsonb not null default '{}'
);
create index generated_activities_chat_session_id_idx on generated_activities (chat_session_id);
create index generated_activities_status_idx on generated_activities (status);

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
create index generated_activity_saves_account_id_idx on generated_activity_saves (account_id);
