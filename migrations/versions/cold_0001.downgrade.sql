drop table lifecycle.narrow_months;
drop table lifecycle.cold_dangling;
drop table lifecycle.cold_restored;
drop table lifecycle.cold_changes;
drop table lifecycle.cold_files;
drop table lifecycle.cold_moves;
drop table lifecycle.cold_home;
drop table lifecycle.cold_layouts;
