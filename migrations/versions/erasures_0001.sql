-- Deletion requests carried out: the map of personal data, jobs, keys, findings, receipts. Relations of the application
-- stand here as text (`schema.name`, quoted as PostgreSQL quotes), ids of persons and requests as text, too: they are cast
-- to the type of the column that they are compared with.
create table lifecycle.erasure_policy (
    singleton          boolean primary key default true check (singleton),
    version            text not null,
    grace              interval not null check (grace >= interval '0'),
    deadline           interval not null,
    lease              interval not null check (lease > interval '0'),
    batch_size         int not null check (batch_size > 0),
    chunk_size         int not null check (chunk_size > 0),
    reach              int not null check (reach > 0),
    first_pause        interval not null,
    longest_pause      interval not null,
    tries_until_failed int not null,
    lock_timeout_ms    int not null,
    late_window        interval not null,
    calendar           text not null,
    managed_schemas    text[] not null,
    person_table       text not null,
    person_column      text not null,
    erased_column      text,
    erased_value       text,
    hold_function      text,
    request_table      text not null,
    request_id         text not null,
    request_person     text not null,
    request_status     text not null,
    word_pending       text not null,
    word_processing    text not null,
    word_completed     text not null,
    word_failed        text not null,
    requested_at       text not null,
    processed_at       text,
    completed_at       text,
    processed_by       text,
    request_notes      text,
    request_reason     text,
    sign_in_table      text,
    sign_in_id         text,
    sign_in_kind       text,
    sign_in_used_table text,
    sign_in_used_column text
);
comment on table lifecycle.erasure_policy is 'One row: who a person is, which table holds requests, how patient we are. Written by `lifecycle migrate` from personal_data.yaml and lifecycle/erasures/policy.py.';

create table lifecycle.erasure_key_kinds (
    position   int not null,
    kind       text primary key,
    form       text not null check (form in ('id', 'address', 'name', 'machine')),
    pattern    text,
    searched   boolean not null,
    remembered boolean not null
);
create table lifecycle.erasure_key_sources (
    kind         text not null,
    position     int not null,
    table_name   text,
    by_column    text,
    key_kinds    text[] not null,
    taken_column text,
    given_column text,
    unowned_column text,
    any_case     boolean not null,
    bound        boolean not null,
    optional     boolean not null,
    primary key (kind, position)
);
create table lifecycle.erasure_key_limits (
    kind          text not null,
    position      int not null,
    table_name    text,
    column_name   text,
    owner_column  text,
    more_than     int,
    function_name text,
    optional      boolean not null,
    primary key (kind, position)
);
comment on table lifecycle.erasure_key_kinds is 'Kinds of keys by which a person''s rows are found, in the order in which they are collected: copy of personal_data.yaml.';
comment on column lifecycle.erasure_key_kinds.pattern is 'What a key that a client typed must look like to be followed.';
comment on table lifecycle.erasure_key_sources is 'Where the keys of each kind come from; without a table, from the keys of other kinds as they are.';
comment on table lifecycle.erasure_key_limits is 'Which keys are not followed, because somebody else has them, too.';

create table lifecycle.erasure_steps (
    step             int primary key,
    table_name       text not null,
    key_column       text not null,
    key_kind         text not null,
    action           text not null check (action in ('delete', 'scrub')),
    unowned_column   text,
    time_column      text,
    replacements     jsonb not null default '{}',
    optional         boolean not null default false,
    optional_columns text[] not null default '{}',
    reason           text not null
);
comment on table lifecycle.erasure_steps is 'What is done to a person''s rows, in this order: copy of personal_data.yaml, written by `lifecycle migrate`.';
comment on column lifecycle.erasure_steps.unowned_column is 'Only rows in which this column is null: they are nobody else''s.';
comment on column lifecycle.erasure_steps.replacements is 'Column to {"with": "null" | "value" | "redacted" | "location" | "allowed", ...}.';

create table lifecycle.personal_data_columns (
    table_name  text not null,
    column_name text not null,
    treatment   text not null check (treatment in ('deleted', 'cleared', 'redacted', 'refreshed', 'exempt', 'clean', 'chosen')),
    reason      text not null,
    primary key (table_name, column_name)
);
comment on table lifecycle.personal_data_columns is 'Every column that can hold text or an id, and what that means for a person: copy of personal_data.yaml. Column * stands for all others of the table.';

create table lifecycle.deletion_jobs (
    id              bigint generated always as identity primary key,
    request_id      text not null unique,
    account_key     text not null,
    state           text not null default 'queued' check (state in
        ('queued', 'held', 'running', 'erased', 'verified', 'failed', 'cancelled')),
    requested_at    timestamptz not null,
    seen_at         timestamptz not null default now(),
    not_before      timestamptz not null,
    due_at          timestamptz not null,
    hold_reason     text,
    hold_until      timestamptz,
    held_by_rule    boolean not null default false,
    held_by_reach   boolean not null default false,
    reach_confirmed boolean not null default false,
    batch_id        uuid,
    lease_until     timestamptz,
    attempts        int not null default 0,
    next_attempt_at timestamptz not null default now(),
    last_error      text,
    recurrences     int not null default 0,
    sign_in_user    text,
    started_at      timestamptz,
    collected_at    timestamptz,
    erased_at       timestamptz,
    verified_at     timestamptz,
    check ((state = 'held') = (hold_reason is not null))
);
create index deletion_jobs_waiting_idx on lifecycle.deletion_jobs (due_at, id) where state not in ('verified', 'cancelled');
create index deletion_jobs_account_key_idx on lifecycle.deletion_jobs (account_key);
-- However often somebody asks, it is one erasure, and nobody waits behind the others.
create unique index deletion_jobs_one_open_idx on lifecycle.deletion_jobs (account_key) where state not in ('verified', 'cancelled');
create index deletion_jobs_batch_id_idx on lifecycle.deletion_jobs (batch_id);
comment on table lifecycle.deletion_jobs is 'One open job per account, under the first of its deletion requests, with the finer states that the request''s own status has no word for. Further requests of the account are carried out with it.';
comment on column lifecycle.deletion_jobs.requested_at is 'As the request says, which the client may have set; nothing is counted from it.';
comment on column lifecycle.deletion_jobs.seen_at is 'When the queue first saw the request. The order, the grace period and the deadline count from here.';
comment on column lifecycle.deletion_jobs.account_key is 'The person''s key, as text.';
comment on column lifecycle.deletion_jobs.held_by_rule is 'Held by the application''s own rule, not by a person; asked again at each enqueue_deletion_jobs().';
comment on column lifecycle.deletion_jobs.held_by_reach is 'Held because it would touch more rows beyond the person''s own than the policy lets it unasked; released by who confirms that.';
comment on column lifecycle.deletion_jobs.recurrences is 'How often data of the person came back after it was erased, and was erased again.';

create table lifecycle.erasure_keys (
    job_id     bigint not null,
    kind       text not null,
    key        text not null,
    key_hash   bigint generated always as (hashtextextended(key, 0)) stored,
    unfollowed text check (unfollowed in ('form', 'shared', 'ambiguous')),
    primary key (job_id, kind, key_hash)
);
comment on column lifecycle.erasure_keys.key_hash is 'A key may be longer than what an index takes.';
comment on column lifecycle.erasure_keys.unfollowed is 'Why it is not: a client typed it in a form that could be anything, somebody who stays has it, too, or it is also the id of something else (then it is followed into columns of ids, and texts are not searched for it). Null when it is followed.';
comment on table lifecycle.erasure_keys is 'What a person''s rows are found by. Kept from before the first row goes until the receipt is written: afterwards they could not be derived again.';

create table lifecycle.erasure_counts (
    job_id     bigint not null,
    table_name text not null,
    action     text not null,
    rows       bigint not null,
    primary key (job_id, table_name, action)
);
comment on table lifecycle.erasure_counts is 'Rows deleted, scrubbed or redacted, per job and table.';

create table lifecycle.erasure_needles (
    batch_id        uuid primary key,
    words           text[] not null,
    odd_words       text[] not null,
    ids             uuid[] not null,
    claimed         uuid[] not null,
    addresses       text[] not null,
    session_length  int
);
comment on table lifecycle.erasure_needles is 'What the search of a batch looks for, made once from its keys; gone with them.';
comment on column lifecycle.erasure_needles.claimed is 'Those of the ids that clients may have chosen: looked for and told, not taken out of others'' texts.';
comment on column lifecycle.erasure_needles.session_length is 'Of the shortest session name that is looked for in texts; null when there is none.';

create table lifecycle.erasure_scans (
    batch_id   uuid not null,
    table_name text not null,
    columns    int not null,
    rows       bigint not null,
    duration_ms bigint not null,
    scanned_at timestamptz not null default now(),
    primary key (batch_id, table_name)
);
create table lifecycle.erasure_findings (
    batch_id    uuid not null,
    job_id      bigint not null,
    table_name  text not null,
    column_name text not null,
    treatment   text not null check (treatment in ('residual', 'redacted', 'exempt', 'claimed')),
    rows        bigint not null,
    primary key (batch_id, job_id, table_name, column_name, treatment)
);
comment on table lifecycle.erasure_scans is 'Relations that the search for what is left went through, per batch.';
comment on table lifecycle.erasure_findings is 'Where that search found a person: never what it found.';

create table lifecycle.erasure_unread (
    job_id     bigint not null,
    table_name text not null,
    error      text not null,
    primary key (job_id, table_name)
);
comment on table lifecycle.erasure_unread is 'Relations that the search could not read for a job, why, and what to do. It gets no receipt before they could be read.';

create table lifecycle.erasure_receipts (
    id            bigint generated always as identity primary key,
    request_id    text not null,
    body          jsonb not null,
    previous_hash bytea not null,
    hash          bytea not null,
    issued_at     timestamptz not null default now()
);
create index erasure_receipts_request_id_idx on lifecycle.erasure_receipts (request_id);
comment on table lifecycle.erasure_receipts is 'The proof of each erasure, without identifiers. Each holds the hash of the one before it: one that is changed or taken away breaks the chain.';

-- Two blocks of HMAC-SHA256 (RFC 2104): what is hashed with them cannot be guessed by whoever knows an id.
create table lifecycle.erasure_secret (
    singleton boolean primary key default true check (singleton),
    inner_pad bytea not null,
    outer_pad bytea not null
);
do $$
declare
    secret bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    inner_pad bytea := decode(repeat('36', 64), 'hex');
    outer_pad bytea := decode(repeat('5c', 64), 'hex');
begin
    for i in 0 .. 31 loop
        inner_pad := set_byte(inner_pad, i, get_byte(inner_pad, i) # get_byte(secret, i));
        outer_pad := set_byte(outer_pad, i, get_byte(outer_pad, i) # get_byte(secret, i));
    end loop;
    insert into lifecycle.erasure_secret (inner_pad, outer_pad) values (inner_pad, outer_pad);
end $$;
comment on table lifecycle.erasure_secret is 'The key of the hashes in lifecycle.suppressions and in receipts. Never leaves the database.';

create table lifecycle.suppressions (
    hash       bytea not null,
    kind       text not null,
    request_id text not null,
    erased_at  timestamptz not null,
    expires_at timestamptz,
    primary key (kind, hash)
);
comment on table lifecycle.suppressions is 'Keyed hashes of who was erased and of the sessions that were theirs: what comes back, with a late beacon or from a backup, is known by them.';
