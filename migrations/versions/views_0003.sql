alter table lifecycle.refresh_states add column refresh_key text;
comment on column lifecycle.refresh_states.refresh_key is 'The statement that makes the unique index by which REFRESH CONCURRENTLY told its rows apart: it can be pasted once that index is gone.';
