alter table lifecycle.event_table_policies add column cold_after interval check (cold_after > interval '0');
comment on column lifecycle.event_table_policies.cold_after is 'How old a month is when it leaves the database for files; null where none does.';
