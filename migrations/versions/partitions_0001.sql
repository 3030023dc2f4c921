-- A schema that the API never exposes: a partition inherits no row-level security.
create schema event_partitions;
comment on schema event_partitions is 'Monthly partitions of the event tables. Not exposed: a partition inherits no row-level security.';
revoke all on schema event_partitions from public;

create table lifecycle.event_table_policies (
    schema_name     text not null,
    table_name      text not null,
    stem            text not null unique,
    time_column     text not null,
    retention       interval not null,
    months_ahead    int not null check (months_ahead >= 1),
    lock_timeout_ms int not null check (lock_timeout_ms between 1 and 10000),
    lock_tries      int not null check (lock_tries >= 1),
    primary key (schema_name, table_name)
);
comment on table lifecycle.event_table_policies is 'The event tables that are declared, written by `lifecycle migrate`. Nothing is done to a table without a row.';
comment on column lifecycle.event_table_policies.stem is 'What the names of its partitions begin with.';

create table lifecycle.partition_conversions (
    schema_name     text not null,
    table_name      text not null,
    storage_options text[] not null default '{}',
    started_at      timestamptz not null default now(),
    attached_at     timestamptz,
    finished_at     timestamptz,
    primary key (schema_name, table_name)
);
comment on table lifecycle.partition_conversions is 'One row per converted table: when, and the storage options that its partitions inherit.';
