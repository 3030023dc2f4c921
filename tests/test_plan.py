"""The plan: what is refused, with which reason, before anything is touched; what is only warned of; what is next."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest

from lifecycle.database import connect, rows
from lifecycle.errors import RefusedError
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.plan import plan_conversion, plan_rotation
from tests.conversion_load import (
    BEHAVIOUR,
    BUSINESS,
    REPLAY,
    at_step,
    convert,
    fill,
    insert_event,
    leftovers,
    open_transaction,
)

MakeDb = Callable[..., str]

# What is done to the table, and words of the reason that the plan must give.
REFUSED = {
    "inbound foreign key": (
        "create table notes (event uuid constraint notes_event references user_behavior_events (id))",
        ("foreign key notes_event of notes points at it", "drop that constraint"),
    ),
    "unique index without the time": (
        "create unique index one_page on user_behavior_events (account_id, page_url)",
        ("unique index one_page does not hold event_timestamp",),
    ),
    "unique constraint without the time": (
        "alter table user_behavior_events add constraint once unique (session_id, page_url)",
        ("unique index once does not hold event_timestamp",),
    ),
    "exclusion constraint": (
        "alter table user_behavior_events add constraint apart exclude (page_url with =)",
        ("exclusion constraint apart",),
    ),
    "constraint that is not valid": (
        "alter table user_behavior_events add constraint short check (length(page_url) < 9) not valid",
        ("constraint short is NOT VALID", "VALIDATE CONSTRAINT"),
    ),
    "rule": (
        "create rule quiet as on delete to user_behavior_events do instead nothing",
        ("rule quiet", "trigger"),
    ),
    "row trigger with transition table": (
        "create function f() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger each after insert on user_behavior_events referencing new table as n"
        " for each row execute function f()",
        ("trigger each has transition tables",),
    ),
    "inheritance": ("create table child () inherits (user_behavior_events)", ("inherited by", "child")),
    "row type in a function": (
        "create function newest() returns setof user_behavior_events language sql as"
        " 'select * from user_behavior_events'",
        ("newest()", "row type"),
    ),
    "row type in a column": (
        "create table copies (event user_behavior_events)",
        ("column event of table copies", "row type"),
    ),
    "GROUP BY the key alone": (
        "create view grouped as select id, page_url, count(*) from user_behavior_events group by id",
        ("grouped depends on the primary key", "GROUP BY"),
    ),
    "unlogged": ("alter table user_behavior_events set unlogged", ("unlogged",)),
    "no primary key": (
        "alter table user_behavior_events drop constraint user_behavior_events_pkey",
        ("no primary key",),
    ),
    "no time column": (
        "alter table user_behavior_events rename column event_timestamp to happened_at",
        ("no column event_timestamp",),
    ),
    "time without zone": (
        "drop view daily_active_users, weekly_monthly_active_users, user_retention, weekly_cohort_analysis,"
        " user_engagement_scores, data_quality_metrics cascade; drop materialized view daily_user_behavior_summary;"
        "alter table user_behavior_events alter column event_timestamp type timestamp",
        ("event_timestamp must be timestamptz NOT NULL, and is timestamp without time zone",),
    ),
    "nullable time": (
        "alter table user_behavior_events alter column event_timestamp drop not null",
        ("event_timestamp must be timestamptz NOT NULL",),
    ),
    "serial column": (
        "alter table user_behavior_events add column number bigserial",
        ("column number draws its values from a sequence",),
    ),
    "identity column": (
        "alter table user_behavior_events add column number int generated always as identity",
        ("column number draws its values from a sequence",),
    ),
    "view with ONLY": (
        "create view bare as select e.id from only user_behavior_events e",
        ("bare reads it with ONLY",),
    ),
    "rule of another table": (
        "create table other (id uuid);"
        "create rule copy as on insert to other do also insert into user_behavior_events (session_id, page_url)"
        " values ('rule', '/')",
        ("rule copy", "other"),
    ),
    "materialized views of one name": (
        "create schema reports;"
        "create materialized view daily as select count(*) from user_behavior_events;"
        "create materialized view reports.daily as select count(*) from user_behavior_events",
        ("2 relations named daily",),
    ),
    "materialized view named like a table": (
        "create schema reports; create table daily ();"
        "create materialized view reports.daily as select count(*) from user_behavior_events",
        ("daily has the name of a relation",),
    ),
}
# Everything in the database but the ledger and statistics; conversion must not have changed it when it refuses.
CATALOG = """
select c.oid::int8, c.relname::text, c.relkind::text, c.relnamespace::int8, c.reloptions, c.relacl::text, c.relhastriggers
  from pg_class c where c.relnamespace <> 'pg_toast'::regnamespace and c.relnamespace::regnamespace::text !~ '^pg_temp'
 order by c.oid
"""


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused_before_anything_is_touched(make_application_db: MakeDb, now: datetime, case: str) -> None:
    url = make_application_db(rows=False, migrated=True)
    statements, words = REFUSED[case]
    with connect(url) as conn:
        conn.execute(statements.encode())
        plan = plan_conversion(conn, BEHAVIOUR, now)
        assert plan.state == "refused"
        before = rows(conn, CATALOG)
        with pytest.raises(RefusedError) as refused:
            convert(url, BEHAVIOUR, now)
        assert rows(conn, CATALOG) == before
    for word in words:
        assert word in "\n".join(plan.refusals)
        assert word in str(refused.value)
    assert "public.user_behavior_events" in str(refused.value)


def test_missing_table(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("drop table user_behavior_events cascade")
        assert plan_conversion(conn, BEHAVIOUR, now).state == "missing"
    with pytest.raises(RefusedError, match="does not exist"):
        convert(url, BEHAVIOUR, now)


def test_view_in_the_place_of_the_table(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("alter table session_replay_events rename to replays")
        conn.execute("create view session_replay_events as select * from replays")
    with pytest.raises(RefusedError, match="no ordinary table"):
        convert(url, REPLAY, now)


def test_not_migrated(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False)
    with connect(url) as conn:
        plan = plan_conversion(conn, BEHAVIOUR, now)
        assert (plan.state, plan.refusals) == ("not_migrated", ())
        assert plan.next_step.startswith("run `lifecycle migrate`")
        assert plan_rotation(conn, BEHAVIOUR, now).create == ()
        before = rows(conn, CATALOG)
        with pytest.raises(RefusedError, match="lifecycle migrate"):
            convert(url, BEHAVIOUR, now)
        assert rows(conn, CATALOG) == before


def test_not_the_owner(make_application_db: MakeDb, server: Any, now: datetime) -> None:
    """Neither the table's nor a dependent view's owner: both are named."""
    url = make_application_db(rows=False, migrated=True)
    database = url.rsplit("/", 1)[1]
    with psycopg.connect(server.url(database, user="supabase_admin"), autocommit=True) as admin, connect(url) as conn:
        admin.execute("create view foreign_view as select id from public.session_replay_events")
        assert plan_conversion(conn, REPLAY, now).refusals == (
            "public.foreign_view reads it and belongs to another role, so it cannot be switched",
        )
        admin.execute("drop view foreign_view")
        admin.execute("alter table session_replay_events owner to supabase_admin")
        with pytest.raises(RefusedError, match="it belongs to role supabase_admin"):
            convert(url, REPLAY, now)


def test_function_of_another_owner(make_application_db: MakeDb, server: Any, now: datetime) -> None:
    """Only a function with a parsed body holds the table by its OID; the text of others is read when they run."""
    url = make_application_db(rows=False, migrated=True)
    admin_url = server.url(url.rsplit("/", 1)[1], user="supabase_admin")
    body = "return (select count(*) from public.session_replay_events)"
    with psycopg.connect(admin_url, autocommit=True) as admin, connect(url) as conn:
        admin.execute(
            "create function textual() returns bigint language sql as 'select count(*) from user_behavior_events'"
        )
        assert plan_conversion(conn, REPLAY, now).state == "ready"
        admin.execute(f"create function parsed() returns bigint {body}".encode())
        with pytest.raises(RefusedError, match=r"function parsed\(\) reads it and belongs to role supabase_admin"):
            convert(url, REPLAY, now)


@pytest.mark.parametrize("migrated", [True, False])
def test_partitioned_by_somebody_else(make_application_db: MakeDb, now: datetime, migrated: bool) -> None:
    url = make_application_db(rows=False, migrated=migrated)
    with connect(url) as conn:
        conn.execute("drop table session_replay_events")
        conn.execute(
            "create table session_replay_events (id uuid, session_id text, event_type text, event_data jsonb,"
            ' "timestamp" timestamptz not null) partition by range ("timestamp")'
        )
        conn.execute("create table theirs partition of session_replay_events default")
        plan = plan_conversion(conn, REPLAY, now)
        assert plan.state == "refused"
        assert "not by this project" in plan.refusals[0]
        assert plan_rotation(conn, REPLAY, now).drop == ()
    with pytest.raises(RefusedError, match="not by this project"):
        convert(url, REPLAY, now)


def test_partitioned_by_us_is_done(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, REPLAY, now, count=100)
    convert(url, REPLAY, now)
    with connect(url) as conn:
        plan = plan_conversion(conn, REPLAY, now)
        assert (plan.state, plan.refusals) == ("done", ())
        before = rows(conn, CATALOG)
        result = convert(url, REPLAY, now)
        assert result.outcome == "already_partitioned"
        assert (result.rows > 0, result.longest_lock_ms) == (True, 0.0)
        assert rows(conn, CATALOG) == before
    assert leftovers(url) == []


def test_split_later(make_application_db: MakeDb, now: datetime) -> None:
    """Attached whole, the table is written and read as before; a later run splits it."""
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=100)
    with connect(url) as conn:
        assert plan_conversion(conn, BEHAVIOUR, now).state == "ready"
        assert convert(url, BEHAVIOUR, now, split_now=False).outcome == "attached"
        assert plan_conversion(conn, BEHAVIOUR, now).state == "attached"
        for moment in ("-infinity", now, "infinity"):
            insert_event(conn, BEHAVIOUR, moment)
        again = convert(url, BEHAVIOUR, now, split_now=False)
        assert (again.outcome, again.dependents_switched) == ("attached", ())
        assert convert(url, BEHAVIOUR, now).outcome == "converted"
        assert plan_conversion(conn, BEHAVIOUR, now).state == "done"
    assert leftovers(url) == []


def test_resumable(make_application_db: MakeDb, now: datetime) -> None:
    """A run that ended before the swap of names is seen, and said."""
    url = make_application_db(rows=False, migrated=True)

    def stop() -> None:
        raise KeyboardInterrupt

    with connect(url) as conn:
        for step in ("key index built", "attached to its new parent", "views switched"):
            with pytest.raises(KeyboardInterrupt):
                convert_table(url, BEHAVIOUR, now=now, progress=at_step(step, stop))
            plan = plan_conversion(conn, BEHAVIOUR, now)
            assert (plan.state, plan.refusals) == ("resumable", ())
            assert "goes on where it stopped" in plan.next_step


def test_what_the_plan_says(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=500)
    with connect(url) as conn:
        plan = plan_conversion(conn, BEHAVIOUR, now)
        assert plan.state == "ready"
        assert plan.rows == 517
        assert plan.bytes > 100_000
        assert plan.months == 24 + 1 + 3
        assert plan.estimated_seconds > 0
        assert "public.daily_user_behavior_summary" in plan.dependents
        text = "\n".join(plan.warnings)
        assert "ON CONFLICT (id) will fail; write ON CONFLICT (id, event_timestamp)" in text
        assert "UPDATE and DELETE by id alone visit every partition" in text
        assert plan_conversion(conn, BUSINESS, now).dependents == ()


def test_upsert_by_the_old_key_is_named(make_application_db: MakeDb, now: datetime) -> None:
    """What the plan warned of does fail afterwards, and what it proposed works."""
    url = make_application_db(rows=False, migrated=True)
    upsert = """insert into user_behavior_events (id, event_timestamp, session_id, page_url)
                values ('11111111-1111-1111-1111-111111111111', '2026-01-01', 's', '/') on conflict (%s) do nothing"""
    with connect(url) as conn:
        conn.execute(f"create function put() returns void language sql as $$ {upsert % 'id'} $$".encode())
        assert "function put()" in "\n".join(plan_conversion(conn, BEHAVIOUR, now).warnings)
        convert(url, BEHAVIOUR, now)
        with pytest.raises(psycopg.errors.InvalidColumnReference):
            conn.execute("select put()")
        for inserted in (1, 0):
            assert conn.execute((upsert % "id, event_timestamp").encode()).rowcount == inserted


def test_publication_under_partition_names_is_warned_of(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("create table other (at date) partition by range (at)")
        conn.execute("create publication changes for table other, session_replay_events")
        warnings = plan_conversion(conn, REPLAY, now).warnings
        assert any("publication changes" in warning and "partition names" in warning for warning in warnings)


def test_the_plan_waits_for_nobody(make_application_db: MakeDb, now: datetime) -> None:
    """It only reads: a session that keeps all writers out does not hold it up."""
    url = make_application_db(rows=False, migrated=True)
    with (
        open_transaction(url, "lock table user_behavior_events, session_replay_events in exclusive mode"),
        connect(url) as conn,
    ):
        conn.execute("set lock_timeout = '1s'")
        for table in (BEHAVIOUR, REPLAY):
            assert plan_conversion(conn, table, now).state == "ready"


def test_restrictive_foreign_key_is_warned_of(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        assert not any("foreign key" in warning for warning in plan_conversion(conn, BEHAVIOUR, now).warnings)
        conn.execute(
            "alter table user_behavior_events drop constraint user_behavior_events_account_id_fkey,"
            " add constraint strict foreign key (account_id) references accounts (id)"
        )
        assert any("foreign key strict" in warning for warning in plan_conversion(conn, BEHAVIOUR, now).warnings)
