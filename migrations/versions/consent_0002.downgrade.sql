alter table lifecycle.consent_decisions drop column looked_in_files_at;
