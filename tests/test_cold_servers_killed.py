"""SIGKILL of the database's server and of the S3 server while months leave and somebody is erased."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from lifecycle.cold import s3_client
from lifecycle.cold.due import months_to_move
from lifecycle.cold.move import _Move
from lifecycle.cold.s3_storage import S3Storage
from lifecycle.cold.storage import ColdSettings, ColdStorage, open_storage
from lifecycle.cold.upkeep import keep_up
from lifecycle.cold.verify import verify_files
from lifecycle.database import Connection, connect, rows
from lifecycle.erasures.run import BatchResult, erase_batch
from lifecycle.errors import ColdStorageError
from lifecycle.migrating.migrate import upgrade
from sandbox.application import clone_database
from sandbox.object_storage import ObjectStorage
from sandbox.server import SUPERUSER, Server
from tests.cold import COLD, EVENTS, MakeColdDb, cold_text, hot_ids, local_storage, month, move_all, now
from tests.cold_kill import PLACES
from tests.cold_writer import Writer, writing
from tests.conftest import SERVERS
from tests.erasing import ask
from tests.object_storage import PLAIN, VERSIONED
from tests.partitioned import BEHAVIOR, months, rotate_all
from tests.people import Person, add_account, add_catalogue, insert
from tests.templates import Template, running_server

pytestmark = [pytest.mark.every_version, pytest.mark.one_server, pytest.mark.timeout(280)]
pytest_plugins = ("tests.cold_fixtures", "tests.object_storage_fixtures")

AKI = Person("aki")
# In the order in which a month passes them, so that three months are enough for all.
DATABASE_ENDS = (
    ("plan_file", "after"),
    ("put", "before"),
    ("file_stored", "after"),
    ("fetch", "before"),
    ("verify", "after"),
    ("leave", "before"),
    ("leave", "after"),
    ("commit", "after"),
    ("remove", "before"),
    ("remove", "after"),
)
# Before such a request: HEAD is asked before and after an object is put. The last one removes what earlier runs left.
STORE_ENDS = (("HeadObject", 1), ("PutObject", 1), ("HeadObject", 2), ("GetObject", 1), ("DeleteObject", 1))
STORE_ENDS_WHILE_ERASING = (("PutObject", 1), ("DeleteObject", 1))


@pytest.fixture
def old_months_change_while_they_are_read_first(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """The writers in this list leave old months alone from the end of an export, so that its move comes to an end."""
    writers: list[Writer] = []
    export = _Move.export

    def exporting(moving: _Move) -> None:
        export(moving)
        for writer in writers:
            writer.leaves_old_months_alone.set()

    monkeypatch.setattr(_Move, "export", exporting)
    return writers


def kill(server: Server) -> None:
    """SIGKILL for every process of the server; it is started again, at another port."""
    conn = psycopg.connect(server.url(user=SUPERUSER))
    others = [pid for (pid,) in conn.execute("select pid from pg_stat_activity")]
    for pid in (server.pid, *others):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    conn.close()
    server.stop()
    server.start()


def kill_once(patch: pytest.MonkeyPatch, server: Server, place: str, when: str) -> None:
    """The server ends before or after the move comes to this place for the first time."""
    holder, name = PLACES[place]
    real = getattr(holder, name)

    def deadly(*args: Any, **kwargs: Any) -> Any:
        patch.undo()
        if when == "before":
            kill(server)
        done = real(*args, **kwargs)
        if when == "after":
            kill(server)
        return done

    patch.setattr(holder, name, deadly)


def finish(url: str, storage: ColdStorage) -> None:
    """What the next runs of the job do."""
    with connect(url) as conn:
        rotate_all(conn, table=BEHAVIOR)
        move_all(url, storage)
        keep_up(url, EVENTS, storage, now())
        assert months_to_move(conn, EVENTS, now()) == ()
        assert min(months(conn, BEHAVIOR)) == month(2)


def assert_only_live_objects(conn: Connection, storage: ColdStorage) -> None:
    live = sorted(key for (key,) in rows(conn, "select key from lifecycle.cold_files where state = 'live'"))
    assert sorted(found.key for found in storage.list("")) == live
    assert not [found for found in verify_files(conn, EVENTS, storage) if found.fault]


def test_the_database_ends_anywhere_while_months_leave(
    tmp_path: Path, old_months_change_while_they_are_read_first: list[Writer]
) -> None:
    storage = local_storage(tmp_path / "store")
    version, bin_dir = next(iter(SERVERS.items()))
    with running_server(version, bin_dir, migrated=True) as server:
        clone_database(server, Template(False, True, True, partitioned=True).name, "cold")
        upgrade(server.url("cold"), COLD)
        with connect(server.url("cold")) as conn:
            # What is confirmed is to be there; the servers of tests take less trouble.
            conn.execute("alter database cold set synchronous_commit = on")
            ids = set(hot_ids(conn))
        with writing(lambda: server.url("cold")) as writer:
            old_months_change_while_they_are_read_first.append(writer)
            for place, when in DATABASE_ENDS:
                writer.leaves_old_months_alone.clear()
                with connect(server.url("cold")) as conn:
                    rotate_all(conn, table=BEHAVIOR)
                before = server.pid
                with pytest.MonkeyPatch.context() as patch:
                    kill_once(patch, server, place, when)
                    with pytest.raises(psycopg.OperationalError):
                        move_all(server.url("cold"), storage)
                assert server.pid != before, (place, when)
        finish(server.url("cold"), storage)
        with connect(server.url("cold")) as conn:
            writer.assert_kept(conn, storage, tmp_path, ids)
            assert_only_live_objects(conn, storage)


@pytest.fixture
def s3_of_few_tries(s3_settings: ColdSettings, monkeypatch: pytest.MonkeyPatch) -> ColdSettings:
    monkeypatch.setattr(s3_client, "TRIES", 1)
    return replace(s3_settings, url=s3_settings.url.replace(PLAIN, VERSIONED))


@contextmanager
def ending(server: ObjectStorage, settings: ColdSettings, operation: str, number: int) -> Iterator[ColdStorage]:
    """A store whose server is killed before its so-manieth request of a kind, and is started again at the end."""
    storage = open_storage(settings)
    assert isinstance(storage, S3Storage)
    left = [number]

    def count(**_: object) -> None:
        left[0] -= 1
        if not left[0]:
            server.stop()

    storage.client.meta.events.register_first(f"before-call.s3.{operation}", count)
    yield storage
    assert left[0] <= 0, operation
    server.start()


def test_the_s3_server_ends_anywhere_while_months_leave_and_somebody_is_erased(
    make_cold_db: MakeColdDb,
    tmp_path: Path,
    object_storage: ObjectStorage,
    s3_of_few_tries: ColdSettings,
    old_months_change_while_they_are_read_first: list[Writer],
) -> None:
    url, storage = make_cold_db(), open_storage(s3_of_few_tries)
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        add_catalogue(conn)
        add_account(conn, AKI)
        for back in (3, 4, 5):
            insert(conn, "user_behavior_events", account_id=AKI.account, session_id=AKI.visit, page_url="/aki",
                   event_timestamp=month(back))  # fmt: skip
        ids = set(hot_ids(conn))
        with writing(lambda: url) as writer:
            old_months_change_while_they_are_read_first.append(writer)
            for operation, number in STORE_ENDS:
                writer.leaves_old_months_alone.clear()
                rotate_all(conn, table=BEHAVIOR)
                with ending(object_storage, s3_of_few_tries, operation, number) as ends:
                    with pytest.raises(ColdStorageError, match="the store gives no answer") as away:
                        move_all(url, ends)
                    assert away.value.temporary
        finish(url, storage)
        writer.assert_kept(conn, storage, tmp_path, ids)
        assert_only_live_objects(conn, storage)

        request = ask(conn, AKI)
        assert AKI.visit in cold_text(conn, storage, tmp_path)
        for operation, number in STORE_ENDS_WHILE_ERASING:
            with ending(object_storage, s3_of_few_tries, operation, number) as ends:
                assert "the store gives no answer" in erase(conn, ends).failed[0].error
            assert not receipts(conn, request)
        assert erase(conn, storage).verified == 1
        assert receipts(conn, request)
        text = cold_text(conn, storage, tmp_path).lower()
        assert not [word for word in AKI.words if word in text]
        keep_up(url, EVENTS, storage, now())
        writer.assert_kept(conn, storage, tmp_path, ids)
        assert_only_live_objects(conn, storage)
        assert isinstance(storage, S3Storage)
        for (key,) in rows(conn, "select key from lifecycle.cold_files where state = 'removed'"):
            assert not storage._versions(storage._name(key))


def erase(conn: Connection, storage: ColdStorage) -> BatchResult:
    conn.execute("select public.enqueue_deletion_jobs()")
    conn.execute("update lifecycle.deletion_jobs set next_attempt_at = now() where state = 'failed'")
    batch = erase_batch(conn, storage=storage)
    assert batch is not None
    return batch


def receipts(conn: Connection, request: UUID) -> list[Any]:
    return list(rows(conn, "select from lifecycle.erasure_receipts where request_id = %s", (str(request),)))
