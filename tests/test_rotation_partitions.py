"""What a partition made by rotation is: everything of its parent, and closed to the API."""

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start, partition_name
from lifecycle.partitions.tables import PARTITION_SCHEMA
from tests.conftest import AsRole, MakeApplicationDb
from tests.declared import EVENT_TABLES
from tests.partitioned import (
    BEHAVIOR,
    BUSINESS,
    REPLAYS,
    MakePartitionedDb,
    done,
    insert_events,
    rotate_all,
    server_clock,
)

pytest_plugins = ("tests.partitioned_fixtures",)

INDEXES = """
select regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', ''), i.indisunique, i.indisprimary, i.indisvalid
  from pg_index i where i.indrelid = %s::regclass order by 1
"""
CONSTRAINTS = """
select k.contype::text, pg_get_constraintdef(k.oid), k.convalidated
  from pg_constraint k where k.conrelid = %s::regclass and k.contype <> 'n' order by 1, 2
"""
TRIGGERS = """
select t.tgname, t.tgenabled::text, t.tgtype from pg_trigger t
 where t.tgrelid = %s::regclass and not t.tgisinternal and t.tgtype & 1 = 1 order by 1
"""
COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attstorage::text,
       a.attcompression::text, pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attname
"""
FACTS = """
select pg_get_userbyid(relowner), relreplident::text, relpersistence::text from pg_class where oid = %s::regclass
"""
API_PRIVILEGES = """
select r.rolname, v.privilege from pg_roles r
 cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) v(privilege)
 where r.rolname in ('anon', 'authenticated', 'service_role') and has_table_privilege(r.oid, %s::regclass, v.privilege)
"""


def rotated_partition(conn: Connection, table: str) -> str:
    """Make the next month of `table` by rotation; returns its qualified name."""
    this = month_start(server_clock(conn))
    name = partition_name(table, add_months(this, 4))
    assert name in done(rotate_all(conn, add_months(this, 1)), "create")
    return f"{PARTITION_SCHEMA}.{name}"


def same_as_parent(conn: Connection, parent: str, partition: str) -> None:
    for query in (INDEXES, CONSTRAINTS, TRIGGERS, COLUMNS, FACTS):
        assert rows(conn, query, (partition,)) == rows(conn, query, (parent,)), query


@pytest.mark.parametrize("auto_grant", [True, False])
def test_a_new_partition_is_like_its_parent_and_closed(
    make_partitioned_db: MakePartitionedDb, auto_grant: bool
) -> None:
    with connect(make_partitioned_db(auto_grant=auto_grant)) as conn:
        rotated_partition(conn, BEHAVIOR.name)
        this = month_start(server_clock(conn))
        for table in EVENT_TABLES:
            partition = f"{PARTITION_SCHEMA}.{partition_name(table.name, add_months(this, 4))}"
            same_as_parent(conn, table.qualified_name, partition)
            # The tools that compare schemas stop at row-level security on a partition.
            assert not value(conn, "select relrowsecurity from pg_class where oid = %s::regclass", (partition,))
            assert rows(conn, API_PRIVILEGES, (partition,)) == []
            assert (
                value(conn, "select obj_description(%s::regclass, 'pg_class')", (partition,))
                == f"lifecycle:month of {table.qualified_name}"
            )


def test_partitions_stay_closed_where_everything_is_granted_by_default(partitioned: Connection) -> None:
    partitioned.execute("alter default privileges grant all on tables to anon, authenticated, service_role, public")
    partition = rotated_partition(partitioned, REPLAYS.name)
    assert rows(partitioned, API_PRIVILEGES, (partition,)) == []


@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_api_writes_through_the_parent_and_reaches_no_partition(
    make_partitioned_db: MakePartitionedDb, as_role: AsRole, auto_grant: bool
) -> None:
    url = make_partitioned_db(auto_grant=auto_grant)
    with connect(url) as conn:
        partition = rotated_partition(conn, BEHAVIOR.name)
        moment = add_months(month_start(server_clock(conn)), 4)
    for role in ("anon", "service_role"):
        with as_role(url, role) as api:
            insert_events(api, REPLAYS, moment, session=role)
    with connect(url) as conn:
        arrived = "select session_id from session_replay_events where session_id = any (%s) order by 1"
        assert rows(conn, arrived, (["anon", "service_role"],)) == [("anon",), ("service_role",)]
    for statement in ("select from {}", "delete from {}", "truncate {}"):
        for role in ("anon", "authenticated"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), as_role(url, role) as api:
                api.execute(sql.SQL(statement).format(sql.SQL(partition)))


def test_what_the_application_added_to_the_parent_comes_along(partitioned: Connection) -> None:
    partitioned.execute(
        """
        create index user_behavior_events_language_idx on user_behavior_events (language) where language is not null;
        alter table user_behavior_events add column device text not null default 'unknown' check (device <> '');
        alter table user_behavior_events alter column page_url set storage external;
        comment on column user_behavior_events.device is 'phone or desk';
        create function stamp() returns trigger language plpgsql as 'begin new.language := ''ja''; return new; end';
        create trigger stamp before insert on user_behavior_events for each row execute function stamp();
        create trigger sleeping before insert on user_behavior_events for each row execute function stamp();
        alter table user_behavior_events disable trigger sleeping;
        """
    )
    partition = rotated_partition(partitioned, BEHAVIOR.name)
    same_as_parent(partitioned, BEHAVIOR.qualified_name, partition)
    insert_events(partitioned, BEHAVIOR, add_months(month_start(server_clock(partitioned)), 4), session="new")
    assert (
        value(partitioned, "select language || device from user_behavior_events where session_id = 'new'")
        == "jaunknown"
    )


def test_a_deleted_account_leaves_its_events_without_account(partitioned: Connection) -> None:
    partition = rotated_partition(partitioned, BEHAVIOR.name)
    insert_events(partitioned, BEHAVIOR, add_months(month_start(server_clock(partitioned)), 4), session="new")
    partitioned.execute("delete from accounts")
    orphans = "select count(*) from user_behavior_events where tableoid = %s::regclass and account_id is null"
    assert value(partitioned, orphans, (partition,)) == 1
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        partitioned.execute(
            "insert into business_metrics_events (account_id, session_id, page_url)"
            " values (gen_random_uuid(), 'nobody', '/')"
        )


@pytest.mark.parametrize(
    "identity", ["full", "nothing", "using index replays_identity", "default"], ids=lambda identity: identity.split()[0]
)
def test_replica_identity_follows_the_parent(partitioned: Connection, identity: str) -> None:
    partitioned.execute("create unique index replays_identity on session_replay_events (session_id, id, timestamp)")
    partitioned.execute(f"alter table session_replay_events replica identity {identity}")
    partition = rotated_partition(partitioned, REPLAYS.name)
    same_as_parent(partitioned, REPLAYS.qualified_name, partition)
    if "index" in identity:
        index = value(
            partitioned,
            "select pg_get_indexdef(indexrelid) from pg_index where indrelid = %s::regclass and indisreplident",
            (partition,),
        )
        assert '(session_id, id, "timestamp")' in index


def test_storage_options_of_the_original_table_come_along(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        options = ["fillfactor=80", "autovacuum_vacuum_scale_factor=0.05", "toast.autovacuum_enabled=false"]
        conn.execute(f"alter table business_metrics_events set ({', '.join(options)})".encode())
        convert_table(url, BUSINESS, now=server_clock(conn), progress=lambda _message, _fraction: None)
        partition = rotated_partition(conn, BUSINESS.name)
        of_table = "select reloptions from pg_class where oid = %s::regclass"
        assert set(value(conn, of_table, (partition,))) == set(options[:2])
        of_toast = (
            "select t.reloptions from pg_class c join pg_class t on t.oid = c.reltoastrelid where c.oid = %s::regclass"
        )
        assert value(conn, of_toast, (partition,)) == ["autovacuum_enabled=false"]


def test_another_owner_owns_the_new_partitions_too(partitioned: Connection) -> None:
    owner = value(partitioned, "select 'Events of ' || current_database()")
    role = sql.Identifier(owner)
    partitioned.execute(sql.SQL("create role {}").format(role))
    try:
        # The bootstrap superuser granted nothing: on 16+ a creator's ADMIN option alone does not let it SET ROLE.
        partitioned.execute(sql.SQL("grant {} to current_user").format(role))
        partitioned.execute(sql.SQL("grant create on schema public, event_partitions to {}").format(role))
        partitioned.execute(sql.SQL("alter table session_replay_events owner to {}").format(role))
        partition = rotated_partition(partitioned, REPLAYS.name)
        assert (
            value(partitioned, "select pg_get_userbyid(relowner) from pg_class where oid = %s::regclass", (partition,))
            == owner
        )
        assert rows(partitioned, API_PRIVILEGES, (partition,)) == []
    finally:
        partitioned.execute(sql.SQL("reassign owned by {} to current_user").format(role))
        partitioned.execute(sql.SQL("drop owned by {}").format(role))
        partitioned.execute(sql.SQL("drop role {}").format(role))
