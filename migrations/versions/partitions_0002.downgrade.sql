alter table lifecycle.event_table_policies drop column cold_after;
