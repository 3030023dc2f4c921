"""Somebody who writes rows of months that leave, all the time, and connects anew when the database was away."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from uuid import uuid4

import psycopg

from lifecycle.cold import manifest
from lifecycle.cold.files import read_file
from lifecycle.cold.storage import ColdStorage
from lifecycle.database import Connection, connect, rows
from lifecycle.errors import SandboxError
from tests.cold import EVENTS, month, now
from tests.partitioned import BEHAVIOR

INSERT = "insert into user_behavior_events (id, session_id, event_timestamp, page_url) values (%s, 'writer', %s, '/')"
CORRECT = "update user_behavior_events set page_url = '/corrected' where id = %s"
# Inserts and corrections of old months, so many of each.
EACH_CORRECTED = 3


@dataclass
class Writer:
    """What was written: ids that the database confirmed, those of them whose correction it confirmed, and ids of which
    nobody knows, since the connection broke. While `leaves_old_months_alone` is set, rows of this month are written."""

    written: set[str] = field(default_factory=set)
    corrected: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    leaves_old_months_alone: Event = field(default_factory=Event)
    _stop: Event = field(default_factory=Event)

    def work(self, url: Callable[[], str]) -> None:
        """Write until stop(), whatever becomes of the database."""
        while not self._stop.is_set():
            with suppress(psycopg.OperationalError, SandboxError), connect(url()) as conn:
                while not self._stop.is_set():
                    self._write(conn)
                    time.sleep(0.03)
            time.sleep(0.05)

    def stop(self) -> None:
        self._stop.set()

    def _write(self, conn: Connection) -> None:
        number = len(self.written)
        key, moment = str(uuid4()), self._moment(number)
        self.unknown.add(key)
        with suppress(psycopg.errors.LockNotAvailable):
            conn.execute(INSERT, (key, moment))
            self.written.add(key)
            if number % EACH_CORRECTED == 0 and conn.execute(CORRECT, (key,)).rowcount:
                self.corrected.add(key)
        self.unknown.discard(key)

    def _moment(self, number: int) -> datetime:
        if self.leaves_old_months_alone.is_set():
            return now()
        return month(3 + number % 3) + timedelta(hours=number % 600, seconds=number)

    def assert_kept(self, conn: Connection, storage: ColdStorage, folder: Path, ids: set[str]) -> None:
        """Each row that was there (`ids`) or was written stands in one place, corrected where it was."""
        found = list(_standing(conn, storage, folder))
        pages = dict(found)
        assert len(found) == len(pages)
        assert pages.keys() - self.unknown == (ids | self.written) - self.unknown
        assert {pages[key] for key in self.corrected} <= {"/corrected"}
        assert self.corrected


@contextmanager
def writing(url: Callable[[], str]) -> Iterator[Writer]:
    """Somebody writes at `url()`, which may be another one each time."""
    writer = Writer()
    with ThreadPoolExecutor(1) as beside:
        at_work = beside.submit(writer.work, url)
        try:
            yield writer
        finally:
            writer.stop()
        at_work.result()


def _standing(conn: Connection, storage: ColdStorage, folder: Path) -> Iterator[tuple[str, str]]:
    """Id and page of each row of the event table, in the database and in files, as often as it stands there."""
    for key, page in rows(conn, f"select id, page_url from {BEHAVIOR.qualified_name}"):
        yield str(key), page
    for file in manifest.live_files(conn, EVENTS.relation):
        path = folder / "read.parquet"
        storage.fetch(file.stored, path)
        for batch in read_file(path, manifest.columns_of(conn, file.layout)):
            yield from zip(batch.column("id").to_pylist(), batch.column("page_url").to_pylist(), strict=True)
        path.unlink()
