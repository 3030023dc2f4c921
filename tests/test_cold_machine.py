"""Random sequences of writes, moves, erasures, corrections, restores and rotations against a plain table as model."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lifecycle.cold import manifest
from lifecycle.cold.files import read_file
from lifecycle.cold.restore import restore_month
from lifecycle.cold.sweep import remove_retired
from lifecycle.cold.thaw import thaw
from lifecycle.cold.upkeep import keep_up
from lifecycle.database import Connection, connect, rows
from lifecycle.erasures.run import erase_batch
from lifecycle.migrating.migrate import upgrade
from tests.cold import COLD, EVENTS, MakeColdDb, local_storage, month, move_all, now, objects
from tests.cold_views import NARROW, THAWED
from tests.erasing import ask
from tests.kept import definition_of
from tests.partitioned import rotate_all
from tests.people import Person, add_account, add_catalogue

pytestmark = [pytest.mark.every_version, pytest.mark.one_server, pytest.mark.timeout(280)]
pytest_plugins = ("tests.cold_fixtures",)

BACK = st.integers(2, 5)
ANY = st.integers(0, 10_000)
# A view over the seam: it reads what is hot, the narrow table and what waits to go back into files.
TOLD = """
create view told_of_visits as
select id, page_url as page, session_id as session, count(*) as times from user_behavior_events group by 1, 2, 3
"""
SEEN = "select id, page, session from told_of_visits cross join generate_series(1, times)"
FORGET_NARROW = """
select lifecycle.drop_narrow_month(p, n.month, false) from lifecycle.narrow_months n
  join lifecycle.event_table_policies p on p.schema_name = n.schema_name and p.table_name = n.table_name
"""
NUMBERS = count(1)


class Row(NamedTuple):
    """What the model knows of a row."""

    page: str
    session: str


class ColdMachine(RuleBasedStateMachine):
    """`model` holds each row by its id, wherever it stands, and `people` those who are not erased with their rows."""

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
        self.conn.execute(FORGET_NARROW.encode())
        self.conn.execute("delete from lifecycle.cold_restored")
        self.conn.execute(f"delete from {THAWED}".encode())
        self.model: dict[UUID, Row] = {}
        self.people: dict[Person, set[UUID]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(back=BACK, rows_written=st.integers(1, 5), day=st.integers(0, 27), somebody=st.booleans())
    def write(self, back: int, rows_written: int, day: int, somebody: bool) -> None:
        """Rows of one visit, of nobody or of one who signs in after the first page."""
        person = Person(f"person {next(NUMBERS)}") if somebody else None
        if person:
            add_account(self.conn, person)
            self.people[person] = set()
        for number in range(rows_written + 1 if person else rows_written):
            key, row = uuid4(), Row("/", person.visit if person else "nobody's")
            self.conn.execute(
                "insert into user_behavior_events (id, session_id, account_id, event_timestamp, page_url)"
                " values (%s, %s, %s, %s, %s)",
                (key, row.session, person.account if person and number else None, moment(back, day), row.page),
            )
            self.model[key] = row
            if person:
                self.people[person].add(key)

    @rule(back=BACK)
    def correct_what_stands_in_the_database(self, back: int) -> None:
        page = f"/corrected/{uuid4().hex[:4]}"
        for (key,) in rows(
            self.conn,
            "update user_behavior_events set page_url = %s where event_timestamp >= %s and event_timestamp < %s"
            " returning id",
            (page, month(back), month(back - 1)),
        ):
            self.model[key] = self.model[key]._replace(page=page)

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
    def take_out_of_a_file(self, chosen: int, every: int, delete: bool) -> None:
        """Rows are taken out, changed or deleted, and the file that held them goes."""
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
                self.model[key] = self.model[key]._replace(page="/erased")
        remove_retired(self.conn, self.storage)
        assert file.key not in objects(self.folder / "store")

    @precondition(lambda self: self.people)
    @rule(chosen=ANY)
    def erase_somebody(self, chosen: int) -> None:
        """All that one person did, wherever it stands, and nobody else's."""
        person = list(self.people)[chosen % len(self.people)]
        ask(self.conn, person)
        self.conn.execute("select public.enqueue_deletion_jobs()")
        batch = erase_batch(self.conn, storage=self.storage)
        assert batch is not None
        assert (batch.verified, batch.failed) == (1, ())
        for key in self.people.pop(person) & self.model.keys():
            self.model[key] = self.model[key]._replace(session="erased")

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
        found = list(rows(self.conn, "select id, page_url, session_id from user_behavior_events"))
        found += rows(self.conn, f"select id, page_url, session_id from {THAWED}")
        found += self._in_files()
        assert_are(self.model, found)

    @invariant()
    def a_view_sees_every_row_once(self) -> None:
        assert_are(self.model, rows(self.conn, SEEN))

    def _in_files(self) -> Iterator[tuple[UUID, str, str]]:
        for file in manifest.live_files(self.conn, EVENTS.relation):
            path = self.folder / "read.parquet"
            self.storage.fetch(file.stored, path)
            for batch in read_file(path, manifest.columns_of(self.conn, file.layout)):
                for row in batch.to_pylist():
                    yield UUID(row["id"]), row["page_url"], row["session_id"]
            path.unlink()


def moment(back: int, day: int) -> datetime:
    return month(back) + timedelta(days=day)


def assert_are(model: dict[UUID, Row], found: Sequence[tuple[UUID, str, str]]) -> None:
    assert len(found) == len(model)
    assert {key: Row(page, session) for key, page, session in found} == model


def test_whatever_happens_every_row_is_in_one_place(make_cold_db: MakeColdDb) -> None:
    url = make_cold_db()
    with connect(url) as conn:
        conn.execute("set timezone = 'UTC'")
        add_catalogue(conn)
        conn.execute(TOLD)
        upgrade(url, COLD)
        told = definition_of(conn, "told_of_visits")
        assert NARROW in told
        assert THAWED in told
        ColdMachine.url, ColdMachine.conn = url, conn
        run_state_machine_as_test(
            ColdMachine,
            settings=settings(
                max_examples=7,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
