-- Views of the application that answer from tables of ours. The tables themselves are made beside the view that they
-- serve; here stands what a refresh has to know, and what it found.

create table lifecycle.kept_views (
    schema_name     text not null,
    view_name       text not null,
    kept_table      text not null unique,
    owner_name      text not null,
    place           int not null,
    column_names    text[] not null,
    stored_types    text[] not null,
    unstable        text[] not null default '{}',
    key_column      text,
    change_query    text not null,
    moves           text not null check (moves in ('never', 'daily', 'always')),
    refresh_every   interval not null check (refresh_every > interval '0'),
    most_share      double precision not null check (most_share > 0),
    keep_history    interval,
    time_zone       text not null,
    fingerprint     bytea not null,
    declared_as     text not null,
    whole_due       text,
    seen            pg_snapshot,
    safe_until      timestamptz,
    refreshed_at    timestamptz,
    refresh_ms      bigint,
    definition_ms   bigint,
    rows_written    bigint,
    row_count       bigint,
    compared_at     timestamptz,
    differing       bigint,
    primary key (schema_name, view_name)
);
comment on table lifecycle.kept_views is 'Views that answer from a table: how each is refreshed, written by `lifecycle migrate`, and what its last refresh and comparison came to.';
comment on column lifecycle.kept_views.declared_as is 'What `lifecycle migrate` derived the rest from, to see whether it has to be derived anew.';
comment on column lifecycle.kept_views.change_query is 'What can have changed, one column "key": $1 is the snapshot of the last refresh, $2 the moment from which rows are looked at again. With a key_column the values of that key; otherwise any row means that something has.';
comment on column lifecycle.kept_views.unstable is 'Columns whose value depends on the order in which rows are read; no comparison looks at them.';
comment on column lifecycle.kept_views.most_share is 'The part of the time that computing it whole may take; a dearer view is refreshed less often.';
comment on column lifecycle.kept_views.moves is 'Whether the rows change as time goes by alone: never, at midnight, or always.';
comment on column lifecycle.kept_views.whole_due is 'Why the next refresh has to compute everything; null when the changed keys are enough.';

create table lifecycle.kept_view_sources (
    schema_name   text not null,
    view_name     text not null,
    source_schema text not null,
    source_name   text not null,
    primary key (schema_name, view_name, source_schema, source_name),
    foreign key (schema_name, view_name) references lifecycle.kept_views on delete cascade
);
create index kept_view_sources_source_idx on lifecycle.kept_view_sources (source_schema, source_name);
comment on table lifecycle.kept_view_sources is 'The tables that each kept view reads, other views looked through.';

-- Append-only and without an index on anything but the id: writers of the application must never wait for each other.
create table lifecycle.changed_rows (
    id            bigint generated always as identity primary key,
    source_schema text not null,
    source_name   text not null,
    held          jsonb not null,
    written_by    xid8 not null default pg_current_xact_id()
);
comment on table lifecycle.changed_rows is 'Rows that came late, were corrected or went: what they held in the columns by which keys are found. Ordinary new rows leave none. Gone once every view has seen them.';

create table lifecycle.watched_tables (
    source_schema text not null,
    source_name   text not null,
    time_column   text,
    column_names  text[] not null,
    made_by       text not null,
    primary key (source_schema, source_name)
);
comment on table lifecycle.watched_tables is 'Tables with triggers of ours that note changed rows, and by which columns.';
comment on column lifecycle.watched_tables.made_by is 'The statements that made the triggers, to see whether this release would make others.';
