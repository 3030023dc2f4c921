alter table lifecycle.refresh_states drop column refresh_key;
