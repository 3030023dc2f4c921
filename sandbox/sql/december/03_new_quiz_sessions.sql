-- Accounts take in what profiles held; a quiz becomes one row, in a new table under the old name.

alter table accounts
    add column if not exists profile jsonb default '{}',
    add column if not exists utm_source jsonb default '{}',
    add column if not exists last_seen_at timestamptz default now();

-- Constraints and indexes of the old table keep their names, so those of the new one cannot have them.
do $$
begin
    if exists (select from information_schema.tables where table_name = 'quiz_sessions') then
        alter table quiz_sessions rename to quiz_sessions_legacy;
    end if;
end
$$;

create table quiz_sessions (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    status quiz_session_status not null default 'started',
    current_step integer default 0,
    last_question_id text,
    travel_type_code text,
    travel_type_payload jsonb,
    answers jsonb default '{}',
    result jsonb default null,
    metadata jsonb default '{}',
    started_at timestamptz default now(),
    completed_at timestamptz,
    updated_at timestamptz default now()
);
create index if not exists idx_quiz_sessions_account_id on quiz_sessions (account_id);
create index if not exists idx_quiz_sessions_status_updated on quiz_sessions (status, updated_at desc);
create index if not exists idx_quiz_sessions_dropoff_analysis on quiz_sessions (last_question_id)
    where status = 'abandoned';

create or replace function touch_updated_at() returns trigger
language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end
$$;
drop trigger if exists touch_quiz_sessions_updated_at on quiz_sessions;
create trigger touch_quiz_sessions_updated_at before update on quiz_sessions
    for each row execute function touch_updated_at();
