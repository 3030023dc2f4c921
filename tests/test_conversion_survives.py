"""Everything that belongs to a table besides its rows is there after the conversion, as the catalog and by effect."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from tests.conversion_load import BEHAVIOUR, FEW_MONTHS, convert, fill, fingerprint, insert_event, leftovers
from tests.furnished import FURNISH, PUBLISH

MakeDb = Callable[..., str]
AsRole = Callable[..., AbstractContextManager[Connection]]

# Every query answers about the table under its name; `ON ONLY` is how the server writes a partitioned index.
FACTS: dict[str, str] = {
    "table": """select relowner::regrole::text, array(select unnest(relacl)::text order by 1), relrowsecurity,
                       relforcerowsecurity, relreplident::text,
                       obj_description(oid, 'pg_class') from pg_class where oid = %s::regclass""",
    "columns": """select attname, format_type(atttypid, atttypmod), attnotnull, attgenerated::text, attstorage::text,
                         attcompression::text, array(select unnest(attacl)::text order by 1),
                         pg_get_expr(d.adbin, d.adrelid), col_description(attrelid, attnum)
                    from pg_attribute a left join pg_attrdef d on d.adrelid = attrelid and d.adnum = attnum
                   where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attname""",
    "indexes": """select c.relname::text, replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON '),
                         obj_description(c.oid, 'pg_class'), i.indisreplident, i.indisvalid
                    from pg_index i join pg_class c on c.oid = i.indexrelid
                   where i.indrelid = %s::regclass and not i.indisprimary order by 1""",
    "constraints": """select conname, pg_get_constraintdef(oid), convalidated, obj_description(oid, 'pg_constraint')
                        from pg_constraint where conrelid = %s::regclass and contype in ('c', 'f', 'u') order by 1""",
    "triggers": """select tgname, pg_get_triggerdef(oid), tgenabled::text, obj_description(oid, 'pg_trigger')
                     from pg_trigger where tgrelid = %s::regclass and not tgisinternal order by 1""",
    "policies": """select polname, polcmd::text, polpermissive, polroles::regrole[]::text,
                          pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
                     from pg_policy where polrelid = %s::regclass order by 1""",
    "publications": """select p.pubname, p.pubinsert, p.pubupdate, p.pubdelete,
                              array(select attname from pg_attribute where attrelid = prrelid
                                     and attnum = any (prattrs) order by 1), pg_get_expr(prqual, prrelid)
                         from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
                        where prrelid = %s::regclass order by 1""",
    "statistics": """select stxkeys::text is not null, pg_get_statisticsobjdef_columns(oid) from pg_statistic_ext
                      where stxrelid = %s::regclass""",
}


def facts(conn: Connection) -> dict[str, Any]:
    return {name: rows(conn, query, (BEHAVIOUR.qualified_name,)) for name, query in FACTS.items()}


@pytest.fixture
def furnished(make_application_db: MakeDb, now: datetime) -> str:
    """A small event table with everything that a table can carry."""
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=200, span=FEW_MONTHS)
    with connect(url) as conn:
        conn.execute(FURNISH.encode())
        for statement in PUBLISH:
            conn.execute(statement.encode())
    return url


@pytest.mark.parametrize("identity", ["full", "using index user_behavior_events_replica"])
def test_catalog_says_the_same(furnished: str, now: datetime, identity: str) -> None:
    with connect(furnished) as conn:
        conn.execute(f"alter table user_behavior_events replica identity {identity}".encode())
        before, content = facts(conn), fingerprint(furnished, BEHAVIOUR)
        assert all(before.values()), "the preparation must have made something of every kind"
        convert(furnished, BEHAVIOUR, now)
        after = facts(conn)
        for kind, expected in before.items():
            assert after[kind] == expected, kind
        assert fingerprint(furnished, BEHAVIOUR) == content
        key = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'user_behavior_events_pkey'"
        assert value(conn, key) == "PRIMARY KEY (id, event_timestamp)"
        via_root = "select array_agg(pubname::text order by pubname) from pg_publication where pubviaroot"
        assert value(conn, via_root) == ["everything", "some_columns", "via_root"]
        identities = """select distinct c.relreplident from lifecycle.event_partitions_of('user_behavior_events') p
                          join pg_class c on c.oid = p.partition"""
        assert rows(conn, identities) == [(before["table"][0][4],)]
    assert leftovers(furnished) == []


def test_partitions_carry_the_options_and_the_indexes(furnished: str, now: datetime) -> None:
    convert(furnished, BEHAVIOUR, now)
    with connect(furnished) as conn:
        options = """select distinct c.reloptions, t.reloptions from lifecycle.event_partitions_of(%s) p
                       join pg_class c on c.oid = p.partition join pg_class t on t.oid = c.reltoastrelid"""
        found = rows(conn, options, (BEHAVIOUR.qualified_name,))
        assert [set(row[0]) for row in found] == [{"autovacuum_vacuum_scale_factor=0.05", "fillfactor=90"}]
        assert [row[1] for row in found] == [["autovacuum_vacuum_cost_delay=5"]]
        unattached = """select p.name from lifecycle.event_partitions_of(%s) p
                         where (select count(*) from pg_index i where i.indrelid = p.partition and i.indisvalid)
                            <> (select count(*) from pg_index i where i.indrelid = %s::regclass)"""
        assert rows(conn, unattached, (BEHAVIOUR.qualified_name,) * 2) == []


def test_triggers_fire_once(furnished: str, now: datetime) -> None:
    def fired(conn: Connection) -> list[tuple[Any, ...]]:
        conn.execute("truncate fired")
        new = insert_event(conn, BEHAVIOUR, now)
        conn.execute("update user_behavior_events set page_url = '/fire' where id = %s", (new,))
        conn.execute("delete from user_behavior_events where id = %s", (new,))
        conn.execute("insert into user_behavior_events (session_id, page_url) values ('a', '/fire'), ('b', '/no')")
        conn.execute("delete from user_behavior_events where session_id in ('a', 'b')")
        return rows(conn, "select by, operation, count(*) from fired group by 1, 2 order by 1, 2")

    with connect(furnished) as conn:
        before = fired(conn)
        assert len(before) >= 8
        convert(furnished, BEHAVIOUR, now, split_now=False)
        assert fired(conn) == before
        convert(furnished, BEHAVIOUR, now)
        assert fired(conn) == before


def test_foreign_key_still_forgets_the_account(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=200, span=FEW_MONTHS)
    of_account = "select count(*) from user_behavior_events where account_id = md5('account2')::uuid"
    unnamed = "select count(*) from user_behavior_events where account_id is null"
    convert(url, BEHAVIOUR, now)
    with connect(url) as conn:
        theirs, nobodys = value(conn, of_account), value(conn, unnamed)
        assert theirs > 0
        conn.execute("delete from accounts where id = md5('account2')::uuid")
        assert value(conn, of_account) == 0
        assert value(conn, unnamed) == nobodys + theirs
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            conn.execute(
                "insert into user_behavior_events (account_id, session_id, page_url)"
                " values (gen_random_uuid(), 'x', '/')"
            )


@pytest.mark.parametrize("split_now", [True, False])
def test_policies_and_grants_by_effect(furnished: str, as_role: AsRole, now: datetime, split_now: bool) -> None:
    """The owner of an account sees its rows and the granted columns, anon nothing, as before."""
    user = "11111111-1111-1111-1111-111111111111"
    with connect(furnished) as conn:
        conn.execute(
            "insert into account_linkages (account_id, supabase_user_id) values (md5('account2')::uuid, %s)", (user,)
        )
        expected = value(conn, "select count(*) from user_behavior_events where account_id = md5('account2')::uuid")
    convert(furnished, BEHAVIOUR, now, split_now=split_now)
    for query in ("select event_timestamp from user_behavior_events", "delete from user_behavior_events"):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            as_role(furnished, "authenticated", {"sub": user}) as conn,
        ):
            conn.execute(query.encode())
    with as_role(furnished, "authenticated", {"sub": user}) as conn:
        assert value(conn, "select count(id) from user_behavior_events") == expected > 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(furnished, "anon") as conn:
        conn.execute("select id from user_behavior_events")
    with as_role(furnished, "service_role") as conn:
        insert_event(conn, BEHAVIOUR, now)
        conn.execute(sql.SQL("update user_behavior_events set page_url = '/x' where session_id = 'odd'"))


def test_table_of_another_owner(make_application_db: MakeDb, server: Any, now: datetime) -> None:
    """The connecting role is a member of the owner; the owner stays, of the partitions too."""
    url = make_application_db(rows=False, migrated=True)
    database = url.rsplit("/", 1)[1]
    with psycopg.connect(server.url(database, user="supabase_admin"), autocommit=True) as admin:
        admin.execute("drop role if exists event_owner")
        admin.execute("create role event_owner")
        admin.execute("grant event_owner to postgres")
        admin.execute("grant usage, create on schema public to event_owner")
        admin.execute("alter table user_behavior_events owner to event_owner")
        try:
            fill(url, BEHAVIOUR, now, count=100, span=FEW_MONTHS)
            before = fingerprint(url, BEHAVIOUR)
            assert convert(url, BEHAVIOUR, now).outcome == "converted"
            assert fingerprint(url, BEHAVIOUR) == before
            owners = """select distinct pg_get_userbyid(relowner) from pg_class
                         where oid = 'user_behavior_events'::regclass
                            or relnamespace = 'event_partitions'::regnamespace"""
            assert admin.execute(owners).fetchall() == [("event_owner",)]
        finally:
            admin.execute("reassign owned by event_owner to postgres")
            admin.execute("drop owned by event_owner")
            admin.execute("drop role event_owner")
