create table lifecycle.deletion_requests (
    id           bigint generated always as identity primary key,
    person       text not null,
    status       text not null default 'pending' check (status in ('pending', 'processing', 'completed', 'failed')),
    reason       text,
    requested_at timestamptz not null default now(),
    processed_at timestamptz,
    completed_at timestamptz,
    processed_by text,
    notes        text
);
create index deletion_requests_person_idx on lifecycle.deletion_requests (person);
comment on table lifecycle.deletion_requests is 'Who asked to be erased, where the application has no table for it; written by request_erasure().';
