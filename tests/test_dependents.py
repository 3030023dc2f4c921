"""Whatever reads an event table by its OID reads the parent afterwards, and is otherwise what it was."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.dependents import affected_dependents
from lifecycle.partitions.status import partition_status
from tests.conversion_load import BEHAVIOUR, FEW_MONTHS, at_step, convert, fill, insert_event, leftovers

MakeDb = Callable[..., str]

ODD_DAYS = '"Odd Schema"."Odd days"'

DEPENDENTS = """
create schema reports;
create schema "Odd Schema";
create view visits with (security_invoker = true, security_barrier = true) as
    select id, session_id, page_url, event_timestamp from user_behavior_events where page_url <> '/hidden';
comment on view visits is 'visits, as people see them';
comment on column visits.page_url is 'without host';
grant select on visits to anon;
grant update (page_url) on visits to authenticated;
create view checked as select * from user_behavior_events where session_id = 'new' with cascaded check option;
create view visits_of_visits as select v.* from visits v join user_behavior_events e using (id);
create view "Odd Schema"."odd view" as select e.id as "Odd % id", e.* from user_behavior_events e;
create view unions as
    with recursive r as (select 1 as n union all select n + 1 from r where n < 3)
    select n, (select count(*) from user_behavior_events b where b.session_id = 'new') as new from r;
create view triggered as select id from user_behavior_events;
create function on_view() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger instead instead of insert on triggered for each row execute function on_view();

create materialized view daily with (fillfactor = 80, autovacuum_enabled = off) as
    select date(event_timestamp) as day, session_id, count(*) as events from user_behavior_events
     where isfinite(event_timestamp) group by 1, 2;
create unique index daily_key on daily (day, session_id);
create index daily_events on daily (events desc) where events > 1;
comment on materialized view daily is 'per day';
comment on column daily.events is 'page views';
comment on index daily_key is 'for REFRESH CONCURRENTLY';
alter materialized view daily alter column events set statistics 500;
alter materialized view daily cluster on daily_key;
revoke all on daily from anon, authenticated;
grant select on daily to service_role, authenticated;
create view daily_view as select day, sum(events) as events from daily group by day;
create materialized view reports.monthly as
    select date_trunc('month', day) as month, sum(events) as events from daily group by 1;
create unique index monthly_key on reports.monthly (month);
create materialized view "Odd Schema"."Odd days" as select count(*) as days from public.daily, reports.monthly;
create view reports.totals as select sum(events) as events from reports.monthly;
create materialized view never as select * from user_behavior_events with no data;
create unique index never_key on never (id, event_timestamp);

create function new_events() returns bigint stable begin atomic
    select count(*) from user_behavior_events e where e.session_id = 'new';
end;
create function busiest(lowest int) returns table (day date, events numeric) language sql stable security definer
    set work_mem = '8MB' begin atomic
    select d.day, sum(d.events) from daily d group by d.day having sum(d.events) > lowest;
end;
comment on function new_events() is 'how many are new';
revoke all on function new_events() from public, anon;
create view by_function as select new_events() as new;
create table guarded (id uuid primary key, note text);
alter table guarded enable row level security;
grant select, insert on guarded to authenticated;
create policy "seen: sessions" on guarded for select to authenticated
    using (exists (select from user_behavior_events e where e.id = guarded.id));
create policy added on guarded for insert to authenticated
    with check (exists (select from visits v where v.id = guarded.id)
                and exists (select from daily where events >= 0));
"""
VIEWS = """
select n.nspname || '.' || c.relname, c.relkind::text, pg_get_viewdef(c.oid), c.reloptions,
       array(select unnest(c.relacl)::text order by 1), obj_description(c.oid, 'pg_class'), c.relowner::regrole::text,
       c.relispopulated,
       array(select (a.attname, col_description(a.attrelid, a.attnum), format_type(a.atttypid, a.atttypmod),
                     array(select unnest(a.attacl)::text order by 1), a.attstattarget)::text
               from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum),
       array(select (pg_get_indexdef(i.indexrelid), obj_description(i.indexrelid, 'pg_class'), i.indisclustered)::text
               from pg_index i where i.indrelid = c.oid order by 1),
       array(select pg_get_triggerdef(t.oid) from pg_trigger t where t.tgrelid = c.oid order by 1)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('v', 'm') and n.nspname in ('public', 'reports', 'Odd Schema') order by 1
"""
FUNCTIONS = """
select p.oid::regprocedure::text, pg_get_functiondef(p.oid), array(select unnest(p.proacl)::text order by 1),
       obj_description(p.oid, 'pg_proc') from pg_proc p where p.pronamespace = 'public'::regnamespace
   and p.proname not in ('rotate_event_partitions') order by 1
"""
POLICIES = """
select polname, polrelid::regclass::text, polroles::regrole[]::text, pg_get_expr(polqual, polrelid),
       pg_get_expr(polwithcheck, polrelid) from pg_policy where polrelid = 'guarded'::regclass order by 1
"""
# Anything but a constraint, index, default or the partition tree that still points at a partition by its OID.
STALE = """
select pg_describe_object(d.classid, d.objid, d.objsubid) from pg_depend d
  join lifecycle.event_partitions_of(%s) p on d.refclassid = 'pg_class'::regclass and d.refobjid = p.partition
 where d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_policy'::regclass)
   -- What was the table keeps its own policies until it is split; nobody reaches it but through its parent.
   and not exists (select from pg_policy o
                    where d.classid = 'pg_policy'::regclass and o.oid = d.objid and o.polrelid = p.partition)
"""


@pytest.fixture
def url(make_application_db: MakeDb, now: datetime) -> str:
    """An application database with dependents of every kind, some of them on each other."""
    made = make_application_db(rows=False, migrated=True)
    fill(made, BEHAVIOUR, now, count=300, span=FEW_MONTHS)
    with connect(made) as conn:
        conn.execute(DEPENDENTS.encode())
    return made


def written_anew(conn: Connection, query: str) -> str:
    """A view's text once PostgreSQL has read its own text: it then names columns inside a UNION that had no name."""
    with conn.transaction(force_rollback=True):
        conn.execute(f"create temp view again as {query}".encode())
        return str(value(conn, "select pg_get_viewdef('pg_temp.again'::regclass)"))


def described(conn: Connection) -> dict[str, dict[str, Any]]:
    views = {row[0]: (row[1], written_anew(conn, row[2]), *row[3:]) for row in rows(conn, VIEWS)}
    functions = {row[0]: row[1:] for row in rows(conn, FUNCTIONS)}
    return {"view": views, "function": functions, "policy": {row[0]: row[1:] for row in rows(conn, POLICIES)}}


def assert_same(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> None:
    for kind, objects in before.items():
        assert after[kind].keys() == objects.keys()
        for name, expected in objects.items():
            assert after[kind][name] == expected, f"{kind} {name}"


@pytest.mark.parametrize("split_now", [True, False])
def test_definitions_options_grants_and_comments_stay(url: str, now: datetime, split_now: bool) -> None:
    with connect(url) as conn:
        before = described(conn)
        result = convert(url, BEHAVIOUR, now, split_now=split_now)
        assert_same(before, described(conn))
        assert rows(conn, STALE, (BEHAVIOUR.qualified_name,)) == []
        assert partition_status(conn, BEHAVIOUR, now).stale_dependents == ()
    switched = set(result.dependents_switched)
    assert {"public.visits", "public.daily", "reports.monthly", ODD_DAYS, "public.never"} <= switched
    assert "public.visits_of_visits" in switched
    assert "public.by_function" not in switched
    if split_now:
        assert leftovers(url) == []


@pytest.mark.parametrize("split_now", [True, False])
def test_everything_is_fresh(url: str, now: datetime, split_now: bool) -> None:
    """A row inserted after the conversion is seen through every view, function, policy and refreshed matview."""
    convert(url, BEHAVIOUR, now, split_now=split_now)
    with connect(url) as conn:
        events = value(conn, "select sum(events) from reports.totals")
        new = insert_event(conn, BEHAVIOUR, now, session="new")
        for view, column in (("visits", "id"), ("checked", "id"), ("visits_of_visits", "id"), ("triggered", "id")):
            query = sql.SQL("select count(*) from {} where {} = %s").format(
                sql.Identifier(view), sql.Identifier(column)
            )
            assert conn.execute(query, (new,)).fetchone() == (1,), view
        assert value(conn, "select count(*) from unions where new = 1") == 3
        assert value(conn, "select new_events()") == 1
        assert value(conn, "select new from by_function") == 1
        conn.execute("insert into checked (session_id, page_url) values ('new', '/through-the-view')")
        with pytest.raises(psycopg.errors.WithCheckOptionViolation):
            conn.execute("insert into checked (session_id, page_url) values ('other', '/')")

        assert value(conn, "select count(*) from daily where session_id = 'new'") == 0
        conn.execute("refresh materialized view concurrently daily")
        assert value(conn, "select sum(events) from daily where session_id = 'new'") == 2
        assert value(conn, "select sum(events) from daily_view") == events + 2
        assert value(conn, "select count(*) from busiest(0) where day = current_date") == 1
        conn.execute("refresh materialized view concurrently reports.monthly")
        assert value(conn, "select events from reports.totals") == events + 2
        conn.execute("refresh materialized view never")
        assert value(conn, "select count(*) from never where session_id = 'new'") == 2
        conn.execute("insert into guarded values (%s), (gen_random_uuid())", (new,))


def test_policy_of_another_table_reads_the_parent(url: str, as_role: Any, now: datetime) -> None:
    convert(url, BEHAVIOUR, now)
    with connect(url) as conn:
        conn.execute("create policy everybody on user_behavior_events for select using (true)")
        new = insert_event(conn, BEHAVIOUR, now, session="new")
        conn.execute("insert into guarded values (%s), (gen_random_uuid())", (new,))
    with as_role(url, "authenticated") as conn:
        assert rows(conn, "select id from guarded") == [(new,)]
        conn.execute("insert into guarded select id from user_behavior_events where page_url <> '/hidden' limit 1")


def test_view_made_during_the_conversion_follows(url: str, now: datetime) -> None:
    def make() -> None:
        with connect(url) as conn:
            conn.execute("create view latecomer as select * from user_behavior_events where session_id = 'new'")
            conn.execute("create materialized view late_matview as select * from latecomer")

    convert_table(
        url, BEHAVIOUR, now=now, progress=at_step("views switched", lambda: make() if not late(url) else None)
    )
    with connect(url) as conn:
        insert_event(conn, BEHAVIOUR, now, session="new")
        assert value(conn, "select count(*) from latecomer") == 1
        conn.execute("refresh materialized view late_matview")
        assert value(conn, "select count(*) from late_matview") == 1
        assert rows(conn, STALE, (BEHAVIOUR.qualified_name,)) == []


def late(url: str) -> bool:
    with connect(url) as conn:
        return bool(value(conn, "select to_regclass('latecomer') is not null"))


def test_dependents_are_ordered_by_depth(url: str) -> None:
    with connect(url) as conn:
        oid = value(conn, "select 'user_behavior_events'::regclass::oid::int8")
        names = [dependent.qualified_name for dependent in affected_dependents(conn, oid)]
    assert len(names) == len(set(names))
    assert names.index("public.daily") < names.index("reports.monthly") < names.index(ODD_DAYS)


def test_application_functions_and_views_go_on(make_application_db: MakeDb, now: datetime) -> None:
    """Every query of the application returns the same rows on its own data before and after."""
    url = make_application_db(rows=True, migrated=True)
    with connect(url) as conn:
        names = [
            row[0]
            for row in rows(
                conn,
                "select c.relname::text from pg_class c where c.relkind in ('v', 'm')"
                " and c.relnamespace = 'public'::regnamespace order by 1",
            )
        ]
        assert len(names) >= 16

        def contents() -> dict[str, list[Any]]:
            # What reads the clock differs by the second.
            query = "select (to_jsonb(v) - 'last_checked' - 'duration_minutes')::text from {} v order by 1"
            return {name: conn.execute(sql.SQL(query).format(sql.Identifier(name))).fetchall() for name in names}

        before = contents()
        convert(url, BEHAVIOUR, now)
        after = contents()
        assert {name for name in names if before[name] != after[name]} == set()
        assert sum(len(found) for found in after.values()) > 500
        assert "successfully" in value(conn, "select run_daily_maintenance()")


def test_a_materialized_view_is_not_opened_by_default_privileges(url: str, now: datetime) -> None:
    """Filled anew beside the old one, it would be open to whoever may read what is new."""
    with connect(url) as conn:
        conn.execute("create materialized view closed as select count(*) from user_behavior_events")
        conn.execute("revoke all on closed from anon, authenticated; grant select on closed to authenticated")
        conn.execute("alter default privileges grant all on tables to anon")
        convert(url, BEHAVIOUR, now, split_now=False)
        readable = "select has_table_privilege(%s, 'closed', 'select')"
        assert [value(conn, readable, (role,)) for role in ("anon", "authenticated")] == [False, True]
