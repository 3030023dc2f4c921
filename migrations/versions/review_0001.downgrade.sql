drop index lifecycle.notifications_report_week_idx;
drop table lifecycle.storage_schemas;
drop table lifecycle.storage_history;
