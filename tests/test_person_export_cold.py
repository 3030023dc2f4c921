"""An export of a person's data holds their rows of cold months, in the same form, and nobody else's."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lifecycle.cold import manifest
from lifecycle.cold.search import KeyCondition, duckdb_of, rows_with_keys
from lifecycle.cold.storage import ColdStorage, StoredObject
from lifecycle.cold.sweep import remove_retired
from lifecycle.cold.thaw import thaw
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.personal_data import PersonalData
from lifecycle.errors import ColdStorageError, RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.person_export.cover import COVER_SHEET
from tests.cold import COLD, EVENTS, MakeColdDb, cold_ids, hot_ids, local_storage, month, move_all, objects
from tests.exporting import AKI, BEN, export, exported
from tests.people import Person, add_account, add_catalogue, browser_session, insert

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]
pytest_plugins = ("tests.cold_fixtures",)

CHO = Person("cho")
TABLE = "public.user_behavior_events"
ALONE, CROWDED, SHARED = map(browser_session, ("alone in cold months", "crowded", "shared"))
# A column of each kind of value that a file stores in another way than as it prints.
MORE_COLUMNS = """
create type mood as enum ('fine', 'so-so');
alter table user_behavior_events add column price numeric(12, 4), add column weight double precision,
    add column light real, add column raw bytea, add column day date, add column wall timestamp, add column mood mood,
    add column tags text[], add column place inet,
    add column doubled int generated always as (length(page_url) * 2) stored
"""
VALUES: dict[str, Any] = {
    "price": "12.3400",
    "weight": 0.1,
    "light": 16777216.0,
    "raw": b"\x00'\\\xff",
    "day": "0044-03-15",
    "wall": "2026-02-03 04:05:06.789012",
    "mood": "so-so",
    "tags": ("a,b", 'c"', ""),
    "place": "10.0.0.0/8",
    "user_agent": "",
    "referrer": '=1+1,"x"\n雨 \\',
    "performance": {"load": 1.50, "n": None},
}


@dataclass(frozen=True)
class World:
    """Rows of aki, ben and cho, of which `moved` months are to go into files."""

    url: str
    storage: ColdStorage
    folder: Path

    def move(self) -> None:
        move_all(self.url, self.storage)


@pytest.fixture
def world(make_cold_db: MakeColdDb, tmp_path: Path) -> World:
    url = make_cold_db()
    with connect(url) as conn:
        conn.execute(MORE_COLUMNS)
        add_catalogue(conn)
        for person in (AKI, BEN, CHO):
            add_account(conn, person)
        for back in (0, 3, 4):
            event(conn, f"of aki {back}", back, AKI, AKI.visit, **VALUES)
            event(conn, f"nobody's {back}", back, None, AKI.visit)
            event(conn, f"of ben {back}", back, BEN, BEN.visit)
        event(conn, "nothing in it", 3, AKI, ALONE)
    return World(url, local_storage(tmp_path / "store"), tmp_path / "store")


def event(conn: Connection, name: str, back: int, person: Person | None, session: str, **columns: Any) -> None:
    insert(
        conn,
        "user_behavior_events",
        id=AKI.id(name),
        account_id=person.account if person else None,
        session_id=session,
        event_timestamp=f"{month(back):%Y-%m}-01 00:00:00.000001+00",
        page_url=f"/{name}",
        created_at=month(back),
        **columns,
    )


def lines(folder: Path, end: str) -> list[bytes]:
    """The rows of the event table as they stand in its file, whatever their order."""
    (path,) = folder.glob(f"*_{TABLE}.{end}")
    # A row's text may hold a line's end; the text of each file is compared as a whole by its pieces.
    return sorted(piece.rstrip(b",") for piece in path.read_bytes().split(b"\n") if piece)


def take_out(conn: Connection, world: World, *sessions: str) -> int:
    """Rows of these sessions wait in the thawed table from here on."""
    taken = 0
    with duckdb_of(world.storage) as duck:
        for file in manifest.live_files(conn, EVENTS.relation):
            condition = KeyCondition("session_id", sessions)
            if positions := rows_with_keys(duck, world.storage.location(file.key), [condition]):
                taken += thaw(conn, world.storage, file, positions).rows
    remove_retired(conn, world.storage)
    return taken


def test_rows_look_the_same_wherever_they_are(world: World, tmp_path: Path) -> None:
    with connect(world.url) as conn:
        before = export(conn, AKI, tmp_path / "before", COLD)
        world.move()
        stored, ids = objects(world.folder), sorted(hot_ids(conn))
        after = export(conn, AKI, tmp_path / "after", COLD, storage=world.storage)
        assert (after.tables, after.rows) == (before.tables, before.rows)
        for end in ("json", "csv"):
            assert lines(tmp_path / "after", end) == lines(tmp_path / "before", end)
        names = sorted(row["page_url"] for row in exported(tmp_path / "after")[TABLE])
        assert names == ["/nothing in it", "/of aki 0", "/of aki 3", "/of aki 4"]
        sheet = (tmp_path / "after" / COVER_SHEET).read_text(encoding="utf-8")
        assert "4（うちファイルに移した古い月 / of these from cold months: 3）" in sheet
        assert sheet.count("`account_id` = ") == (tmp_path / "before" / COVER_SHEET).read_text().count(
            "`account_id` = "
        )
        # Nothing was taken out, and the session keeps nothing.
        assert (objects(world.folder), sorted(hot_ids(conn))) == (stored, ids)
        assert rows(conn, "select from pg_class where relname like 'person_export%' and relpersistence = 't'") == []
        assert take_out(conn, world, AKI.visit) == 4
        waiting = export(conn, AKI, tmp_path / "waiting", COLD, storage=world.storage)
        assert (waiting.tables, waiting.rows) == (before.tables, before.rows)
        assert lines(tmp_path / "waiting", "json") == lines(tmp_path / "before", "json")
        assert not list((tmp_path / "waiting").glob("*_thawed*"))


def test_a_column_that_is_newer_than_a_file_holds_what_the_database_would_show(world: World, tmp_path: Path) -> None:
    with connect(world.url) as conn:
        world.move()
        assert take_out(conn, world, AKI.visit) == 4
        conn.execute("alter table user_behavior_events add column grade int not null default 7, add column note text")
        conn.execute("alter table user_behavior_events alter column note set default 'new', drop column light")
        conn.execute("update user_behavior_events set user_agent = '' where user_agent is null")
        conn.execute("alter table user_behavior_events alter column user_agent set not null")
        export(conn, AKI, tmp_path / "aki", COLD, storage=world.storage)
        found = exported(tmp_path / "aki")[TABLE]
    # One in the database, two that wait, one in a file.
    assert [(row["grade"], row["note"]) for row in found] == [(7, None)] * 4
    assert "light" not in found[0]


def bound_by_session() -> Application:
    """The application in which names of sessions are keys that the database vouches for."""
    declared = COLD.personal_data
    assert declared is not None
    raw = declared.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for kind in ("web_session", "own_web_session"):
        for source in raw["keys"][kind]["from"]:
            source["bound"] = True
    raw["keys"]["web_session"]["unless"][0]["more_than"] = 2
    return COLD.model_copy(update={"personal_data": PersonalData.model_validate(raw)})


def test_keys_that_only_cold_rows_tell_are_followed_and_so_are_their_limits(world: World, tmp_path: Path) -> None:
    application = bound_by_session()
    with connect(world.url) as conn:
        upgrade(world.url, application)
        for session in (ALONE, CROWDED, SHARED):
            insert(conn, "session_replay_events", session_id=session, event_type=session, event_data={})
            insert(conn, "business_metrics_events", session_id=session, page_url=session)
        # Three people came under one name, who are nowhere seen together: two of them in files, in different months.
        for back, person in ((0, BEN), (3, AKI), (4, CHO)):
            event(conn, f"crowded {back}", back, person, CROWDED)
        event(conn, "shared by aki", 3, AKI, SHARED)
        event(conn, "shared by ben", 4, BEN, SHARED)
        event(conn, "nobody's, alone", 4, None, ALONE)
        event(conn, "nobody's, shared", 4, None, SHARED)
        export(conn, AKI, tmp_path / "before", application)
        world.move()
        assert len(cold_ids(conn, world.storage, tmp_path)) > 8
        export(conn, AKI, tmp_path / "after", application, storage=world.storage)
        # Who else was there waits to go back into a file.
        take_out(conn, world, CROWDED, SHARED)
        export(conn, AKI, tmp_path / "waiting", application, storage=world.storage)
    for folder in ("before", "after", "waiting"):
        found = exported(tmp_path / folder)
        assert {row["event_type"] for row in found["public.session_replay_events"]} == {ALONE, SHARED}
        assert {row["page_url"] for row in found["public.business_metrics_events"]} == {ALONE}
        pages = sorted(row["page_url"] for row in found[TABLE])
        assert pages == sorted(
            ["/nothing in it", "/nobody's, alone", "/crowded 3", "/shared by aki"]
            + [f"/{whose} {back}" for whose in ("of aki", "nobody's") for back in (0, 3, 4)]
        )
        assert str(BEN.account) not in json.dumps(found)


def test_without_a_store_or_without_a_file_there_is_no_export(world: World, tmp_path: Path) -> None:
    with connect(world.url) as conn:
        world.move()
        with pytest.raises(RefusedError, match="LIFECYCLE_COLD_URL"):
            export(conn, AKI, tmp_path / "aki", COLD)
        shutil.move(world.folder, tmp_path / "away")
        with pytest.raises(ColdStorageError, match="Nothing of the export is left"):
            export(conn, AKI, tmp_path / "aki", COLD, storage=world.storage)
        assert not (tmp_path / "aki").exists()
        assert value(conn, "select count(*) from lifecycle.person_exports where failure is not null") == 2
        shutil.move(tmp_path / "away", world.folder)
        # Rows that wait are in the database; no file names aki any more, and none is left that has to be read.
        assert take_out(conn, world, AKI.visit, BEN.visit, ALONE, "template") > 8
        export(conn, AKI, tmp_path / "aki", COLD)
        assert len(exported(tmp_path / "aki")[TABLE]) == 4


def test_a_file_that_is_exchanged_meanwhile_lets_the_export_begin_anew(world: World, tmp_path: Path) -> None:
    class Exchanged:
        """A store in which somebody else takes rows out of a file, and removes it, just before it is read."""

        url = world.storage.url
        times = 0

        def __getattr__(self, name: str) -> object:
            return getattr(world.storage, name)

        def fetch(self, stored: StoredObject, target: Path) -> None:
            if self.times == 0:
                with connect(world.url) as other:
                    take_out(other, world, BEN.visit)
            self.times += 1
            world.storage.fetch(stored, target)

    with connect(world.url) as conn:
        export(conn, AKI, tmp_path / "before", COLD)
        world.move()
        # It takes over what columns came since it was made, for which nobody may read it.
        conn.execute("select lifecycle.thawed_table(p) from lifecycle.event_table_policies p"
                     " where p.table_name = 'user_behavior_events'")  # fmt: skip
        storage = Exchanged()
        export(conn, AKI, tmp_path / "after", COLD, storage=storage)
        assert storage.times > 1
        assert lines(tmp_path / "after", "json") == lines(tmp_path / "before", "json")


def test_no_month_leaves_between_an_exports_snapshot_and_its_end(world: World, tmp_path: Path) -> None:
    partition = f"event_partitions.user_behavior_events_{month(0):%Y_%m}"
    with connect(world.url) as conn, connect(world.url) as mover, ThreadPoolExecutor() as threads:
        conn.execute("alter table user_behavior_events drop column doubled")
        export(conn, AKI, tmp_path / "before", COLD)
        world.move()
        take_out(conn, world, BEN.visit)
        seen: list[str] = []

        def look(_table: str) -> None:
            with connect(world.url, autocommit=False) as other, pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("lock table only user_behavior_events in access exclusive mode nowait")
            seen.append("held")

        # Rows leave their partition for another place as a month does, while the export waits for its turn.
        with mover.transaction():
            mover.execute("lock table user_behavior_events in access exclusive mode")
            mover.execute(
                f"insert into event_partitions.user_behavior_events_thawed select * from {partition}".encode()
            )
            mover.execute(f"drop table {partition}".encode())
            running = threads.submit(export, conn, AKI, tmp_path / "after", COLD, storage=world.storage, progress=look)
            deadline = time.monotonic() + 20
            while not value(mover, "select exists (select from pg_locks where not granted)"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        running.result(60)
        assert seen
        assert lines(tmp_path / "after", "json") == lines(tmp_path / "before", "json")
