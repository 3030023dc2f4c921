-- Articles with their versions and translations.

create table articles (
    id uuid primary key default gen_random_uuid(),
    slug text not null,
    language text not null default 'en',
    title text not null,
    summary text,
    cover_image_url text,
    body_mdx text not null,
    status article_status not null default 'draft',
    author_account_id uuid references accounts (id) on delete set null,
    published_at timestamptz,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (slug, language)
);
create index articles_language_published_at_idx on articles (language, published_at desc);
create unique index articles_slug_published_unique on articles (slug)
    where status = 'published';
create index articles_status_published_at_idx on articles (status, published_at desc);

create table article_versions (
    id uuid primary key default gen_random_uuid(),
    article_id uuid not null references articles (id) on delete cascade,
    version_number integer not null,
    language text not null,
    title text not null,
    summary text,
    body_mdx text not null,
    editor_account_id uuid references accounts (id) on delete set null,
    change_note text,
    created_at timestamptz not null default now(),
    unique (article_id, language, version_number)
);
create index article_versions_article_id_idx on article_versions (article_id, language, version_number desc);

create table article_translations (
    id uuid primary key default gen_random_uuid(),
    article_id uuid not null references articles (id) on delete cascade,
    language text not null,
    title text not null,
    summary text,
    body_mdx text not null,
    status article_status not null default 'draft',
    translator_account_id uuid references accounts (id) on delete set null,
    published_at timestamptz,
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (article_id, language)
);
create index article_translations_article_id_status_idx on article_translations (article_id, status);
create index article_translations_language_status_idx on article_translations (language, status);
