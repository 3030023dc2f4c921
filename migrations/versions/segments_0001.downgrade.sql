drop table lifecycle.changed_segment_accounts;
drop table lifecycle.segment_watches;
drop table lifecycle.segment_sources;
drop table lifecycle.segment_targets;
drop table lifecycle.segment_policy;
