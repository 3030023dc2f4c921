"""Nothing is counted twice or missed while months move, come back, and rows are taken out of files for an erasure."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lifecycle.cold import manifest
from lifecycle.cold.connect import connect as connect_reader
from lifecycle.cold.due import months_to_move
from lifecycle.cold.move import _Move, move_month
from lifecycle.cold.query import READER
from lifecycle.cold.refreeze import refreeze
from lifecycle.cold.restore import restore_month
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import remove_retired
from lifecycle.cold.thaw import thaw
from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import AlreadyRunningError, BusyError, ColdStorageError, LifecycleError, RefusedError
from tests.cold import COLD, EVENTS, MakeColdDb, local_storage, month, move_all, now
from tests.cold_reading import WatchedStorage
from tests.partitioned import BEHAVIOR, insert_events

pytest_plugins = ("tests.cold_fixtures",)

EVENT_COUNT = "select count(*), count(distinct id) from user_behavior_events where session_id = 'seed'"
RESTORED = "event_partitions.user_behavior_events_{:%Y_%m}_restored"
SEEDED = 60
AWAITED = "select count(*) from pg_locks where relation = 'user_behavior_events'::regclass and not granted"
AT_ONCE: Any = {"keep_for": timedelta(0), "now": now()}


@pytest.fixture
def url(make_cold_db: MakeColdDb) -> str:
    """Four months that may go and two that stay, with ten events each."""
    url = make_cold_db()
    with connect(url) as conn:
        for back in range(6):
            insert_events(conn, BEHAVIOR, month(back), session="seed", rows=10)
    return url


@pytest.fixture
def storage(tmp_path: Path) -> ColdStorage:
    return local_storage(tmp_path / "cold")


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def counted(url: str, storage: Any) -> tuple[int, int]:
    with connect_reader(url, COLD, storage) as reader:
        (found,) = reader.query(EVENT_COUNT).rows()
    return found


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def again(work: Callable[[], object]) -> None:
    """Until nobody else is at it."""
    until = time.monotonic() + 60
    while True:
        try:
            work()
            return
        except (AlreadyRunningError, BusyError, ColdStorageError, RefusedError):
            assert time.monotonic() < until


def reader_waits(conn: Connection) -> object:
    query = "select count(*) from pg_stat_activity where application_name = %s and wait_event_type = 'Lock'"
    return value(conn, query, (READER,))


def verified_move(url: str, storage: ColdStorage, monkeypatch: pytest.MonkeyPatch) -> int:
    """The id of a move of which only the commit is missing."""

    def stop(move: _Move) -> bool:
        assert move._keep_what_views_read()
        raise BusyError("stopped before the commit")

    with connect(url) as conn, monkeypatch.context() as stopped:
        due = months_to_move(conn, EVENTS, now())
        stopped.setattr(_Move, "commit", stop)
        with pytest.raises(BusyError):
            move_month(url, EVENTS, due[0], storage)
        return int(value(conn, "select id from lifecycle.cold_moves where state = 'verified'"))


def test_who_comes_while_a_month_leaves_waits_and_sees_it_left(
    url: str, storage: ColdStorage, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = verified_move(url, storage, monkeypatch)
    with connect(url) as watching, connect(url, autocommit=False) as mover:
        mover.execute("set local lock_timeout = '77ms'")
        assert value(mover, "select lifecycle.commit_cold_move(%s)", (move,)) == "committed"
        assert value(mover, "show lock_timeout") == "77ms"
        read = aside.submit(counted, url, storage)
        wait_until(lambda: reader_waits(watching))
        mover.commit()
        assert read.result(20) == (SEEDED, SEEDED)


def test_a_partition_that_somebody_attaches_meanwhile_is_waited_for(
    url: str, storage: ColdStorage, aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, of one who knows nothing of the border: the locks on the tables suffice."""
    move = verified_move(url, storage, monkeypatch)
    with connect(url) as watching, connect(url, autocommit=False) as mover:
        text = value(mover, "select pg_get_functiondef('lifecycle.commit_cold_move'::regproc)")
        unaware = text.replace("perform lifecycle.hold_cold_border();", "")
        assert unaware != text
        mover.execute(unaware.encode())
        assert value(mover, "select lifecycle.commit_cold_move(%s)", (move,)) == "committed"
        read = aside.submit(counted, url, storage)
        wait_until(lambda: reader_waits(watching))
        mover.commit()
        assert read.result(20) == (SEEDED, SEEDED)


@pytest.mark.every_version
def test_no_month_moves_under_a_reader_and_no_writer_waits_for_one(
    url: str, storage: ColdStorage, aside: ThreadPoolExecutor
) -> None:
    move_all(url, storage)
    with connect(url) as conn:
        insert_events(conn, BEHAVIOR, month(5), session="seed", rows=1)  # late: in the default partition
        conn.execute("update lifecycle.event_table_policies set cold_after = '1 month' where cold_after is not null")
        (due,) = [each for each in months_to_move(conn, EVENTS, now()) if each.month == month(2)]
    moves: list[Future[Any]] = []
    waiting: list[int] = []

    def in_the_middle() -> None:
        moves.append(aside.submit(move_month, url, EVENTS, due, storage))
        moves.append(aside.submit(restore_month, url, EVENTS, month(5), storage, **AT_ONCE))
        with connect(url) as conn:
            verified = "select count(*) from lifecycle.cold_moves where state = 'verified'"
            wait_until(lambda: value(conn, verified))
            wait_until(lambda: value(conn, "select to_regclass(%s)", (RESTORED.format(month(5)),)))
            for _ in range(100):
                waiting.append(value(conn, AWAITED))
                time.sleep(0.01)
            assert not any(move.done() for move in moves)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                conn.execute("select lifecycle.hold_cold_border()")

    assert counted(url, WatchedStorage(storage, in_the_middle)) == (SEEDED + 1, SEEDED + 1)
    assert not any(waiting), "behind a lock that is waited for stand the table's writers"
    assert moves[0].result(60).rows == 11
    assert moves[1].result(60).rows == 12
    with connect(url) as conn:
        assert value(conn, "select count(*) from user_behavior_events where event_timestamp < %s", (month(4),)) == 12
    assert counted(url, storage) == (SEEDED + 1, SEEDED + 1)


def test_an_erasure_waits_for_no_reader_and_the_reader_reads_anew(url: str, storage: ColdStorage) -> None:
    move_all(url, storage)

    def take_out() -> None:
        with connect(url) as conn:
            for file in manifest.live_files(conn, EVENTS.relation):
                taken = thaw(conn, storage, file, {0, 3})
                assert taken.rows == 2
            conn.execute("delete from event_partitions.user_behavior_events_thawed where session_id <> 'seed'")
            assert remove_retired(conn, storage)

    watched = WatchedStorage(storage, take_out)
    assert counted(url, watched) == (SEEDED, SEEDED)
    with connect(url) as conn:
        files = {file.key for file in manifest.live_files(conn, EVENTS.relation)}
        assert value(conn, "select count(*) from event_partitions.user_behavior_events_thawed")
    assert set(watched.located) > files, "the statement ran once as of before, and again"
    assert refreeze(url, EVENTS, storage, now())
    assert counted(url, storage) == (SEEDED, SEEDED)


@pytest.mark.every_version
def test_every_scan_of_a_statement_reads_the_same_moment(url: str, storage: ColdStorage) -> None:
    """A table of so many pages that DuckDB would cut it up, and rows that come after the moment."""
    move_all(url, storage)
    with connect(url) as conn:
        conn.execute(
            "create table public.large as select n, repeat(n::text, 400) as text from generate_series(1, 9000) n"
        )
        conn.execute("alter table public.large alter column text set storage plain")
        conn.execute("insert into public.large select n, repeat('x', 1900) from generate_series(9001, 20000) n")
        conn.execute("analyze public.large")
        assert value(conn, "select relpages from pg_class where oid = 'public.large'::regclass") > 2500

    def write() -> None:
        with connect(url) as conn:
            conn.execute("update public.large set text = '' where n <= 15000")  # in other pages from here on
            conn.execute("insert into public.large select 0, '' from generate_series(1, 7)")
            insert_events(conn, BEHAVIOR, now(), session="seed", rows=3)

    query = f"""
        select (select count(*) from public.large), (select count(a.text) from large a join large b using (n)),
               (select count(*) from ({EVENT_COUNT.replace("count(*), count(distinct id)", "id")}))
    """
    with connect_reader(url, COLD, WatchedStorage(storage, write)) as reader:
        assert reader.query(query).rows() == [(20_000, 20_000, SEEDED)]
        assert reader.query("select count(*) from large").rows() == [(20_007,)]


def test_rows_that_are_out_of_files_have_the_columns_of_today(url: str, storage: ColdStorage) -> None:
    move_all(url, storage)
    with connect(url) as conn:
        thaw(conn, storage, manifest.live_files(conn, EVENTS.relation)[0], {1, 2})
        conn.execute("alter table user_behavior_events add column later int")
        conn.execute("alter table user_behavior_events drop column viewport_size")
    assert counted(url, storage) == (SEEDED, SEEDED)


@pytest.mark.every_version
def test_counts_hold_while_everything_happens_at_once(
    url: str, storage: ColdStorage, aside: ThreadPoolExecutor
) -> None:
    """Months go and come back, rows are taken out and put away, writers write: each answer is the truth of a moment."""
    done = threading.Event()
    # A restore and taking rows out of the same file do not yet keep each other away.
    one_at_a_time = threading.Lock()
    written = 0

    def write() -> None:
        nonlocal written
        with connect(url) as conn:
            while not done.is_set():
                insert_events(conn, BEHAVIOR, month(written % 2), session="writer")
                written += 1
                time.sleep(0.01)

    def move_about() -> None:
        try:
            for _ in range(2):
                again(lambda: move_all(url, storage))
                for back in (5, 3):
                    with one_at_a_time:
                        again(partial(restore_month, url, EVENTS, month(back), storage, **AT_ONCE))
            again(lambda: move_all(url, storage))
        finally:
            done.set()

    def take_out() -> None:
        with connect(url) as conn:
            while not done.is_set():
                for file in manifest.live_files(conn, EVENTS.relation):
                    time.sleep(0.2)
                    # Another may have the file or the month; what counts here are the readers' answers.
                    with suppress(LifecycleError), one_at_a_time:
                        thaw(conn, storage, file, {0})
                    with suppress(LifecycleError):
                        remove_retired(conn, storage)
                        refreeze(url, EVENTS, storage, now())

    work = [aside.submit(each) for each in (write, move_about, take_out)]
    answers = 0
    both = "select count(*) filter (session_id = 'seed'), count(distinct id) filter (session_id = 'seed'), "
    both += "count(*) filter (session_id = 'writer') from user_behavior_events"
    with connect_reader(url, COLD, storage) as reader:
        while not done.is_set() or not answers:
            least = written
            (found,) = reader.query(both).rows()
            reader.close()
            assert found[:2] == (SEEDED, SEEDED)
            assert least <= found[2] <= written + 1
            answers += 1
    for each in work:
        each.result(120)
    with connect(url) as conn:
        assert rows(conn, "select count(*) from lifecycle.cold_files where state = 'removed'") > [(4,)]
    assert answers >= 5
