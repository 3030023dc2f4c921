drop table lifecycle.refresh_states;
drop table lifecycle.materialized_view_policies;
