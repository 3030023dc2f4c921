drop table lifecycle.watched_tables;
drop table lifecycle.changed_rows;
drop table lifecycle.kept_view_sources;
drop table lifecycle.kept_views;
