"""`lifecycle index`: built beside writers, gone on after a kill, never lost by a month that comes meanwhile."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from typer.testing import CliRunner

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from lifecycle.partitions.index import Wanted, build_index
from lifecycle.partitions.months import month_start, partition_name
from orchestration.cli.main import app
from tests.partitioned import BEHAVIOR, insert_events, rotate_all, run_on, server_clock

pytest_plugins = ("tests.partitioned_fixtures",)
LANGUAGE = Wanted(BEHAVIOR.relation, ("language", "session_id"))
NAME = "user_behavior_events_language_session_id_idx"
PARTS = """
select count(*) from pg_inherits a join pg_index i on i.indexrelid = a.inhrelid and i.indisvalid
 where a.inhparent = %s::regclass
"""
PARTITIONS = "select count(*) from pg_inherits where inhparent = 'user_behavior_events'::regclass"
INVALID = "select count(*) from pg_index where not indisvalid"


def whole(conn: Connection, name: str = NAME) -> bool:
    """The index is valid, has a part of each partition, and nothing broken is left."""
    valid = value(conn, "select indisvalid from pg_index where indexrelid = %s::regclass", (name,))
    return bool(valid) and value(conn, PARTS, (name,)) == value(conn, PARTITIONS) and value(conn, INVALID) == 0


def silent(_message: str, _fraction: float) -> None:
    return


def test_writers_go_on_and_months_that_come_meanwhile_have_it(partitioned_db: str) -> None:
    told: list[float] = []

    def meanwhile(_message: str, fraction: float) -> None:
        told.append(fraction)
        with connect(partitioned_db) as application:
            application.execute("set lock_timeout = '1s'")
            insert_events(application, BEHAVIOR, server_clock(application), session="writes")
            if len(told) == 2:
                made = rotate_all(application, server_clock(application) + timedelta(days=62), BEHAVIOR)
                assert {action.action for action in made} == {"create"}

    with connect(partitioned_db) as conn:
        before = value(conn, PARTITIONS)
        done = build_index(partitioned_db, LANGUAGE, meanwhile)
        assert (done.name, done.built) == (QualifiedName("public", NAME), before)
        assert value(conn, PARTITIONS) == before + 2
        assert whole(conn)
        assert told == sorted(told)
        assert told[-1] == 1
        conn.execute("set enable_seqscan = off")
        plan = rows(conn, "explain select from user_behavior_events where language = 'x' and session_id = 'y'")
        assert str(plan).count("Index Cond") == before + 2
        assert build_index(partitioned_db, LANGUAGE, silent).built == 0
        with pytest.raises(RefusedError, match="is another index"):
            build_index(partitioned_db, Wanted(BEHAVIOR.relation, ("language",), name=NAME), silent)


def test_goes_on_after_a_kill_in_the_middle_of_a_build(partitioned_db: str) -> None:
    """Ended by the server while it waits for a writer: what it leaves is invalid, and nobody else had to wait."""
    # For the writer, not for autovacuum, which may hold up any partition.
    waits = """
    select pid from pg_stat_activity
     where query like 'create%%concurrently%%' and wait_event = 'virtualxid' and %s = any (pg_blocking_pids(pid))
    """
    unique = Wanted(BEHAVIOR.relation, ("id", "event_timestamp"), unique=True, name="twice", where="page_url <> ''")
    with connect(partitioned_db) as conn, connect(partitioned_db) as writer, ThreadPoolExecutor(1) as pool:
        now = server_clock(conn)
        writer.execute("begin")
        newest = partition_name(BEHAVIOR.name, month_start(now))
        run_on(writer, "insert into {} (session_id, page_url) values ('open', '/')", newest)
        run = pool.submit(build_index, partitioned_db, unique, silent)
        deadline = time.monotonic() + 60
        while not (waiting := value(conn, waits, (writer.info.backend_pid,))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        conn.execute("set lock_timeout = '1s'")
        insert_events(conn, BEHAVIOR, now, session="another")
        conn.execute("select pg_terminate_backend(%s)", (waiting,))
        with pytest.raises(psycopg.OperationalError):
            run.result(60)
        writer.execute("commit")
        assert value(conn, INVALID) > 1
        build_index(partitioned_db, unique, silent)
        assert whole(conn, "twice")
        assert value(conn, "select count(*) from user_behavior_events where session_id in ('open', 'another')") == 2


def test_rows_that_are_not_unique_leave_nothing(partitioned_db: str) -> None:
    wanted = Wanted(BEHAVIOR.relation, ("session_id", "event_timestamp"), unique=True)
    with connect(partitioned_db) as conn:
        insert_events(conn, BEHAVIOR, server_clock(conn), session="same", rows=2)
        before = rows(conn, "select relname from pg_class order by 1")
        with pytest.raises(RefusedError, match="are the same in session_id, event_timestamp") as refused:
            build_index(partitioned_db, wanted, silent)
        assert refused.value.__suppress_context__
        assert "same)" not in str(refused.value)
        assert rows(conn, "select relname from pg_class order by 1") == before


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(BEHAVIOR.relation, ("session_id",), unique=True), "must hold event_timestamp"),
        (Wanted(QualifiedName("public", "accounts"), ("id",)), "not partitioned: CREATE INDEX CONCURRENTLY"),
        (Wanted(QualifiedName("public", "nothing"), ("id",)), "does not exist"),
        (Wanted(BEHAVIOR.relation, ("nothing",)), 'column "nothing" does not exist'),
        (Wanted(BEHAVIOR.relation, ("session_id",), using="gin"), "operator class"),
        (Wanted(BEHAVIOR.relation, ("session_id",), name="accounts"), "choose a name"),
        (Wanted(BEHAVIOR.relation, ("session_id",) * 6), "give the index one with --name"),
    ],
)
def test_refused_before_anything_is_touched(partitioned_db: str, wanted: Wanted, words: str) -> None:
    with connect(partitioned_db) as conn:
        before = rows(conn, "select relname from pg_class order by 1")
        with pytest.raises(RefusedError, match=words):
            build_index(partitioned_db, wanted, silent)
        assert rows(conn, "select relname from pg_class order by 1") == before


@pytest.mark.one_server
def test_the_command(partitioned_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", partitioned_db)
    words = ["index", "user_behavior_events", "lower(page_url)", "language desc", "--where", "language is not null"]
    told = CliRunner().invoke(app, [*words, "--name", "pages"])
    assert told.exit_code == 0, told.output
    assert "user_behavior_events_default: built, 10 of 10" in told.output
    assert "public.pages is valid on every partition." in told.output
    assert "was there already" in CliRunner().invoke(app, [*words, "--name", "pages"]).output
    with connect(partitioned_db) as conn:
        assert whole(conn, "pages")
        shown = value(conn, "select pg_get_indexdef('pages'::regclass)")
        assert shown.endswith("(lower(page_url), language DESC) WHERE (language IS NOT NULL)")
    assert CliRunner().invoke(app, ["index", "nothing", "id"]).exit_code == 2
