"""What the transaction by which a month leaves looks at once more: nothing that came after the verification is lost."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.cold.due import MonthToMove, months_to_move
from lifecycle.cold.move import _Move, move_month
from lifecycle.cold.restore import restore_month
from lifecycle.database import Connection, connect, politely, rows, value
from lifecycle.errors import BusyError, RefusedError, VerificationError
from lifecycle.locks import LockPolicy
from tests.cold import EVENTS, MakeColdDb, cold_ids, cold_text, hot_ids, local_storage, month, move_all, now, objects
from tests.partitioned import BEHAVIOR, insert_events, months

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.cold_fixtures",)

MANY = 5
MONTH = (month(3), month(2))
UPDATE = "update user_behavior_events set page_url = '/changed' where session_id = 'many'"
SWITCH_OFF = "alter table {partition} disable trigger user"
# A tool takes a month away and loads it again, with other values; changes of the new one are noted, too.
EXCHANGE = """
alter table user_behavior_events detach partition {partition};
create table loaded (like {partition} including all);
insert into loaded select * from {partition};
update loaded set page_url = '/loaded';
drop table {partition};
alter table loaded rename to {name};
alter table {name} set schema event_partitions;
alter table user_behavior_events attach partition {partition} for values from ('{month}') to ('{end}');
comment on table {partition} is 'lifecycle:month of public.user_behavior_events';
select lifecycle.note_cold_changes_of('{partition}');
"""
# Neither fires a trigger for a row.
REWRITE = "alter table user_behavior_events alter column viewport_size type text using '/changed'"
DRAW_LOTS = "alter table user_behavior_events add column lot uuid default gen_random_uuid()"


@pytest.fixture
def url(make_cold_db: MakeColdDb) -> str:
    made = make_cold_db()
    with connect(made) as conn:
        insert_events(conn, BEHAVIOR, month(3) + timedelta(days=2), session="many", rows=MANY)
    return made


def youngest(conn: Connection) -> MonthToMove:
    return months_to_move(conn, EVENTS, now())[-1]


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Once, between the verification and the transaction."""
    leave: Any = _Move.commit

    def commit(moving: _Move) -> bool:
        monkeypatch.setattr(_Move, "commit", leave)
        happens()
        return bool(leave(moving))

    monkeypatch.setattr(_Move, "commit", commit)


def noting(real: Callable[[_Move], str], note: Callable[[], object]) -> Callable[[_Move], str]:
    """What a row held when its month left, told before."""

    def told(moving: _Move) -> str:
        note()
        return real(moving)

    return told


def happen(conn: Connection, text: str) -> None:
    """Carry out these statements for the youngest month that is to leave."""
    name = youngest(conn).partition
    names = {"partition": f"event_partitions.{name}", "name": name, "month": month(3), "end": month(2)}
    conn.execute(text.format(**names).encode())


@pytest.mark.parametrize("change", [UPDATE, f"{SWITCH_OFF}; {UPDATE}", REWRITE])
def test_a_row_that_is_changed_last_of_all_leaves_as_it_is(
    url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    storage = local_storage(tmp_path / "store")
    meanwhile(monkeypatch, lambda: happen(conn, change))
    moved = move_month(url, EVENTS, youngest(conn), storage)
    assert (moved.month, moved.rows) == (month(3), MANY + 1)
    assert cold_text(conn, storage, tmp_path).count("/changed") >= MANY


def test_what_a_new_column_drew_for_each_row_leaves_with_it(
    url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = local_storage(tmp_path / "store")
    meanwhile(monkeypatch, lambda: happen(conn, DRAW_LOTS))
    drawn = "select id, lot from user_behavior_events where event_timestamp >= %s and event_timestamp < %s"
    before: set[Any] = set()
    monkeypatch.setattr(_Move, "_leave", noting(_Move._leave, lambda: before.update(rows(conn, drawn, MONTH))))
    move_month(url, EVENTS, youngest(conn), storage)
    restore_month(url, EVENTS, month(3), storage, keep_for=timedelta(days=1), now=now())
    assert sorted(rows(conn, drawn, MONTH)) == sorted(before)
    assert len({lot for _, lot in before}) == MANY + 1


def test_another_partition_of_that_name_stays(
    url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = local_storage(tmp_path / "store")
    meanwhile(monkeypatch, lambda: happen(conn, EXCHANGE))
    ids = sorted(hot_ids(conn))
    with pytest.raises(RefusedError, match="is not the partition any more that was read"):
        move_month(url, EVENTS, youngest(conn), storage)
    assert sorted(hot_ids(conn)) == ids
    move_all(url, storage)
    assert sorted(hot_ids(conn) + cold_ids(conn, storage, tmp_path)) == ids
    assert cold_text(conn, storage, tmp_path).count("/loaded") == MANY + 1


def test_a_month_whose_file_is_given_up_stays_and_the_next_run_finishes(
    url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = local_storage(tmp_path / "store")
    ids = sorted(hot_ids(conn))
    meanwhile(monkeypatch, lambda: conn.execute("update lifecycle.cold_files set state = 'retired'"))
    with pytest.raises(VerificationError, match="hold other rows than were read"):
        move_month(url, EVENTS, youngest(conn), storage)
    assert sorted(hot_ids(conn)) == ids
    move_all(url, storage)
    assert sorted(hot_ids(conn) + cold_ids(conn, storage, tmp_path)) == ids
    assert min(months(conn, BEHAVIOR)) == month(2)


def test_a_month_whose_lock_is_taken_waits_in_the_store_and_leaves_with_the_next_run(
    url: str, conn: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = local_storage(tmp_path / "store")
    assert politely.__kwdefaults__ is not None
    monkeypatch.setitem(politely.__kwdefaults__, "locks", LockPolicy(tries=2, first_pause=0.01))
    with connect(url) as reader, reader.transaction():
        reader.execute("select count(*) from user_behavior_events")
        with pytest.raises(BusyError, match=r"leaves the database: no lock on public\.user_behavior_events"):
            move_month(url, EVENTS, youngest(conn), storage)
        assert value(conn, "select state from lifecycle.cold_moves") == "verified"
    files = objects(tmp_path / "store")
    assert move_month(url, EVENTS, youngest(conn), storage).rows == MANY + 1
    assert objects(tmp_path / "store") == files
