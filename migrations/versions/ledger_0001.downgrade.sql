drop table lifecycle.recorded_runs;
drop table lifecycle.ledger_policy;
drop table lifecycle.notifications;
drop table lifecycle.open_problems;
