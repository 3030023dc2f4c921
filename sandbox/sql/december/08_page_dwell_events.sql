-- A fourth event table: how long a page was open, and how long it was looked at.

create table if not exists page_dwell_events (
    id uuid primary key default gen_random_uuid(),
    account_id uuid references accounts (id) on delete set null,
    session_id text not null,
    page_url text not null,
    page_path text not null,
    page_group text,
    enter_at timestamptz not null,
    leave_at timestamptz not null,
    total_duration_ms bigint not null,
    active_duration_ms bigint not null,
    referrer text,
    user_agent text,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now()
);
create index if not exists page_dwell_events_account_id_idx on page_dwell_events (account_id, enter_at desc);
create index if not exists page_dwell_events_session_id_idx on page_dwell_events (session_id, enter_at desc);
create index if not exists page_dwell_events_page_path_idx on page_dwell_events (page_path, enter_at desc);
create index if not exists page_dwell_events_page_group_idx on page_dwell_events (page_group, enter_at desc);
comment on table page_dwell_events is 'Time on pages, sent by the browser when it leaves one';

create or replace view page_dwell_summary as
select
    d.page_path,
    d.page_group,
    count(*) as views,
    round(avg(d.active_duration_ms) / 1000, 2) as avg_active_seconds,
    round(percentile_cont(0.5) within group (order by d.active_duration_ms)::numeric / 1000, 2)
        as median_active_seconds,
    round(sum(d.active_duration_ms) / 1000, 2) as total_active_seconds,
    round(max(d.active_duration_ms)::numeric / 1000, 2) as max_active_seconds
from page_dwell_events d
where d.enter_at >= current_date - interval '30 days'
group by d.page_path, d.page_group
order by total_active_seconds desc;
comment on view page_dwell_summary is 'Time looked at pages, 30 days';
