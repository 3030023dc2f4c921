drop table lifecycle.own_functions;
drop table lifecycle.sql_files;
