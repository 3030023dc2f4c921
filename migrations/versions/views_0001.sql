create table lifecycle.materialized_view_policies (
    schema_name text not null,
    view_name   text not null,
    max_age     interval not null,
    optional    boolean not null,
    primary key (schema_name, view_name)
);
comment on table lifecycle.materialized_view_policies is 'Materialized views as views.yaml declares them: the age at which each is refreshed even though nothing that it reads has changed.';

create table lifecycle.refresh_states (
    name           text primary key,
    refreshed_at   timestamptz not null,
    right_at       timestamptz not null,
    source_changes numeric,
    rows           bigint not null default 0
);
comment on table lifecycle.refresh_states is 'When each view (schema.name) was last brought up to date, and how many changes the tables that it reads had seen. right_at: when that, or that none of them changed, was last found.';
