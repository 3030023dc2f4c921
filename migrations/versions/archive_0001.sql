create table lifecycle.archived_columns (
    archive_schema text not null,
    archive_table  text not null,
    column_name    text not null,
    source         bigint not null,
    source_number  int not null,
    primary key (archive_schema, archive_table, column_name)
);
comment on table lifecycle.archived_columns is 'Columns of archives as they were seen last: the oid of the table and the number of the column that each was made of, so that a renamed column is known again.';

create table lifecycle.restored_groups (
    archive_schema text not null,
    archive_table  text not null,
    group_key      text not null,
    restored_at    timestamptz not null default now(),
    until          timestamptz not null,
    primary key (archive_schema, archive_table, group_key)
);
comment on table lifecycle.restored_groups is 'Groups of rows (conversations) that were brought back from an archive, and stay out of it until then.';
