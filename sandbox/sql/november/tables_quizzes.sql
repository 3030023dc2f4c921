-- Quizzes, their answers and results, and the recommendations that came of them.

create table quiz_forms (
    id uuid primary key default gen_random_uuid(),
    version integer not null default 1,
    definition jsonb not null default '{}',
    published boolean not null default false,
    created_at timestamptz not null default now()
);

create table quiz_sessions (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    quiz_form_id uuid references quiz_forms (id) on delete set null,
    status quiz_session_status not null default 'in_progress',
    started_at timestamptz not null default now(),
    completed_at timestamptz,
    location_permission boolean,
    metadata jsonb not null default '{}'
);
create index quiz_sessions_account_id_started_at_idx on quiz_sessions (account_id, started_at desc);

create table quiz_answers (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references quiz_sessions (id) on delete cascade,
    question_ref text not null,
    answer_value jsonb not null,
    answered_at timestamptz not null default now()
);
create index quiz_answers_session_id_idx on quiz_answers (session_id);

create table quiz_results (
    id uuid primary key default gen_random_uuid(),
    session_id uuid not null references quiz_sessions (id) on delete cascade,
    account_id uuid not null references accounts (id) on delete cascade,
    result_type quiz_result_type not null,
    travel_type_code text,
    travel_type_payload jsonb,
    recommendation_snapshot jsonb,
    created_at timestamptz not null default now(),
    dietary_preferences jsonb,
    language_comfort jsonb,
    photo_subjects jsonb
);
create index quiz_results_account_id_created_at_idx on quiz_results (account_id, created_at desc);
create index quiz_results_dietary_idx on quiz_results using gin (dietary_preferences);
create index quiz_results_language_idx on quiz_results using gin (language_comfort);
create index quiz_results_photo_idx on quiz_results using gin (photo_subjects);
create index quiz_results_session_id_idx on quiz_results (session_id);

create table recommendation_runs (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    trigger recommendation_trigger not null,
    input_payload jsonb not null default '{}',
    model_metadata jsonb not null default '{}',
    status job_status not null default 'queued',
    created_at timestamptz not null default now(),
    completed_at timestamptz
);
create index recommendation_runs_account_id_created_at_idx on recommendation_runs (account_id, created_at desc);
create index recommendation_runs_status_idx on recommendation_runs (status);

create table recommendation_items (
    id uuid primary key default gen_random_uuid(),
    run_id uuid not null references recommendation_runs (id) on delete cascade,
    activity_id uuid references activities (id) on delete set null,
    place_id text,
    rank integer not null,
    score numeric,
    presentation_payload jsonb not null default '{}',
    presented_at timestamptz,
    clicked_at timestamptz,
    dismissed_at timestamptz
);
create index recommendation_items_activity_id_idx on recommendation_items (activity_id);
create index recommendation_items_run_id_rank_idx on recommendation_items (run_id, rank);

comment on column quiz_results.dietary_preferences is 'Array of codes, such as vegetarian or halal';
comment on column quiz_results.language_comfort is 'Array of codes, such as english';
comment on column quiz_results.photo_subjects is 'Array of codes of what the person would rather not see, such as crowds';
