-- What the weekly review compares: sizes day by day, since a database knows only those of this moment.
create table lifecycle.storage_history (
    measured_on  date not null,
    relation     text not null,
    bytes        bigint not null check (bytes >= 0),
    row_estimate bigint not null check (row_estimate >= 0),
    primary key (measured_on, relation)
);
comment on table lifecycle.storage_history is 'Size of each table and materialized view per day (UTC) with indexes and TOAST, partitions summed. Written by lifecycle.record_storage(), kept 400 days.';

create table lifecycle.storage_schemas (
    schema_name text primary key
);
comment on table lifecycle.storage_schemas is 'Schemas of the declared objects, whose tables are measured beside ours; written by `lifecycle migrate`.';

-- A report of one week is put in the outbox once, by however many runs.
create unique index notifications_report_week_idx on lifecycle.notifications (job, (content ->> 'week'))
    where kind = 'report';
