-- The log of exports: who took out whose data, and when.
create table lifecycle.person_exports (
    id          bigint generated always as identity primary key,
    subject     bytea not null,
    exported_by text not null,
    began_at    timestamptz not null default now(),
    ended_at    timestamptz,
    tables      int,
    rows        bigint,
    failure     text
);
comment on table lifecycle.person_exports is 'Every export of somebody''s data, by whom and when. The person is a keyed hash, the same as in receipts; without ended_at, it was cut off.';
