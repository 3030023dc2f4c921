create table lifecycle.job_history (
    id      bigint generated always as identity primary key,
    kind    text not null,
    subject text not null,
    event   text not null,
    payload jsonb not null,
    at      timestamptz not null default now()
);
create index job_history_at_idx on lifecycle.job_history (at);
comment on table lifecycle.job_history is 'What jobs did, where the application declares no ledger of its own. Kept 13 months.';
comment on table lifecycle.ledger_policy is 'The table of what happened: the application''s as database.yaml declares it, else lifecycle.job_history.';
