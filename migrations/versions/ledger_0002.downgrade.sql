drop table lifecycle.job_history;
