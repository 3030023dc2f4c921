-- What a search knew: where, how far, what kind, and whether anything came of it.

alter table search_queries
    add column if not exists location jsonb,
    add column if not exists radius_meters integer,
    add column if not exists inferred_category text,
    add column if not exists has_results boolean;
create index if not exists search_queries_inferred_category_idx on search_queries (inferred_category);
create index if not exists search_queries_radius_meters_idx on search_queries (radius_meters);
