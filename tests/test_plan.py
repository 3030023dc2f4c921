"""The plan of a table that can be converted: what it says, what it warns of, and what comes next after each stop."""

from collections.abc import Callable
from datetime import datetime

import psycopg
import pytest

from lifecycle.database import connect, rows, value
from lifecycle.declarations.event_tables import EventTable
from lifecycle.errors import RefusedError
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.plan import plan_conversion
from lifecycle.partitions.tables import monthly_table
from sandbox.server import SUPERUSER, Server
from tests.conversion_load import (
    BEHAVIOUR,
    BUSINESS,
    CATALOG,
    REPLAY,
    at_step,
    convert,
    fill,
    insert_event,
    leftovers,
    open_transaction,
)

# What Python decides and in which order; the statements run on both versions in the other files.
pytestmark = pytest.mark.one_server
MakeDb = Callable[..., str]
ACCEPTED = EventTable(time=REPLAY.time_column, keep=REPLAY.retention, accept_no_realtime=True)


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


def test_realtime_is_refused_until_consented_to(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        assert not any("Realtime" in warning for warning in plan_conversion(conn, REPLAY, now).warnings)
        conn.execute("alter publication supabase_realtime add table session_replay_events")
        (refused,) = plan_conversion(conn, REPLAY, now).refusals
        for word in (
            "supabase_realtime",
            "realtime.broadcast_changes",
            "accept_no_realtime: true",
            "event_tables.yaml",
        ):
            assert word in refused
        before = rows(conn, CATALOG)
        with pytest.raises(RefusedError, match="accept_no_realtime"):
            convert(url, REPLAY, now)
        assert rows(conn, CATALOG) == before
        accepted = monthly_table(REPLAY.relation, ACCEPTED)
        plan = plan_conversion(conn, accepted, now)
        assert (plan.state, plan.refusals) == ("ready", ())
        assert any("Realtime will deliver no change" in warning for warning in plan.warnings)
        convert(url, accepted, now)
        published = "select count(*) from pg_publication_tables where tablename = 'session_replay_events'"
        assert value(conn, published) == 1


def test_statements_that_will_fail_are_named(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        text = "\n".join(plan_conversion(conn, REPLAY, now).warnings)
    for what in ("CREATE INDEX CONCURRENTLY", "another type of the time column", "partitioned-tables.md"):
        assert what in text


def test_the_plan_says_how_much_disk_it_needs(make_application_db: MakeDb, now: datetime) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, REPLAY, now, count=500)
    with connect(url) as conn:
        plain = plan_conversion(conn, REPLAY, now)
        assert plain.bytes_needed == 2 * plain.bytes > 0
        (told,) = [warning for warning in plain.warnings if "of free disk" in warning]
        assert f"{plain.bytes_needed:,} bytes" in told
        conn.execute("create materialized view heavy as select * from session_replay_events")
        size = value(conn, "select pg_total_relation_size('heavy')")
        assert plan_conversion(conn, REPLAY, now).bytes_needed == plain.bytes_needed + size
        convert(url, REPLAY, now, split_now=False)
        attached = plan_conversion(conn, REPLAY, now)
        assert attached.state == "attached"
        assert attached.bytes_needed >= plain.bytes_needed
        convert(url, REPLAY, now)
        assert plan_conversion(conn, REPLAY, now).bytes_needed == 0


def test_what_pg_stat_statements_and_subscribers_notice_is_warned_of(
    make_application_db: MakeDb, server: Server, now: datetime
) -> None:
    url = make_application_db(rows=False, migrated=True)
    words = ("pg_stat_statements counts", "publication changes: publish_via_partition_root is switched on")
    with connect(url) as conn, connect(server.url(url.rsplit("/", 1)[1], user=SUPERUSER)) as admin:
        admin.execute("drop extension if exists pg_stat_statements")
        told = "\n".join(plan_conversion(conn, REPLAY, now).warnings)
        assert not [word for word in words if word in told]
        admin.execute("create extension pg_stat_statements")
        conn.execute("create publication changes for table session_replay_events")
        told = "\n".join(plan_conversion(conn, REPLAY, now).warnings)
        assert [word for word in words if word not in told] == []


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
        assert not any("may not be deleted" in warning for warning in plan_conversion(conn, BEHAVIOUR, now).warnings)
        conn.execute(
            "alter table user_behavior_events drop constraint user_behavior_events_account_id_fkey,"
            " add constraint strict foreign key (account_id) references accounts (id)"
        )
        assert any("foreign key strict" in warning for warning in plan_conversion(conn, BEHAVIOUR, now).warnings)
