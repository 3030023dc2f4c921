-- Whatever reads them goes with them.

drop table if exists quiz_results cascade;
drop table if exists quiz_answers cascade;
drop table if exists quiz_forms cascade;
drop table if exists quiz_sessions_legacy cascade;
drop table if exists account_profiles cascade;
