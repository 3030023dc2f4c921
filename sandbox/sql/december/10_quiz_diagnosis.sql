alter table quiz_sessions
    add column if not exists diagnosis_type text,
    add column if not exists persona_history jsonb;
create index if not exists quiz_sessions_diagnosis_type_idx on quiz_sessions (diagnosis_type);
