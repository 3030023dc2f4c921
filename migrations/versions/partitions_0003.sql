alter table lifecycle.event_table_policies add column zone text not null default 'UTC';
comment on column lifecycle.event_table_policies.zone is 'Of the clock that writes a time without time zone; UTC for any other.';
