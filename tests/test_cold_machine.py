"""Random sequences of writes, moves, thaws, corrections, restores and rotations against a plain table as model."""

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from lifecycle.cold import manifest
from lifecycle.cold.files import read_file
from lifecycle.cold.restore import restore_month
from lifecycle.cold.sweep import remove_retired
from lifecycle.cold.thaw import thaw
from lifecycle.cold.upkeep import keep_up
from lifecycle.database import Connection, connect, rows, value
from tests.cold import EVENTS, local_storage, month, move_all, now, objects
from tests.cold_fixtures import MakeColdDb
from tests.partitioned import rotate_all

pytestmark = [pytest.mark.every_version, pytest.mark.one_server, pytest.mark.timeout(280)]
pytest_plugins = ("tests.cold_fixtures",)

BACK = st.integers(2, 5)
THAWED = "event_partitions.user_behavior_events_thawed"
ANY = st.integers(0, 10_000)


class ColdMachine(RuleBasedStateMachine):
    """`model` maps the id of each row to its page, wherever the row stands."""

    url: str
    conn: Connection

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cold-machine-"))
        self.storage = local_storage(self.folder / "store")
        self.conn.execute("delete from user_behavior_events")
        for back in range(2, 6):
            # What an earlier example left in files is nobody's row any more.
            for file in manifest.live_files(self.conn, EVENTS.relation, month(back)):
                manifest.retire(self.conn, [file.id])
        self.conn.execute("update lifecycle.cold_files set state = 'removed' where state <> 'removed'")
        self.conn.execute("delete from lifecycle.cold_restored")
        if value(self.conn, "select to_regclass(%s)", (THAWED,)):
            self.conn.execute(f"delete from {THAWED}".encode())
        self.model: dict[UUID, str] = {}

    @rule(back=BACK, count=st.integers(1, 5), day=st.integers(0, 27))
    def write(self, back: int, count: int, day: int) -> None:
        for _ in range(count):
            key = uuid4()
            self.conn.execute(
                "insert into user_behavior_events (id, session_id, event_timestamp, page_url)"
                " values (%s, 's', %s, '/')",
                (key, month(back) + timedelta(days=day)),
            )
            self.model[key] = "/"

    @rule(back=BACK)
    def correct_what_stands_in_the_database(self, back: int) -> None:
        page = f"/corrected/{uuid4().hex[:4]}"
        for (key,) in rows(
            self.conn,
            "update user_behavior_events set page_url = %s where event_timestamp >= %s and event_timestamp < %s"
            " returning id",
            (page, month(back), month(back - 1)),
        ):
            self.model[key] = page

    @rule(back=BACK)
    def delete_what_stands_in_the_database(self, back: int) -> None:
        for (key,) in rows(
            self.conn,
            "delete from user_behavior_events where event_timestamp >= %s and event_timestamp < %s returning id",
            (month(back), month(back - 1)),
        ):
            del self.model[key]

    @rule()
    def rotate(self) -> None:
        rotate_all(self.conn)

    @rule()
    def move(self) -> None:
        move_all(self.url, self.storage)

    @rule(chosen=ANY, every=st.integers(1, 3), delete=st.booleans())
    def erase_from_a_file(self, chosen: int, every: int, delete: bool) -> None:
        """As an erasure does: rows are taken out, changed or deleted, and the file that held them goes."""
        files = manifest.live_files(self.conn, EVENTS.relation)
        if not files:
            return
        file = files[chosen % len(files)]
        assert file.rows is not None
        thaw(self.conn, self.storage, file, range(0, file.rows, every))
        if delete:
            for (key,) in rows(self.conn, f"delete from {THAWED} returning id"):
                del self.model[key]
        else:
            for (key,) in rows(self.conn, f"update {THAWED} set page_url = '/erased' returning id"):
                self.model[key] = "/erased"
        remove_retired(self.conn, self.storage)
        assert file.key not in objects(self.folder / "store")

    @rule()
    def put_back(self) -> None:
        keep_up(self.url, EVENTS, self.storage, now())

    @rule(chosen=ANY)
    def restore(self, chosen: int) -> None:
        months = sorted({file.month for file in manifest.live_files(self.conn, EVENTS.relation)})
        if months:
            back = months[chosen % len(months)]
            restore_month(self.url, EVENTS, back, self.storage, keep_for=timedelta(seconds=1), now=now())

    @invariant()
    def every_row_is_in_one_place(self) -> None:
        found = list(rows(self.conn, "select id, page_url from user_behavior_events"))
        if value(self.conn, "select to_regclass(%s)", (THAWED,)):
            found += rows(self.conn, f"select id, page_url from {THAWED}")
        found += self._in_files()
        assert len(found) == len(self.model)
        assert dict(found) == self.model

    def _in_files(self) -> Iterator[tuple[UUID, str]]:
        for file in manifest.live_files(self.conn, EVENTS.relation):
            path = self.folder / "read.parquet"
            self.storage.fetch(file.stored, path)
            for batch in read_file(path, manifest.columns_of(self.conn, file.layout)):
                for row in batch.to_pylist():
                    yield UUID(row["id"]), row["page_url"]
            path.unlink()


def test_whatever_happens_every_row_is_in_one_place(make_cold_db: MakeColdDb) -> None:
    url = make_cold_db()
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        ColdMachine.url, ColdMachine.conn = url, conn
        run_state_machine_as_test(
            ColdMachine,
            settings=settings(
                max_examples=10,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
