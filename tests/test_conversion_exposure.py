"""No partition is ever reachable by anon or authenticated, whether or not the database grants new tables to them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from lifecycle.partitions.convert import convert_table
from tests.conversion_load import BEHAVIOUR, fill, insert_event
from tests.declared import EVENT_TABLES

MakeDb = Callable[..., str]
AsRole = Callable[..., AbstractContextManager[Connection]]

# Everything of ours that an API role may touch, at any moment of the conversion.
OPEN = """
select format('%s of %s for %s', v.privilege, c.oid::regclass, r.rolname)
  from pg_class c cross join pg_roles r
  cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v(privilege)
 where c.relnamespace in (to_regnamespace('event_partitions'), to_regnamespace('lifecycle'))
   and c.relkind in ('r', 'p', 'm', 'v')
   and r.rolname in ('anon', 'authenticated') and has_table_privilege(r.oid, c.oid, v.privilege)
   and has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
union all
select 'grant on ' || c.oid::regclass from pg_class c, aclexplode(c.relacl) a
 where c.relnamespace = to_regnamespace('event_partitions') and c.relkind = 'r' and a.grantee <> c.relowner
   and obj_description(c.oid, 'pg_class') like 'lifecycle:%'
union all
select 'schema for ' || r.rolname from pg_roles r where r.rolname in ('anon', 'authenticated')
   and (has_schema_privilege(r.oid, 'event_partitions', 'USAGE') or has_schema_privilege(r.oid, 'lifecycle', 'USAGE'))
union all
select 'function ' || p.oid::regprocedure from pg_proc p, pg_roles r
 where p.prosecdef and p.proname like 'capture%' and r.rolname in ('anon', 'authenticated')
   and has_function_privilege(r.oid, p.oid, 'EXECUTE')
"""
PARTITIONS = "select p.name from lifecycle.event_partitions_of(to_regclass(%s)) p"
# What each API role may do with the application's own tables and views: the conversion must not change it.
ALLOWED = """
select c.relname, r.rolname, array(select v from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) v
                                    where has_table_privilege(r.oid, c.oid, v))
  from pg_class c cross join pg_roles r
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
   and r.rolname in ('anon', 'authenticated', 'service_role') order by 1, 2
"""


@pytest.mark.parametrize(
    "auto_grant",
    [True, pytest.param(False, marks=pytest.mark.every_version)],
    ids=["auto_grant", "explicit_grants"],
)
def test_partitions_are_closed(make_application_db: MakeDb, as_role: AsRole, now: datetime, auto_grant: bool) -> None:
    url = make_application_db(rows=False, auto_grant=auto_grant, migrated=True)
    with connect(url) as conn:
        allowed = rows(conn, ALLOWED)
        seen: set[str] = set()

        def look(_message: str, _fraction: float) -> None:
            seen.update(row[0] for row in rows(conn, OPEN))

        for table in EVENT_TABLES:
            fill(url, table, now, count=100)
            convert_table(url, table, now=now, progress=look)
        look("", 1.0)
        assert seen == set()
        assert rows(conn, ALLOWED) == allowed
        partitions = [row[0] for table in EVENT_TABLES for row in rows(conn, PARTITIONS, (table.qualified_name,))]
        # Even with the schema opened by mistake, each partition stays closed.
        conn.execute("grant usage on schema event_partitions to anon, authenticated")
    assert len(partitions) > 60
    for role in ("anon", "authenticated"):
        with as_role(url, role) as conn:
            for partition in partitions:
                for statement in ("select from {}", "delete from {}", "truncate {}"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                        conn.execute(sql.SQL(statement).format(sql.Identifier("event_partitions", partition)))


@pytest.mark.parametrize(
    "auto_grant",
    [True, pytest.param(False, marks=pytest.mark.every_version)],
    ids=["auto_grant", "explicit_grants"],
)
def test_the_api_goes_on(make_application_db: MakeDb, as_role: AsRole, now: datetime, auto_grant: bool) -> None:
    """The service role and, where it may, anon insert through the table's name in every state of the conversion."""
    url = make_application_db(rows=False, auto_grant=auto_grant, migrated=True)
    fill(url, BEHAVIOUR, now, count=50, odd=False)
    inserted = 0

    def insert(_message: str, _fraction: float) -> None:
        nonlocal inserted
        for role in ("service_role", "anon"):
            with as_role(url, role) as conn:
                insert_event(conn, BEHAVIOUR, now, session="api")
                inserted += 1

    convert_table(url, BEHAVIOUR, now=now, progress=insert)
    insert("", 1.0)
    with connect(url) as conn:
        assert value(conn, "select count(*) from user_behavior_events where session_id = 'api'") == inserted
