create table lifecycle.segment_policy (
    singleton          boolean primary key default true check (singleton),
    version            int not null,
    accounts_schema    text not null,
    accounts_table     text not null,
    accounts_key       text not null,
    weights            jsonb not null,
    half_life          interval check (half_life > interval '0'),
    taste_weight       numeric not null check (taste_weight >= 0),
    interaction_weight numeric not null check (interaction_weight >= 0),
    declared           text not null,
    noted              text,
    target             text
);
comment on table lifecycle.segment_policy is 'One row: copy of segments.yaml, written by `lifecycle migrate`. declared: hash of all of it; noted: the hash for which everybody was asked for; target: where segments were last written.';

create table lifecycle.segment_targets (
    position        int primary key,
    schema_name     text not null,
    table_name      text not null,
    key_column      text not null,
    document_column text not null,
    path            text[] not null,
    consent         text not null
);
comment on table lifecycle.segment_targets is 'Where segments may stand; the first that exists is used.';

create table lifecycle.segment_sources (
    name        text primary key,
    kind        text not null check (kind in ('tags', 'taste', 'interactions', 'items')),
    position    int not null,
    query       text not null,
    optional    boolean not null,
    gone        boolean not null,
    readable    boolean,
    seen_at     timestamptz,
    lost_reason text
);
comment on table lifecycle.segment_sources is 'Queries that segments are computed from. seen_at: since when each was readable; lost_reason: why it is missed, by PostgreSQL''s words.';

create table lifecycle.segment_watches (
    schema_name     text not null,
    table_name      text not null,
    source          text not null,
    everybody       boolean not null,
    account_column  text,
    by_column       text,
    through_schema  text,
    through_table   text,
    through_id      text,
    through_account text,
    columns         text[] not null,
    events          text[] not null,
    primary key (schema_name, table_name, source)
);
comment on table lifecycle.segment_watches is 'Tables whose changes ask for segments, and of whom. An empty source is the place of segments itself.';

-- Only ever appended to by the application. No key and no index: two writers must never wait for each other here.
create table lifecycle.changed_segment_accounts (
    account   text,
    logged_at timestamptz not null default clock_timestamp()
);
alter table lifecycle.changed_segment_accounts replica identity full;
comment on table lifecycle.changed_segment_accounts is 'Accounts whose segments wait to be computed again, once for each change; a null account means all of them.';
