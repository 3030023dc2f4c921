drop table lifecycle.expiring_tables;
drop table lifecycle.expiring_rows;
