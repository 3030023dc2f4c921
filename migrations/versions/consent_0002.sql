alter table lifecycle.consent_decisions add column looked_in_files_at timestamptz;
comment on column lifecycle.consent_decisions.looked_in_files_at is 'When the files of cold months were looked through for this decision; null while they were not.';
