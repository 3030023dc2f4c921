"""The recipes of docs/how-to/undo.md, run as the page shows them."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from lifecycle.migrating.capabilities import CAPABILITIES, declared_capabilities
from lifecycle.migrating.migrate import upgrade
from lifecycle.migrating.undo import undo as undo_capability
from lifecycle.partitions.tables import MonthlyTable
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES, event_table
from tests.docs_pages import ROOT, blocks, convert

UNDO = ROOT / "docs/how-to/undo.md"

# Everything an undo must bring back, as the server describes it. A view made anew names the columns of a later UNION
# branch, which mean nothing.
CATALOG = """
select 'column', c.oid::regclass::text, format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod),
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
union all select 'relation', c.oid::regclass::text, format('%s %s %s %s %s %s %s %s %s', c.relkind, c.relrowsecurity,
       c.relforcerowsecurity, c.relreplident, c.reloptions, c.relispopulated, pg_get_userbyid(c.relowner),
       obj_description(c.oid, 'pg_class'),
       (select array_agg(a::text order by a::text) from unnest(c.relacl) a))
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
union all select 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) || ' '
       || coalesce(obj_description(i.indexrelid, 'pg_class'), '')
  from pg_index i join pg_class c on c.oid = i.indrelid where c.relnamespace = 'public'::regnamespace
union all select 'constraint', k.conrelid::regclass::text, k.conname || ' ' || pg_get_constraintdef(k.oid)
  from pg_constraint k where k.connamespace = 'public'::regnamespace and k.conrelid <> 0 and k.contype <> 'n'
union all select 'view', c.oid::regclass::text, replace(pg_get_viewdef(c.oid), '::text AS text', '::text')
  from pg_class c where c.relnamespace in ('public'::regnamespace, to_regnamespace('lifecycle'))
   and c.relkind in ('v', 'm')
union all select 'comment', c.oid::regclass::text, a.attname || ' ' || col_description(c.oid, a.attnum)
  from pg_class c join pg_attribute a on a.attrelid = c.oid where c.relnamespace = 'public'::regnamespace
   and col_description(c.oid, a.attnum) is not null
union all select 'trigger', t.tgrelid::regclass::text, pg_get_triggerdef(t.oid) || t.tgenabled::text
  from pg_trigger t join pg_class c on c.oid = t.tgrelid
 where c.relnamespace = 'public'::regnamespace and not t.tgisinternal
union all select 'policy', p.tablename::text, p::text from pg_policies p where p.schemaname = 'public'
union all select 'publication', p.tablename::text, p::text from pg_publication_tables p
"""
# What a project may have put on the table beyond the replica's schema.
EXTRAS = """
alter table user_behavior_events enable row level security;
create policy "own events" on user_behavior_events for select to authenticated using (account_id = auth_account_id());
create policy everybody on user_behavior_events for insert with check (true);
create function stamp() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger stamp_row before insert on user_behavior_events for each row execute function stamp();
create trigger stamp_statement after insert on user_behavior_events for each statement execute function stamp();
alter table user_behavior_events disable trigger stamp_statement;
alter publication supabase_realtime add table user_behavior_events;
comment on index user_behavior_events_page_url_idx is 'for the report of pages';
revoke insert on user_behavior_events from anon;
grant update (page_url) on user_behavior_events to anon;
alter table user_behavior_events set (fillfactor = 90);
alter table user_behavior_events add column number bigserial, add column counted int generated always as identity;
create statistics of_pages on page_url, language from user_behavior_events;
create view recent_events with (security_invoker = true) as
    select * from user_behavior_events where event_timestamp > now() - interval '1 day';
comment on view recent_events is 'the last day';
revoke all on recent_events from anon;
create view summary_of_days as select event_date, count(*) from daily_user_behavior_summary group by 1;
"""


def block(start: str, table: MonthlyTable) -> str:
    """The one SQL block of undo.md that begins with `start`, for `table`."""
    found = [text for text in blocks(UNDO, "sql") if text.startswith(start)]
    assert len(found) == 1
    return found[0].replace("user_behavior_events", table.name)


def facts(conn: psycopg.Connection[Any], table: MonthlyTable) -> set[tuple[Any, ...]]:
    """Count and checksum of the table's rows, and the catalog of schema public."""
    rows = f"select 'rows', count(*), sum(hashtextextended(e::text, 0)) from public.{table.name} e"
    return {*conn.execute(rows.encode()).fetchall(), *conn.execute(CATALOG.encode()).fetchall()}


def undo(conn: psycopg.Connection[Any], table: MonthlyTable, *, split: bool) -> None:
    """Run the recipe as the page says, block by block in one session."""
    if not split:
        conn.execute(block("create unique index concurrently", table).encode())
    conn.execute(block("begin;\nset local lock_timeout", table).encode())
    conn.execute(block("-- B." if split else "-- A.", table).encode())
    put_back, analyze = block("do $$\ndeclare\n    statement", table).split("analyze ")
    conn.execute(put_back.encode())
    conn.execute(b"analyze " + analyze.encode())


def undo_all(url: str) -> None:
    """Run the page's commands that leave nothing."""
    (commands,) = [text for text in blocks(UNDO, "sh") if "lifecycle undo" in text]
    names = [line.rpartition(" ")[2] for line in commands.splitlines()]
    assert names == [capability.name for capability in reversed(CAPABILITIES)]
    declared = {capability.name for capability in declared_capabilities(APPLICATION)}
    for name in names:
        assert bool(undo_capability(url, APPLICATION, name).changes) is (name in declared), name


@pytest.mark.parametrize(
    ("stand", "auto_grant"),
    [
        ("attached", True),
        pytest.param("attached", False, marks=pytest.mark.every_version),
        pytest.param("cut off", True, marks=pytest.mark.every_version),
        ("done", True),
        pytest.param("done", False, marks=pytest.mark.every_version),
    ],
)
def test_undo_brings_back_the_plain_table(make_application_db: MakeApplicationDb, stand: str, auto_grant: bool) -> None:
    url = make_application_db(auto_grant=auto_grant, migrated=True)
    table = replace(event_table("user_behavior_events"), accept_no_realtime=True)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(EXTRAS.encode())
        before = facts(conn, table)
        if stand == "cut off":
            with pytest.raises(KeyboardInterrupt):
                convert(url, table, split=True, until="changes replayed")
        else:
            convert(url, table, split=stand == "done")
        undo(conn, table, split=stand == "done")
        assert facts(conn, table) == before

        conn.execute("insert into user_behavior_events (session_id, page_url) values ('after', '/undo')")
        assert conn.execute("select count(*) from recent_events where session_id = 'after'").fetchone() == (1,)
        conn.execute("refresh materialized view concurrently daily_user_behavior_summary")
        convert(url, table, split=True)
        assert conn.execute("select count(*) from recent_events where session_id = 'after'").fetchone() == (1,)


@pytest.mark.every_version
def test_nothing_of_the_project_is_left_after_the_last_step(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db()
    functions = b"select p.oid::regprocedure::text, pg_get_functiondef(p.oid), array(select a::text \
                    from unnest(coalesce(p.proacl, acldefault('f', p.proowner))) a order by 1) from pg_proc p \
                   where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' order by 1"
    with psycopg.connect(url, autocommit=True) as conn:
        functions_before = conn.execute(functions).fetchall()
        catalog_before = {*conn.execute(CATALOG.encode()).fetchall()}
        upgrade(url, APPLICATION)
        for table in EVENT_TABLES:
            before = facts(conn, table)
            convert(url, table, split=True)
            undo(conn, table, split=True)
            assert facts(conn, table) == before
        undo_all(url)
        assert conn.execute(functions).fetchall() == functions_before
        assert {*conn.execute(CATALOG.encode())} == catalog_before
        # What a view said cannot be computed again: it stays until a person drops it.
        left = "select c.oid::regclass::text from pg_class c where c.relnamespace = to_regnamespace('lifecycle')"
        histories = [
            f"lifecycle.kept_{name.name}_history" for name, view in APPLICATION.views.kept.items() if view.history
        ]
        assert [name for (name,) in conn.execute(f"{left} and c.relkind = 'r'".encode())] == histories
        for name in histories:
            conn.execute(f"drop table {name}".encode())
        schemas = "select nspname from pg_namespace where nspname in ('lifecycle', 'event_partitions')"
        assert conn.execute(schemas.encode()).fetchall() == [("lifecycle",)]
