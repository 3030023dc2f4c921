"""ON DELETE actions reach cold rows in the daily pass, and what a key does not say is counted and left alone."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cold.files import read_file
from lifecycle.cold.manifest import columns_of, live_files
from lifecycle.cold.search import KeyCondition, duckdb_of, rows_with_keys
from lifecycle.cold.status import cold_status
from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.thaw import thaw
from lifecycle.cold.upkeep import Upkeep, keep_up
from lifecycle.database import Connection, connect, rows, value
from orchestration.cli.main import app
from tests.cold import COLD, EVENTS, MakeColdDb, cold_ids, hot_ids, local_storage, month, move_all, now
from tests.people import Person, insert

pytest_plugins = ("tests.cold_fixtures",)

AKI, BEN = Person("aki"), Person("ben")
# Two columns as one key, a key over text with an action of another kind each, and one that says nothing.
SHOPS = """
create table shops (town text, number int, primary key (town, number));
insert into shops values ('kyoto', 1), ('kyoto', 2), ('o"saka', 1);
create table kinds (name text primary key);
insert into kinds values ('odd'), ('plain'), ('gone');
create table drafts (id int primary key);
insert into drafts values (1), (2);
alter table user_behavior_events add column town text, add column number int, add column kind text default 'plain',
    add column draft int,
    add constraint of_shop foreign key (town, number) references shops on delete cascade,
    add constraint of_kind foreign key (kind) references kinds on delete set default,
    add constraint of_draft foreign key (draft) references drafts;
"""


@dataclass(frozen=True)
class World:
    """Cold months of aki and ben."""

    url: str
    storage: ColdStorage
    scratch: Path


@pytest.fixture
def world(make_cold_db: MakeColdDb, tmp_path: Path) -> World:
    url = make_cold_db()
    storage = local_storage(tmp_path / "store")
    with connect(url) as conn:
        conn.execute(SHOPS)
        for person in (AKI, BEN):
            insert(conn, "accounts", id=person.account)
        event(conn, "of aki", 3, account_id=AKI.account)
        event(conn, "of ben", 3, account_id=BEN.account)
        event(conn, "of aki, too", 4, account_id=AKI.account, draft=1)
        event(conn, "in kyoto", 3, town="kyoto", number=1)
        event(conn, "half a key", 3, town="kyoto", number=None)
        event(conn, "in osaka", 3, town='o"saka', number=1, kind="gone", draft=2)
        event(conn, "odd", 4, kind="odd", draft=2)
    move_all(url, storage)
    return World(url, storage, tmp_path)


def event(conn: Connection, name: str, back: int, **columns: object) -> None:
    insert(
        conn,
        "user_behavior_events",
        id=AKI.id(name),
        session_id=name,
        page_url="/",
        event_timestamp=month(back),
        **columns,
    )


def daily(world: World) -> Upkeep:
    return keep_up(world.url, EVENTS, world.storage, now())


def cold(conn: Connection, world: World) -> dict[str, dict[str, object]]:
    """The cold rows of this test by their session's name, without what does not matter here."""
    found: dict[str, dict[str, object]] = {}
    for file in live_files(conn, EVENTS.relation):
        path = world.scratch / "read.parquet"
        world.storage.fetch(file.stored, path)
        for batch in read_file(path, columns_of(conn, file.layout)):
            for row in batch.to_pylist():
                found[row["session_id"]] = {name: row[name] for name in ("account_id", "town", "kind", "draft")}
        path.unlink()
    return {name: row for name, row in found.items() if name != "template"}


def test_each_key_does_what_it_says_to_rows_in_files_and_nothing_else_changes(world: World) -> None:
    with connect(world.url) as conn:
        before = cold(conn, world)
        ids = sorted(cold_ids(conn, world.storage, world.scratch))
        files = {file.id for file in live_files(conn, EVENTS.relation)}
        assert daily(world).after_actions == 0
        assert {file.id for file in live_files(conn, EVENTS.relation)} == files
        conn.execute("delete from accounts where id = %s", (AKI.account,))
        conn.execute("delete from shops where town = 'kyoto'")
        conn.execute("delete from kinds where name = 'gone'")
        done = daily(world)
        after = cold(conn, world)
        assert (done.after_actions, done.refrozen, done.dangling) == (4, 3, {})
        assert set(before) - set(after) == {"in kyoto"}
        changed = {name: row for name, row in after.items() if row != before[name]}
        assert changed == {
            "of aki": {**before["of aki"], "account_id": None},
            "of aki, too": {**before["of aki, too"], "account_id": None},
            "in osaka": {**before["in osaka"], "kind": "plain"},
        }
        assert sorted([*cold_ids(conn, world.storage, world.scratch), str(AKI.id("in kyoto"))]) == ids
        again = {file.id for file in live_files(conn, EVENTS.relation)}
        assert daily(world).after_actions == 0
        assert {file.id for file in live_files(conn, EVENTS.relation)} == again


def test_a_key_that_says_nothing_is_told_of_and_nothing_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(world.url) as conn:
        before = cold(conn, world)
        conn.execute("delete from drafts where id = 2")
        # Taken out for another reason, and counted once.
        conn.execute("delete from kinds where name = 'gone'")
        done = daily(world)
        assert (done.after_actions, done.dangling) == (1, {"of_draft": 2})
        told = [(each.foreign_key, each.referenced, each.rows) for each in cold_status(conn, EVENTS, now()).dangling]
        assert told == [("of_draft", "public.drafts", 2)]
        monkeypatch.setattr("orchestration.cli.cold.declared_application", lambda: COLD)
        monkeypatch.setenv("LIFECYCLE_DATABASE_URL", world.url)
        printed = " ".join(CliRunner().invoke(app, ["cold", "status"]).output.split())
        assert "2 rows point by of_draft to rows of public.drafts that are gone, and stay as they are." in printed
        assert cold(conn, world) == {**before, "in osaka": {**before["in osaka"], "kind": "plain"}}
        conn.execute("insert into drafts values (2)")
        assert daily(world).dangling == {}
        assert cold_status(conn, EVENTS, now()).dangling == ()


def test_rows_that_wait_to_go_back_are_treated_alike(world: World) -> None:
    with connect(world.url) as conn:
        with duckdb_of(world.storage) as duck:
            for file in live_files(conn, EVENTS.relation):
                condition = KeyCondition("session_id", ("of aki", "in kyoto", "in osaka"))
                if positions := rows_with_keys(duck, world.storage.location(file.key), [condition]):
                    thaw(conn, world.storage, file, positions)
        assert value(conn, "select count(*) from event_partitions.user_behavior_events_thawed") == 3
        conn.execute("delete from accounts where id = %s", (AKI.account,))
        conn.execute("delete from shops")
        conn.execute("delete from drafts where id = 2")
        done = daily(world)
        assert (done.after_actions, done.dangling) == (4, {"of_draft": 1})
        assert value(conn, "select count(*) from event_partitions.user_behavior_events_thawed") == 0
        after = cold(conn, world)
    assert after["of aki"]["account_id"] is after["of aki, too"]["account_id"] is None
    assert {"in kyoto", "in osaka"} & set(after) == set()


def test_what_points_to_another_event_table_is_not_taken_for_gone(world: World) -> None:
    """Its rows may stand in files themselves."""
    with connect(world.url) as conn:
        conn.execute("alter table user_behavior_events drop constraint of_draft, drop constraint of_kind")
        conn.execute("update lifecycle.event_table_policies set table_name = 'shops' where table_name like 'session%'")
        conn.execute("delete from shops")
        # Nor is a column looked for that is newer than the files.
        conn.execute("alter table user_behavior_events add column later int references drafts")
        assert daily(world).after_actions == 0
        assert "in kyoto" in cold(conn, world)
        assert rows(conn, "select from lifecycle.cold_dangling") == []
        assert str(AKI.id("in kyoto")) not in hot_ids(conn)
