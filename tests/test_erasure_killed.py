"""An erasure whose worker or server is killed at every step in turn, while others write, ends in the same state."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import MakeApplicationDb, Templates
from tests.erasing import LEASE_OVER, Picture, ask, claim, picture, process, states
from tests.people import Person, add_catalogue, add_person, browser_session, insert

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

AKI, BEN = Person("aki"), Person("ben")
SHARED = browser_session("shared")
WITHOUT_CLOCK = """
select r.body - array['requested_at', 'seen_at', 'due_at', 'started_at', 'collected_at', 'erased_at', 'verified_at',
                      'attempts', 'search']
  from lifecycle.erasure_receipts r order by r.request_id
"""
KILLS = (
    *("claim", "collect!", "collect", "erase!", "erase", "sign_in_users!", "sign_in_users"),
    *("refresh!", "refresh", "search!", "search", "conclude!"),
)
WRITTEN = ("user_behavior_events", "search_queries", "chat_messages")


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    """An empty migrated database with the catalogue."""
    made = make_application_db(rows=False, migrated=True)
    with connect(made) as conn:
        add_catalogue(conn)
    return made


def prepare(conn: Connection) -> None:
    """Two who leave, one who stays; a shared visit; aki is named in what ben has written."""
    add_person(conn, "aki", shared=SHARED)
    add_person(conn, "ben", shared=SHARED)
    add_person(conn, "cho")
    insert(conn, "search_queries", id=BEN.id("about"), account_id=BEN.account, search_query=f"who is {AKI.email}?")
    for name in ("aki", "cho"):
        ask(conn, Person(name))
    conn.execute("select enqueue_deletion_jobs()")


def end(conn: Connection) -> tuple[Picture, list[object]]:
    """What stands in the end, without what only a clock could tell apart."""
    found = {
        key: text for key, text in picture(conn).items() if key[0] not in ("audit_events", "data_deletion_requests")
    }
    return without_times(found), [body for (body,) in rows(conn, WITHOUT_CLOCK)]


def without_times(found: Picture) -> Picture:
    return {key: re.sub(r"\d{4}-\d\d-\d\d[ T][\d:.]+\+00", "", text) for key, text in found.items()}


@pytest.fixture(scope="module")
def undisturbed(server: Server, templates: Templates) -> Iterator[tuple[Picture, list[object]]]:
    """The end of a run that nothing happened to."""
    with connect(clone_database(server, templates(False, True, True), "undisturbed")) as conn:
        add_catalogue(conn)
        prepare(conn)
        process(conn)
        assert set(states(conn).values()) == {"verified"}
        found = end(conn)
    yield found
    drop_database(server, "undisturbed")


def differences(found: Picture, expected: Picture) -> list[tuple[object, ...]]:
    """Rows that are not as expected, or not there."""
    keys = sorted(found.keys() | expected.keys())
    return [(key, found.get(key), expected.get(key)) for key in keys if found.get(key) != expected.get(key)]


class Writer(threading.Thread):
    """Browsers of ben, who stays, that go on all the while and try again when the database is away; `written` is what
    it took, by table and id, as it was."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.written, self.end, self.number = url, Picture(), threading.Event(), count()

    def run(self) -> None:
        while not self.end.is_set():
            with suppress(psycopg.OperationalError), connect(self.url) as conn:
                while not self.end.wait(0.01):
                    self.write(conn, next(self.number))

    def write(self, conn: Connection, number: int) -> None:
        chat = {"session_id": BEN.id("chat"), "role": "user", "content": "more", "sequence": 1000 + number}
        visit = {"account_id": BEN.account, "session_id": BEN.visit}
        for table, columns in zip(
            WRITTEN, ({**visit, "page_url": "/more"}, {**visit, "search_query": "more"}, chat), strict=True
        ):
            found = BEN.id(f"more/{number}/{table}")
            insert(conn, table, id=found, **columns)
            self.written[table, str(found)] = value(conn, f"select t::text from {table} t where id = %s", (found,))


def await_server(url: str) -> None:
    """Until it has recovered."""
    for _ in range(200):
        with suppress(psycopg.OperationalError), psycopg.connect(url):
            return
        time.sleep(0.1)
    raise AssertionError("the server did not come back")


@pytest.mark.parametrize("dies", ["worker", "server"])
def test_killed_at_every_step_in_turn_it_ends_in_the_same_state(
    undisturbed: tuple[Picture, list[object]], url: str, dies: str
) -> None:
    """Each worker takes over from one that was killed, gets one step further, is killed, too; others write."""
    with connect(url) as conn:
        # What was committed survives the server's end.
        conn.execute(f"alter database {conn.info.dbname} set synchronous_commit = on".encode())
    with connect(url) as conn:
        prepare(conn)
    writer = Writer(url)
    writer.start()
    try:
        for last in KILLS:
            command = [sys.executable, "-m", "tests.erasure_kill", url, last, dies]
            worker = subprocess.run(command, cwd=Path(__file__).parents[1], timeout=60, check=False)
            assert worker.returncode == -9, last
            await_server(url)
            with connect(url) as conn:
                assert "verified" not in states(conn).values()
                assert claim(conn) is None, "the lease of a dead worker is not over yet"
                conn.execute(LEASE_OVER)
        with connect(url) as conn:
            process(conn)
    finally:
        writer.end.set()
        writer.join()
    with connect(url) as conn:
        assert set(states(conn).values()) == {"verified"}
        found, receipts = end(conn)
        assert len(writer.written) >= len(KILLS) * len(WRITTEN)
        assert {key: found.pop(key, None) for key in without_times(writer.written)} == without_times(writer.written)
        # What was taken and not noted before the server went.
        extra = [key for key in found if key not in undisturbed[0] and key[0] in WRITTEN]
        assert len(extra) <= len(KILLS)
        assert differences({key: text for key, text in found.items() if key not in extra}, undisturbed[0]) == []
        assert receipts == undisturbed[1]
        assert not rows(conn, "select * from lifecycle.erasure_keys")
        assert not rows(conn, "select * from lifecycle.broken_receipts()")
