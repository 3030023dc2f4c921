create table lifecycle.cold_layouts (
    id          bigint generated always as identity primary key,
    schema_name text not null,
    table_name  text not null,
    version     int not null,
    columns     jsonb not null,
    created_at  timestamptz not null default now(),
    unique (schema_name, table_name, version),
    unique (schema_name, table_name, columns)
);
comment on table lifecycle.cold_layouts is 'The columns of an event table at the time of an export, a version each: name, type, and how a file stores it.';

create table lifecycle.cold_home (
    one_row  boolean primary key default true check (one_row),
    server   bigint not null,
    database oid not null,
    since    timestamptz not null default now()
);
comment on table lifecycle.cold_home is 'The server and the database that the files belong to: a restored dump or a copy is another one, and touches none of them.';

create table lifecycle.cold_moves (
    id            bigint generated always as identity primary key,
    schema_name   text not null,
    table_name    text not null,
    month         timestamptz not null,
    partition     text not null,
    state         text not null default 'pending'
                  check (state in ('pending', 'exporting', 'uploaded', 'verified', 'committed', 'cleaned')),
    layout_id     bigint references lifecycle.cold_layouts (id),
    captured_from oid,
    captured_file oid,
    rows          bigint,
    hot_bytes     bigint,
    created_at    timestamptz not null default now(),
    changed_at    timestamptz not null default now(),
    committed_at  timestamptz
);
create unique index cold_moves_one_at_a_time on lifecycle.cold_moves (schema_name, table_name, month) where state not in ('committed', 'cleaned');
comment on table lifecycle.cold_moves is 'A month on its way into files, and each one that arrived. captured_from: the partition whose changes are captured since before it was read; captured_file: where its rows stood then (relfilenode), elsewhere once ALTER TABLE wrote them anew.';

create table lifecycle.cold_files (
    id             bigint generated always as identity primary key,
    move_id        bigint not null references lifecycle.cold_moves (id),
    schema_name    text not null,
    table_name     text not null,
    month          timestamptz not null,
    key            text not null unique,
    layout_id      bigint not null references lifecycle.cold_layouts (id),
    bucket         int not null check (bucket >= 0 and bucket < buckets),
    buckets        int not null,
    split_by       text[] not null default '{}',
    state          text not null default 'planned' check (state in ('planned', 'stored', 'live', 'retired', 'removed')),
    rows           bigint,
    bytes          bigint,
    sha256         text,
    checksum       numeric,
    created_at     timestamptz not null default now(),
    live_at        timestamptz,
    retired_at     timestamptz,
    removed_at     timestamptz,
    removed_versions int
);
create index cold_files_of_a_month on lifecycle.cold_files (schema_name, table_name, month) where state = 'live';
create index cold_files_of_a_move on lifecycle.cold_files (move_id);
create index cold_files_to_remove on lifecycle.cold_files (state) where state in ('planned', 'stored', 'retired');
comment on table lifecycle.cold_files is 'Every object that may exist in the store: planned before it is written, live while readers find its rows there, removed once the store was seen to have it no more.';

create table lifecycle.cold_changes (
    id       bigint generated always as identity primary key,
    relation oid not null,
    seen_at  timestamptz not null default clock_timestamp()
);
create index cold_changes_of_a_relation on lifecycle.cold_changes (relation);
comment on table lifecycle.cold_changes is 'A row per changed row of a partition that is being exported; what was read of it is worth nothing then.';

create table lifecycle.cold_dangling (
    schema_name     text not null,
    table_name      text not null,
    constraint_name text not null,
    referenced      text not null,
    rows            bigint not null,
    seen_at         timestamptz not null default now(),
    primary key (schema_name, table_name, constraint_name)
);
comment on table lifecycle.cold_dangling is 'Foreign keys by which rows in cold files point to rows that are gone, and that do not say what becomes of them; counted every day.';

create table lifecycle.cold_restored (
    schema_name text not null,
    table_name  text not null,
    month       timestamptz not null,
    hot_until   timestamptz not null,
    primary key (schema_name, table_name, month)
);
create table lifecycle.narrow_months (
    schema_name  text not null,
    table_name   text not null,
    month        timestamptz not null,
    column_names text[] not null,
    primary key (schema_name, table_name, month)
);
comment on table lifecycle.narrow_months is 'Cold months that the narrow table of an event table holds whole, and with which columns.';

comment on table lifecycle.cold_restored is 'Months that somebody brought back, and until when they stay.';
