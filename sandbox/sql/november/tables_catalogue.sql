-- What can be done: activities, their categories, tags and pictures, and what accounts did with them.

create table activities (
    id uuid primary key default gen_random_uuid(),
    slug text not null unique,
    title text not null,
    summary text,
    description text,
    status text default 'published',
    google_place_id text,
    duration_minutes integer,
    price_tier text,
    metadata jsonb not null default '{}',
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table activity_categories (
    id uuid primary key default gen_random_uuid(),
    slug text not null unique,
    name text not null,
    description text,
    parent_id uuid references activity_categories (id) on delete set null,
    is_active boolean not null default true,
    created_at timestamptz not null default now()
);

create table activity_category_map (
    activity_id uuid not null references activities (id) on delete cascade,
    category_id uuid not null references activity_categories (id) on delete cascade,
    primary key (activity_id, category_id)
);

create table activity_tags (
    id uuid primary key default gen_random_uuid(),
    slug text not null unique,
    name text not null,
    color text,
    is_active boolean not null default true,
    created_at timestamptz not null default now()
);

create table activity_tag_map (
    activity_id uuid not null references activities (id) on delete cascade,
    tag_id uuid not null references activity_tags (id) on delete cascade,
    primary key (activity_id, tag_id)
);

create table activity_assets (
    id uuid primary key default gen_random_uuid(),
    activity_id uuid not null references activities (id) on delete cascade,
    asset_type asset_type not null,
    url text not null,
    metadata jsonb not null default '{}',
    is_primary boolean not null default false,
    created_at timestamptz not null default now()
);
create index activity_assets_activity_id_idx on activity_assets (activity_id);
create index activity_assets_is_primary_idx on activity_assets (activity_id, is_primary)
    where is_primary = true;

create table activity_interactions (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references accounts (id) on delete cascade,
    activity_id uuid references activities (id) on delete restrict,
    activity_slug text not null,
    interaction_type interaction_type not null,
    source_type interaction_source_type,
    source_id uuid,
    score_delta integer,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index activity_interactions_account_id_created_at_idx on activity_interactions (account_id, created_at desc);
create index activity_interactions_activity_slug_interaction_type_idx
    on activity_interactions (activity_slug, interaction_type);
create unique index unique_like_interactions on activity_interactions (account_id, activity_id, interaction_type)
    where interaction_type in ('like', 'bookmark', 'ai_save');

create table reviews (
    id uuid primary key default gen_random_uuid(),
    activity_id uuid references activities (id),
    account_id uuid,
    user_id uuid,
    rating integer,
    comment text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
