"""What is not as the manifest says, or is at work, stops what would lose a row; the next run finishes."""

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from lifecycle.cold import export, manifest
from lifecycle.cold.plan import plan_cold_months
from lifecycle.cold.refreeze import refreeze
from lifecycle.cold.restore import restore_month
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.sweep import give_up_dead_moves
from lifecycle.cold.thaw import thaw
from lifecycle.cold.undo import take_cold_months_back
from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import RefusedError, VerificationError
from lifecycle.migrating.migrate import upgrade
from tests.cold import COLD, EVENTS, Interfering, MakeColdDb, cold_ids, hot_ids, local_storage, month, move_all, now
from tests.cold_views import NARROW, THAWED
from tests.partitioned import BEHAVIOR, insert_events, months

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.cold_fixtures",)


@pytest.fixture
def storage(tmp_path: Path) -> ColdStorage:
    return local_storage(tmp_path / "store")


@pytest.fixture
def url(make_cold_db: MakeColdDb) -> str:
    """Months that are to leave, of which the oldest has eleven rows."""
    made = make_cold_db()
    with connect(made) as conn:
        insert_events(conn, BEHAVIOR, month(5), session="seed", rows=10)
    return made


def oldest(conn: Connection) -> manifest.ManifestFile:
    (file,) = manifest.live_files(conn, EVENTS.relation, month(5))
    return file


def test_a_move_that_is_at_work_is_left_alone_by_a_sweep(url: str, conn: Connection, storage: ColdStorage) -> None:
    for at in ("put", "fetch"):
        insert_events(conn, BEHAVIOR, month(5), session=at)
        conn.execute("select rotate_event_partitions()")
        moved = move_all(url, Interfering(storage, at, lambda: give_up_dead_moves(conn)))
        assert moved[0].month == month(5)
        assert value(conn, "select count(*) from lifecycle.cold_files where state <> 'live'") == 0


def test_rows_are_taken_out_of_a_file_that_is_what_the_manifest_says_and_no_other(
    url: str, conn: Connection, storage: ColdStorage
) -> None:
    move_all(url, storage)
    file = oldest(conn)
    with pytest.raises(VerificationError, match="are not the 11 that the manifest"):
        thaw(conn, storage, file, {*range(11), 11})
    conn.execute("update lifecycle.cold_files set checksum = checksum + 1 where id = %s", (file.id,))
    with pytest.raises(VerificationError, match="are not the 11 that the manifest"):
        thaw(conn, storage, oldest(conn), {0})
    conn.execute("update lifecycle.cold_files set checksum = checksum - 1 where id = %s", (file.id,))
    held = value(conn, f"delete from {NARROW} where event_timestamp < %s returning id", (month(4),))
    assert held
    with pytest.raises(VerificationError, match="stood in what views read"):
        thaw(conn, storage, file, range(11))
    assert value(conn, f"select count(*) from {THAWED}") == 0
    assert oldest(conn) == file


def test_what_waits_goes_back_whole_and_once_and_nobody_changes_it_meanwhile(
    url: str, conn: Connection, storage: ColdStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_all(url, storage)
    ids = sorted(hot_ids(conn) + cold_ids(conn, storage, tmp_path))
    thaw(conn, storage, oldest(conn), range(3))
    with monkeypatch.context() as patch:
        write = export.ColdFile.write
        patch.setattr(export.ColdFile, "write", lambda self, batch: write(self, batch.slice(1)))
        with pytest.raises(VerificationError, match="holds other rows; they stay there"):
            refreeze(url, EVENTS, storage, now())
    assert value(conn, f"select count(*) from {THAWED}") == 3
    conn.execute("set lock_timeout = '50ms'")

    def change() -> None:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            conn.execute(f"update {THAWED} set page_url = '/changed'".encode())

    assert refreeze(url, EVENTS, Interfering(storage, "fetch", change), now()) == 3
    assert sorted(hot_ids(conn) + cold_ids(conn, storage, tmp_path)) == ids


def test_a_month_comes_back_as_its_foreign_keys_would_have_left_it(
    url: str, conn: Connection, storage: ColdStorage
) -> None:
    conn.execute("create table drafts (id int primary key)")
    conn.execute("insert into drafts values (1)")
    conn.execute("alter table user_behavior_events add column draft int references drafts")
    conn.execute("update user_behavior_events set draft = 1 where session_id = 'seed'")
    move_all(url, storage)
    conn.execute("delete from accounts")
    conn.execute("delete from drafts")
    files = manifest.live_files(conn, EVENTS.relation)
    with pytest.raises(RefusedError, match=r"10 rows of .* point to rows of public\.drafts that are gone"):
        restore_month(url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now())
    assert manifest.live_files(conn, EVENTS.relation) == files
    conn.execute("insert into drafts values (1)")
    restored = restore_month(url, EVENTS, month(5), storage, keep_for=timedelta(days=1), now=now())
    assert (restored.rows, restored.after_actions) == (11, 11)
    held = rows(conn, "select count(*), count(account_id), count(draft) from user_behavior_events"
                      " where event_timestamp < %s", (month(4),))  # fmt: skip
    assert held == [(11, 0, 10)]


def test_nothing_is_taken_back_while_a_row_or_an_object_is_in_the_store(
    url: str, conn: Connection, storage: ColdStorage
) -> None:
    move_all(url, storage)
    with pytest.raises(RefusedError, match=r"rows are in cold storage: .*3 months, 13 rows"):
        list(take_cold_months_back(conn, COLD))
    manifest.retire(conn, [file.id for file in manifest.live_files(conn, EVENTS.relation)])
    with pytest.raises(RefusedError, match="3 files wait to be removed"):
        list(take_cold_months_back(conn, COLD))
    assert min(months(conn, BEHAVIOR)) == month(2)


def test_a_temporary_view_is_its_sessions_own(url: str, conn: Connection, storage: ColdStorage) -> None:
    with connect(url) as somebody:
        somebody.execute("create temp view mine as select count(*) from user_behavior_events")
        assert upgrade(url, COLD).changes == ()
        assert not plan_cold_months(conn, COLD, now())[0].refused
        assert move_all(url, storage)
        # It reads what it names, as any query of its session.
        assert value(somebody, "select * from mine") == len(hot_ids(conn))
