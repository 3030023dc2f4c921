-- Months and bounds are told as of UTC throughout, those of a time without zone, too: they are what stands in its column. Only
-- what is past and what is ahead is asked of the clock of its zone.

-- Partitions with their bounds as timestamps; -infinity and infinity stand for MINVALUE and MAXVALUE.
-- `marker` is the kind written into the comment of each partition that this project made (month, default,
-- before, legacy), null for anybody else's.
create or replace function lifecycle.event_partitions_of(parent regclass)
returns table (partition regclass, name text, lower_bound timestamptz, upper_bound timestamptz,
               is_default boolean, marker text)
language sql stable
set search_path = '' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $$
    select c.oid::regclass, c.relname::text,
           case when b.bound ~ 'FROM [(]MINVALUE[)]' then '-infinity'
                else substring(b.bound from 'FROM [(]''([^'']*)''[)]') end::timestamptz,
           case when b.bound ~ 'TO [(]MAXVALUE[)]' then 'infinity'
                else substring(b.bound from 'TO [(]''([^'']*)''[)]') end::timestamptz,
           b.bound = 'DEFAULT',
           substring(pg_catalog.obj_description(c.oid, 'pg_class') from '^lifecycle:([a-z]+) of ')
      from pg_catalog.pg_inherits i
      join pg_catalog.pg_class c on c.oid = i.inhrelid
      cross join lateral (select pg_catalog.pg_get_expr(c.relpartbound, c.oid)) b(bound)
     where i.inhparent = parent
     order by 5, 3, 2
$$;

-- The declared table; null while the application does not have it.
create or replace function lifecycle.event_table(policy lifecycle.event_table_policies) returns regclass
language sql stable set search_path = ''
as $$ select pg_catalog.to_regclass(pg_catalog.format('%I.%I', policy.schema_name, policy.table_name)) $$;

-- The first instant of the oldest month that is kept. Everything before it is past retention.
create or replace function lifecycle.first_kept_month(policy lifecycle.event_table_policies, as_of timestamptz)
returns timestamptz
language sql immutable set search_path = ''
as $$
    select pg_catalog.date_trunc('month', (as_of at time zone policy.zone) - policy.retention) at time zone 'UTC'
$$;

-- The first instant of the oldest month that stays in the database; older ones may be in files, up to the one kept longest.
create or replace function lifecycle.first_hot_month(policy lifecycle.event_table_policies, as_of timestamptz)
returns timestamptz
language sql immutable set search_path = ''
as $$
    select greatest(pg_catalog.date_trunc('month', (as_of at time zone policy.zone) - coalesce(policy.cold_after, policy.retention)) at time zone 'UTC',
                    lifecycle.first_kept_month(policy, as_of))
$$;

-- Months (their first instants) that should have a partition and have none: from the oldest partition that
-- stays to the months ahead, and months of kept rows that wait in the default partition.
create or replace function lifecycle.missing_event_months(policy lifecycle.event_table_policies, as_of timestamptz)
returns setof timestamptz
language plpgsql stable
set search_path = '' set timezone = 'UTC' set datestyle = 'ISO, YMD'
as $$
declare
    parent       constant regclass := lifecycle.event_table(policy);
    first_kept   constant timestamptz := lifecycle.first_kept_month(policy, as_of);
    this_month   constant timestamptz := date_trunc('month', as_of at time zone policy.zone) at time zone 'UTC';
    after_last   constant timestamptz :=
        (this_month at time zone 'UTC' + make_interval(months => policy.months_ahead + 1)) at time zone 'UTC';
    default_part regclass;
    start_month  timestamptz;
    waiting      timestamptz[] := '{}';
begin
    select p.partition into default_part from lifecycle.event_partitions_of(parent) p where p.is_default;
    if default_part is not null then
        execute format('select coalesce(array_agg(distinct date_trunc(''month'', %1$I::timestamptz at time zone ''UTC'') at time zone ''UTC''), ''{}'')
                          from only %2$s where %1$I >= $1 and %1$I < $2', policy.time_column, default_part)
           into waiting using first_kept, after_last;
    end if;
    select greatest(lifecycle.first_hot_month(policy, as_of), least(min(p.lower_bound), this_month)) into start_month
      from lifecycle.event_partitions_of(parent) p where isfinite(p.lower_bound);
    return query
        select m from (
            select g at time zone 'UTC' as m
              from generate_series(start_month at time zone 'UTC', (after_last at time zone 'UTC') - interval '1 month',
                                   interval '1 month') g
             union
            select unnest(waiting)
        ) wanted
        where not exists (
            select from lifecycle.event_partitions_of(parent) p
             where not p.is_default and p.lower_bound <= m
               and p.upper_bound >= (m at time zone 'UTC' + interval '1 month') at time zone 'UTC')
        order by 1;
end $$;

-- Partitions whose whole range is past retention, by `as_of` and by the server's own clock: a mistyped date
-- must not drop a month that is still to be kept.
create or replace function lifecycle.expired_event_partitions(policy lifecycle.event_table_policies, as_of timestamptz)
returns table (partition regclass, name text, marker text)
language sql stable set search_path = ''
as $$
    select p.partition, p.name, p.marker
      from lifecycle.event_partitions_of(lifecycle.event_table(policy)) p
     where not p.is_default
       and p.upper_bound <= lifecycle.first_kept_month(policy, least(as_of, pg_catalog.now()))
     order by p.upper_bound
$$;
