create table lifecycle.expiring_rows (
    job      text primary key,
    keep_for interval not null check (keep_for > interval '0'),
    batch    int not null check (batch > 0)
);
comment on table lifecycle.expiring_rows is 'Jobs that delete rows past their time, as expiry.yaml declares them.';

create table lifecycle.expiring_tables (
    job          text not null references lifecycle.expiring_rows (job) on delete cascade,
    position     int not null,
    schema_name  text not null,
    table_name   text not null,
    time_columns text[] not null check (cardinality(time_columns) > 0),
    held_by      jsonb not null,
    optional     boolean not null,
    primary key (job, position)
);
comment on table lifecycle.expiring_tables is 'Their tables, in the order in which they lose rows. held_by: tables (schema, table, column) whose rows keep a row that they name.';
