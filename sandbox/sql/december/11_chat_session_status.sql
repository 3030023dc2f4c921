alter table chat_sessions
    add column if not exists status text not null default 'active',
    add column if not exists session_end_reason text;
create index if not exists chat_sessions_status_idx on chat_sessions (status);
