drop table lifecycle.own_functions;
drop table lifecycle.sql_files;
drop table lifecycle.migrated_declarations;
drop table lifecycle.releases;
