"""A run of the archive that ends in the middle: by an error, by Ctrl-C, by a kill. The next one goes on."""

import threading
from dataclasses import replace
from datetime import datetime

import psycopg
import pytest

from lifecycle.archive import move, read_ahead
from lifecycle.archive.move import archive_rows
from lifecycle.database import connect
from tests.archive_kill import PLACES, killed
from tests.archived import CHAT, SMALL_BATCHES, archive, archived, due, live
from tests.conftest import MakeApplicationDb

pytestmark = pytest.mark.one_server


@pytest.mark.parametrize("where", ["while packing", "while moving"])
def test_an_error_is_raised_once_and_what_was_moved_stays(
    make_application_db: MakeApplicationDb, now: datetime, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """In the second batch, in either thread; both connections can be used again, and nothing stays claimed."""
    url = make_application_db(migrated=True)
    module, name, last = (read_ahead, "pack", 150) if where == "while packing" else (move, "_move", 2)
    original, calls = getattr(module, name), []

    def failing(*args: object) -> object:
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt("stop")
        return original(*args)

    with connect(url) as conn, connect(url) as claims, connect(url) as seen:
        seen.execute("set timezone = 'UTC'")
        expected = due(seen, now)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing)
            with pytest.raises(KeyboardInterrupt, match="stop") as raised:
                archive_rows(conn, claims, CHAT, now=now, pace=SMALL_BATCHES)
        assert raised.value.__context__ is None
        assert len(archived(seen)) == 100
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("archive")]
        run = archive_rows(conn, claims, CHAT, now=now, pace=SMALL_BATCHES)
        assert (run.busy_days, run.remaining) == (0, 0)
        assert archived(seen) == expected


def test_ctrl_c_ends_a_reader_that_waits_for_a_lock(
    make_application_db: MakeApplicationDb, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_application_db(migrated=True)
    original = move.politely

    with connect(url) as conn, connect(url) as claims, psycopg.connect(url) as holder:

        def interrupted(*_args: object, **_kwargs: object) -> object:
            holder.execute("lock table lifecycle.restored_groups in access exclusive mode")
            raise KeyboardInterrupt("stop")

        monkeypatch.setattr(move, "politely", interrupted)
        with pytest.raises(KeyboardInterrupt, match="stop"):
            archive_rows(conn, claims, CHAT, now=now, pace=replace(SMALL_BATCHES, batch_size=10))
        holder.rollback()
        monkeypatch.setattr(move, "politely", original)
        assert archive_rows(conn, claims, CHAT, now=now, pace=SMALL_BATCHES).remaining == 0


@pytest.mark.parametrize("where", PLACES)
def test_a_killed_worker_loses_and_doubles_nothing(
    make_application_db: MakeApplicationDb, now: datetime, where: str
) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        expected, before = due(conn, now), live(conn)
        killed(url, now, where)
        found = archived(conn)
        assert len(found) in (100, 200)
        assert live(conn) | found == before
        assert not set(live(conn)) & set(found)
        # The server may need a moment to see that the process is gone; its day is then somebody's until it does.
        while archive(url, now).remaining:
            pass
        assert archived(conn) == expected
        assert live(conn) == {i: message for i, message in before.items() if i not in expected}
