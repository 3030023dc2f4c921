-- Consent: where decisions stand, what a withdrawal does by purpose, and which decisions were carried out.
create table lifecycle.consent_record (
    singleton     boolean primary key default true check (singleton),
    table_name    text not null,
    id_column     text not null,
    person_column text not null,
    time_column   text not null
);
comment on table lifecycle.consent_record is 'The application''s table of decisions: copy of consent.yaml.';

create table lifecycle.consent_purposes (
    purpose    text primary key,
    position   int not null,
    given      text not null,
    withdrawal text not null check (withdrawal in ('stop', 'scrub from then on', 'scrub all'))
);
comment on table lifecycle.consent_purposes is 'What people consent to, and what a withdrawal does: copy of consent.yaml.';

create table lifecycle.consent_tables (
    purpose          text not null references lifecycle.consent_purposes (purpose) on delete cascade,
    position         int not null,
    table_name       text not null,
    person_column    text not null,
    time_column      text,
    replacements     jsonb not null,
    optional         boolean not null,
    optional_columns text[] not null,
    primary key (purpose, position)
);
comment on table lifecycle.consent_tables is 'Tables whose rows are held for a purpose, and what their columns get when it is withdrawn.';

create table lifecycle.consent_decisions (
    purpose        text not null,
    subject        bytea not null,
    given          boolean not null,
    decided_at     timestamptz not null,
    carried_out_at timestamptz not null default now(),
    primary key (purpose, subject)
);
comment on table lifecycle.consent_decisions is 'The latest decision of each person and purpose that was carried out. The person is a keyed hash, the same as in receipts.';
