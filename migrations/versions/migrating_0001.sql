-- A schema that the API never exposes.
create schema if not exists lifecycle;
comment on schema lifecycle is 'State of the data life cycle. Not exposed.';
revoke all on schema lifecycle from public;

create table lifecycle.releases (
    singleton   boolean primary key default true check (singleton),
    release     text not null,
    migrated_at timestamptz not null default now()
);
comment on table lifecycle.releases is 'The newest release that migrated this database; an older one refuses to.';

create table lifecycle.migrated_declarations (
    capability  text primary key,
    hash        bytea not null,
    migrated_at timestamptz not null default now()
);
comment on table lifecycle.migrated_declarations is 'Capabilities with a hash of the declarations that `lifecycle migrate` wrote to their policy tables.';

create table lifecycle.sql_files (
    file       text primary key,
    hash       bytea not null,
    applied_at timestamptz not null default now()
);
comment on table lifecycle.sql_files is 'Files of database functions, as they were applied last.';

create table lifecycle.own_functions (
    signature text primary key,
    file      text not null,
    hash      bytea not null
);
comment on table lifecycle.own_functions is 'Functions of ours with the file that each came from. hash: of what the file made of it, to see whether somebody changed it.';
