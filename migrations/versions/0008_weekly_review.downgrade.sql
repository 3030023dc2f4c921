-- The history of sizes is lost; reports in the outbox stay.
drop function lifecycle.record_storage();
drop index lifecycle.notifications_report_week_idx;
drop table lifecycle.storage_history;
