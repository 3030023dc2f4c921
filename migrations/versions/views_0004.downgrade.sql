alter table lifecycle.kept_views drop column seen_on;
