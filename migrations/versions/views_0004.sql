alter table lifecycle.kept_views add column seen_on bigint;
comment on column lifecycle.kept_views.seen_on is 'The server whose transactions `seen` numbers: on another one, where a dump was restored, the numbers mean other transactions.';
