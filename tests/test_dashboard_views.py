"""Views that give way to tables, in databases that other hands have changed: who reads them goes on reading."""

import re

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import connect, rows, value
from lifecycle.migrating.migrate import upgrade
from sandbox.server import Server
from tests.conftest import MakeApplicationDb
from tests.migrating import downgrade
from tests.statistics_agreement import COMPARED, disagreements

ACCESS = """
select c.relname, c.relkind, array(select a::text from unnest(c.relacl) a order by 1) as grants, c.reloptions,
       obj_description(c.oid, 'pg_class'), pg_get_userbyid(c.relowner),
       array(select format('%%s %%s %%s', t.attname, t.attacl, col_description(c.oid, t.attnum)) from pg_attribute t
              where t.attrelid = c.oid and t.attnum > 0 order by t.attnum)
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relname = any (%s) order by 1
"""


def as_superuser(server: Server, url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(server.url(url.rpartition("/")[2], user="supabase_admin"), autocommit=True)


@pytest.mark.parametrize("view", ["hourly_usage_patterns", "account_function_usage"])
def test_a_view_that_was_missing_is_made_closed_and_goes_again(
    make_application_db: MakeApplicationDb, view: str
) -> None:
    url = make_application_db()
    with connect(url) as conn:
        kind = "materialized view" if view == "account_function_usage" else "view"
        conn.execute(f"drop {kind} {view}".encode())
        upgrade(url)
        assert value(conn, f"select count(*) from {view}") > 0
        for role in ("anon", "authenticated"):
            assert not value(conn, "select has_table_privilege(%s, %s, 'select')", (role, f"public.{view}"))
        downgrade(url)
        assert value(conn, "select to_regclass(%s)", (f"public.{view}",)) is None
        upgrade(url)
        assert value(conn, f"select count(*) from {view}") > 0


def test_views_of_another_owner_can_still_be_read(server: Server, make_application_db: MakeApplicationDb) -> None:
    """A view reads with its owner's rights, and the dashboards' role knows nothing of schema lifecycle."""
    url = make_application_db()
    with as_superuser(server, url) as admin:
        admin.execute("create role dashboards")
        try:
            admin.execute("grant dashboards to postgres")
            admin.execute("grant create on schema public to dashboards")
            admin.execute("grant select on all tables in schema public to dashboards")
            for view in COMPARED:
                admin.execute(sql.SQL("alter table {} owner to dashboards").format(sql.Identifier(view)))
            upgrade(url)
            with connect(url) as conn:
                assert disagreements(conn) == {}
                conn.execute("set role dashboards")
                for view in COMPARED:
                    assert value(conn, f"select count(*) from public.{view}") > 0, view
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute("select * from lifecycle.chat_session_hours")
            downgrade(url)
            owners = rows(connect(url), ACCESS, (list(COMPARED),))
            assert {row[5] for row in owners} == {"dashboards"}
        finally:
            admin.execute("reassign owned by dashboards to postgres")
            admin.execute("drop owned by dashboards")
            admin.execute("drop role dashboards")


def test_grants_and_comments_stay_those_of_columns_included(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db()
    views = ["account_function_usage", "daily_active_users", "feature_usage_summary"]
    with connect(url) as conn:
        conn.execute(
            """alter view daily_active_users set (security_barrier = true);
               grant select on daily_active_users to anon with grant option;
               comment on column daily_active_users.dau is 'accounts';
               revoke all on account_function_usage from anon, authenticated;
               grant select (function_name, usage_count) on account_function_usage to anon;
               comment on column account_function_usage.usage_count is 'calls';
               comment on materialized view account_function_usage is 'counted';
               revoke all on feature_usage_summary from anon, authenticated, service_role"""
        )
        before = rows(conn, ACCESS, (views,))
        upgrade(url)
        kept = rows(conn, ACCESS, (views,))
        # Whom it is declared for may read it; whoever else could before can again after the way back.
        backend = [[grant for grant in row[2] if grant.startswith(("postgres=", "service_role="))] for row in before]
        assert [row[2] for row in kept] == [["ops=r/postgres", *grants] for grants in backend]
        assert [row[3:6] for row in kept] == [row[3:6] for row in before]
        assert [[re.sub(r"\{.*\}", "", column) for column in row[6]] for row in before] == [row[6] for row in kept]
        assert [row[1] for row in before] == ["m", "v", "v"]
        assert [row[1] for row in kept] == ["v", "v", "v"]
        downgrade(url)
        assert rows(conn, ACCESS, (views,)) == before


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_every_reader_sees_the_same_whatever_the_zone(make_application_db: MakeApplicationDb, zone: str) -> None:
    with connect(make_application_db(migrated=True)) as conn:
        found = []
        for reader in ("UTC", zone):
            with conn.transaction():
                conn.execute("select set_config('timezone', %s, true)", (reader,))
                rows(conn, "select * from refresh_derived_statistics()")
                found.append(
                    [rows(conn, f"select * from public.{view}") for view in COMPARED[2:] if "metrics" not in view]
                )
        assert found[0] == found[1]
