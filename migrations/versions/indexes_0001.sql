-- The indexes themselves are built after the revisions, outside of any transaction.
create table lifecycle.index_plans (
    schema_name text not null,
    index_name  text not null,
    plan_before text not null,
    built_at    timestamptz,
    primary key (schema_name, index_name)
);
comment on table lifecycle.index_plans is 'How the planner would have answered the query of each hot-query index just before this project built it: steps, cost and rows, no values. built_at is null while it is being built.';
