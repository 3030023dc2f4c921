alter table lifecycle.event_table_policies drop column zone;
