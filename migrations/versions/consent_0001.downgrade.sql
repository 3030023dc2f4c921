drop table lifecycle.consent_decisions;
drop table lifecycle.consent_tables;
drop table lifecycle.consent_purposes;
drop table lifecycle.consent_record;
