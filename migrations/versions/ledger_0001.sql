-- What is wrong now, and the messages about it. Both are written in the transaction that found the fault, so a
-- message cannot be lost between the two; a sensor hands the messages to Slack until Slack says ok.
create table lifecycle.open_problems (
    job       text not null,
    cause     text not null,
    error     text not null,
    run_id    text,
    times     int not null default 1,
    since     timestamptz not null default now(),
    last_seen timestamptz not null default now(),
    primary key (job, cause)
);
comment on table lifecycle.open_problems is 'What fails at present. One row per job and cause (a view, a table, a check, or the run itself); gone when it works again.';

create table lifecycle.notifications (
    id              bigint generated always as identity primary key,
    kind            text not null check (kind in ('failure', 'recovery', 'report')),
    job             text not null,
    content         jsonb not null default '{}',
    created_at      timestamptz not null default now(),
    closed_at       timestamptz,
    version         int not null default 1,
    sent_version    int not null default 0,
    channel         text,
    message_ts      text,
    in_doubt        boolean not null default false,
    attempts        int not null default 0,
    next_attempt_at timestamptz not null default now(),
    claimed_until   timestamptz,
    last_error      text
);
comment on table lifecycle.notifications is 'Outbox of messages for people. Waiting while sent_version < version; a message that was sent and then changed is edited in place.';
comment on column lifecycle.notifications.in_doubt is 'An attempt to send it ended without an answer: Slack may have it, so it is looked for before it is sent again.';
create unique index notifications_open_failure_idx on lifecycle.notifications (job)
    where kind = 'failure' and closed_at is null;
create index notifications_waiting_idx on lifecycle.notifications (id) where sent_version < version;

create table lifecycle.ledger_policy (
    singleton      boolean primary key default true check (singleton),
    schema_name    text not null,
    table_name     text not null,
    kind_column    text not null,
    subject_column text not null,
    event_column   text not null,
    payload_column text not null,
    at_column      text not null
);
comment on table lifecycle.ledger_policy is 'The application''s table of what happened, as database.yaml declares it; no row when it declares none.';

create table lifecycle.recorded_runs (
    run_id      text primary key,
    recorded_at timestamptz not null default now()
);
comment on table lifecycle.recorded_runs is 'Runs of Dagster whose end was written to the ledger, so that each is written once. Kept 90 days.';
