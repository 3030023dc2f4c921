"""Hot-query indexes beside other sessions: waited for politely, given up in time, no trace left."""

import threading

import psycopg
import pytest

from lifecycle.database import Connection, connect, operation_lock, value
from lifecycle.errors import AlreadyRunningError, BusyError
from lifecycle.indexes import build as building
from lifecycle.indexes.progress import share_done
from tests.conftest import MakeApplicationDb
from tests.indexed import CLICKED, HOT_QUERY_INDEXES, build_indexes, drop_index, index_statuses, index_valid


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def test_a_long_transaction_is_waited_for_and_nobody_waits_behind(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_index(conn, CLICKED)
    monkeypatch.setattr("lifecycle.indexes.progress.PAUSE_SECONDS", 0.05)
    told, waiting = [], threading.Event()

    def progress(message: str, _fraction: float) -> None:
        told.append(message)
        if f"(pid {holder.info.backend_pid}, report)" in message:
            waiting.set()

    with connect(url, application_name="report") as holder, connect(url) as writer:
        holder.execute("begin; insert into search_queries (search_query) values ('held')")
        building = threading.Thread(target=build_indexes, args=(conn, HOT_QUERY_INDEXES, progress))
        building.start()
        assert waiting.wait(20), told
        writer.execute("set lock_timeout = '1s'")
        writer.execute("insert into search_queries (search_query, clicked_result_id) values ('x', gen_random_uuid())")
        holder.execute("commit")
        building.join(20)
        assert index_valid(writer, CLICKED)
    assert told[-1] == f"{CLICKED}: built"


def test_patience_ends_in_a_busy_error_and_the_next_run_cleans_up(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_index(conn, CLICKED)
    monkeypatch.setattr(building, "PATIENCE", "300ms")
    with connect(url) as holder:
        holder.execute("begin; insert into search_queries (search_query) values ('held')")
        with pytest.raises(BusyError, match=f"index {CLICKED} on public.search_queries: not finished within 300ms"):
            build_indexes(conn)
    assert index_valid(conn, CLICKED) is False
    assert value(conn, "select built_at from lifecycle.index_plans where index_name = %s", (CLICKED,)) is None
    assert build_indexes(conn).built == (CLICKED,)
    with connect(url) as other, operation_lock(other, "indexes"), pytest.raises(AlreadyRunningError):
        build_indexes(conn)


def test_progress_only_grows() -> None:
    phases = (
        ("initializing", 1),
        ("building index: scanning table", 0.5),
        ("building index: loading tuples in tree", 1),
        ("index validation: scanning index", 0.1),
        ("waiting for old snapshots", 0.5),
    )
    shares = [share_done(phase, within) for phase, within in phases]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1


def test_a_locked_table_is_a_busy_error(url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.indexes.hot_queries.LOCK_TIMEOUT", "set local lock_timeout = '100ms'")
    with connect(url) as holder:
        holder.execute("begin; lock table search_queries in access exclusive mode")
        with pytest.raises(BusyError, match="search_queries is locked"):
            index_statuses(conn)


def test_a_build_leaves_no_copy_transaction_or_setting_behind(conn: Connection) -> None:
    build_indexes(conn)
    assert conn.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    assert value(conn, "show lock_timeout") == "0"
    assert value(conn, "select count(*) from pg_class where relpersistence = 't'") == 0
