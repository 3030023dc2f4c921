"""A copy of the database knows the same files, and touches none until somebody says that it took the other's place."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from lifecycle.cold import manifest
from lifecycle.cold.home import adopt_files
from lifecycle.cold.thaw import thaw
from lifecycle.cold.upkeep import keep_up
from lifecycle.database import connect
from lifecycle.errors import RefusedError
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.cold import EVENTS, MakeColdDb, cold_ids, local_storage, month, move_all, now, objects
from tests.partitioned import BEHAVIOR, insert_events, rotate_all

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.cold_fixtures",)


def test_a_copy_neither_writes_nor_removes_files_until_it_is_the_only_one(
    make_cold_db: MakeColdDb, server: Server, tmp_path: Path
) -> None:
    url = make_cold_db()
    folder = tmp_path / "store"
    storage = local_storage(folder)
    move_all(url, storage)
    copy = clone_database(server, str(make_url(url).database), "copy_of_cold")
    # The original goes on: to the copy, its new file is one that nobody knows.
    with connect(url) as conn:
        insert_events(conn, BEHAVIOR, month(4) + timedelta(days=3), session="later")
        rotate_all(conn)
    move_all(url, storage)
    before = objects(folder)
    with connect(copy) as conn:
        insert_events(conn, BEHAVIOR, month(4) + timedelta(days=3), session="in the copy", rows=2)
        rotate_all(conn)
        for work in (
            lambda: keep_up(copy, EVENTS, storage, now() + timedelta(days=3)),
            lambda: move_all(copy, storage),
            lambda: thaw(conn, storage, manifest.live_files(conn, EVENTS.relation, month(3))[0], {0}),
        ):
            with pytest.raises(RefusedError, match="lifecycle cold adopt"):
                work()
        assert objects(folder) == before
        # Reading harms nobody.
        assert cold_ids(conn, storage, tmp_path)
        assert adopt_files(conn)
        assert not adopt_files(conn)
        assert [moved.rows for moved in move_all(copy, storage)] == [2]
        assert keep_up(copy, EVENTS, storage, now() + timedelta(days=3)).swept.unknown == 1
    drop_database(server, "copy_of_cold")
