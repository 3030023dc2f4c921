drop table lifecycle.index_plans;
