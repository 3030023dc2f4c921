drop table lifecycle.restored_groups;
drop table lifecycle.archived_columns;
