"""A withdrawal reaches rows in cold files: once, without touching others', and never said to be done before it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets.consent import no_rows_against_consent
from lifecycle.cold.files import read_file
from lifecycle.cold.manifest import columns_of, live_files
from lifecycle.cold.refreeze import refreeze
from lifecycle.cold.storage import ColdStorage
from lifecycle.consent.apply import NotInFiles, apply_consents, not_in_files, rows_against_consent
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.consent import Consent
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.pacing import Pacing
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.cold_storage import ColdMonths
from resources.postgres import ApplicationDatabase
from tests.cold import COLD, EVENTS, MakeColdDb, local_storage, month, move_all, now, objects
from tests.consenting import AKI, BEN, CHO, visit
from tests.people import Person, add_account, add_catalogue, insert

pytest_plugins = ("tests.cold_fixtures",)

TABLE, THAWED = "public.user_behavior_events", "event_partitions.user_behavior_events_thawed"
ONE_PERSON = (NotInFiles("analytics", TABLE, 1),)


@dataclass(frozen=True)
class World:
    """Cold months of three people, of whom nobody decided anything."""

    url: str
    storage: ColdStorage
    folder: Path
    scratch: Path


@pytest.fixture
def world(make_cold_db: MakeColdDb, tmp_path: Path) -> World:
    url = make_cold_db()
    with connect(url) as conn:
        add_catalogue(conn)
        for person in (AKI, BEN, CHO):
            add_account(conn, person)
            for back in (3, 4):
                event(conn, person, back)
    storage = local_storage(tmp_path / "store")
    move_all(url, storage)
    return World(url, storage, tmp_path / "store", tmp_path)


def event(conn: Connection, person: Person, back: int) -> None:
    insert(
        conn,
        "user_behavior_events",
        account_id=person.account,
        session_id=person.visit,
        page_url=f"/{person.name}/{back}",
        referrer="https://ad.example/",
        event_timestamp=month(back),
        created_at=month(back),
    )


def decide(conn: Connection, person: Person, at: datetime, **given: bool) -> None:
    insert(
        conn,
        "consent_history",
        account_id=person.account,
        consent_version="2.0",
        preferences={"necessary": True, **given},
        created_at=at,
    )


def cold(conn: Connection, world: World) -> dict[str, tuple[Any, Any]]:
    """Account and referrer of the rows in files, by page."""
    found: dict[str, tuple[Any, Any]] = {}
    for file in live_files(conn, EVENTS.relation):
        path = world.scratch / "read.parquet"
        world.storage.fetch(file.stored, path)
        for batch in read_file(path, columns_of(conn, file.layout)):
            found |= {row["page_url"]: (row["account_id"], row["referrer"]) for row in batch.to_pylist()}
        path.unlink()
    return {page: held for page, held in found.items() if page != "/"}


def put_back(world: World) -> int:
    return refreeze(world.url, EVENTS, world.storage, now())


def test_rows_of_before_the_withdrawal_stay_and_later_ones_are_cleared_once(world: World) -> None:
    with connect(world.url) as conn:
        before, stored = cold(conn, world), objects(world.folder)
        assert apply_consents(conn, storage=world.storage).thawed == 0
        decide(conn, AKI, month(3) - timedelta(days=2), analytics=False)
        decide(conn, BEN, month(3) - timedelta(days=2), analytics=True)
        visit(conn, AKI, 1)
        run = apply_consents(conn, storage=world.storage)
        assert (run.withdrawn, run.cleared, run.thawed) == ({"analytics": 1}, {TABLE: 1, THAWED: 1}, 1)
        assert (rows_against_consent(conn), not_in_files(conn)) == ((), ())
        # The file that named aki is gone from the store, not only from the manifest.
        assert len(set(stored) - set(objects(world.folder))) == 1
        assert put_back(world) == 1
        assert cold(conn, world) == {**before, "/aki/3": (None, None)}
        kept = objects(world.folder)
        again = apply_consents(conn, storage=world.storage)
        assert (again.thawed, again.cleared) == (0, {})
        assert objects(world.folder) == kept


def test_scrub_all_goes_back_to_the_first_month(world: World) -> None:
    consent = COLD.consent
    assert consent is not None
    raw = consent.model_dump(mode="json", exclude_unset=True)
    raw["purposes"]["marketing"]["tables"][TABLE] = {"by": "account_id", "set": {"referrer": None}}
    upgrade(world.url, COLD.model_copy(update={"consent": Consent.model_validate(raw)}))
    with connect(world.url) as conn:
        before = cold(conn, world)
        decide(conn, AKI, now() - timedelta(hours=5), marketing=False, analytics=True)
        decide(conn, BEN, now() - timedelta(hours=5), marketing=False)
        decide(conn, BEN, now() - timedelta(hours=4), marketing=True)
        run = apply_consents(conn, storage=world.storage)
        # Ben's were looked at, too, and stay as they are.
        assert (run.cleared, run.thawed) == ({THAWED: 2}, 4)
        put_back(world)
        assert cold(conn, world) == {
            page: (account, None if page.startswith("/aki") else referrer)
            for page, (account, referrer) in before.items()
        }
        assert apply_consents(conn, storage=world.storage).thawed == 0


def test_the_database_alone_carries_out_what_it_has_and_says_what_it_has_not(world: World) -> None:
    with connect(world.url) as conn:
        # Nobody withdrew: no store is needed.
        assert apply_consents(conn).thawed == 0
        decide(conn, AKI, month(5), analytics=False)
        visit(conn, AKI, 1)
        with pytest.raises(RefusedError, match="LIFECYCLE_COLD_URL"):
            apply_consents(conn)
        assert value(conn, "select count(*) from lifecycle.consent_decisions") == 1
        assert rows_against_consent(conn) == ()
        assert not_in_files(conn) == not_in_files(conn, "2 hours") == ONE_PERSON
        assert rows(conn, "select outcome from public.apply_consents()") == [("success",)]
        assert not_in_files(conn) == ONE_PERSON
        finding = no_rows_against_consent(((), not_in_files(conn)))
        assert not finding.passed
        assert f"cold files of {TABLE} were not looked through for 1 people (analytics)" in finding.description
        assert apply_consents(conn, storage=world.storage).cleared == {THAWED: 2}
        assert not_in_files(conn) == ()
        assert no_rows_against_consent(((), ())).passed
        # One who decides anew is looked for anew; what is younger than the last run counts later.
        decide(conn, AKI, now() - timedelta(hours=1), analytics=True)
        assert (not_in_files(conn), not_in_files(conn, "2 hours")) == (ONE_PERSON, ())
        assert rows(conn, "select granted from public.apply_consents()") == [({"analytics": 1},)]
        assert not_in_files(conn) == ONE_PERSON


class Meanwhile(Pacing):
    """Something happens between the look into the files and what the database does."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens: Callable[[], object] | None = happens

    @contextmanager
    def work(self, longest_rest: float = inf) -> Iterator[None]:
        if self.happens is not None:
            self.happens()
        self.happens = None
        with super().work(longest_rest):
            yield


def test_nothing_is_noted_as_done_that_was_not(world: World) -> None:
    with connect(world.url) as conn:
        decide(conn, AKI, month(5), analytics=False)
        # Rows go back into a file before they were cleared.
        run = apply_consents(conn, storage=world.storage, pacing=Meanwhile(lambda: put_back(world)))
        assert (run.thawed, run.cleared) == (2, {})
        assert not_in_files(conn) == ONE_PERSON
        assert apply_consents(conn, storage=world.storage).cleared == {THAWED: 2}
        assert not_in_files(conn) == ()
        # Somebody who consented when the files were read withdraws before the database is asked.
        decide(conn, BEN, month(2), analytics=False)
        decide(conn, BEN, month(1), analytics=True)

        def withdraw() -> None:
            decide(conn, BEN, month(6), analytics=False)
            conn.execute("delete from consent_history where created_at in (%s, %s)", (month(2), month(1)))

        run = apply_consents(conn, storage=world.storage, pacing=Meanwhile(withdraw))
        assert (run.thawed, run.withdrawn) == (0, {"analytics": 1})
        assert not_in_files(conn) == ONE_PERSON
        assert apply_consents(conn, storage=world.storage).thawed == 2


@pytest.mark.one_server
def test_the_job_and_the_commands_need_the_store(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(store: str) -> dg.ExecuteInProcessResult:
        definitions = build_definitions(
            COLD, database=ApplicationDatabase(url=world.url), cold_storage=ColdMonths(url=store)
        )
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        job = definitions.resolve_job_def("apply_consents")
        return job.execute_in_process(instance=instance, raise_on_error=False, run_config=quiet)

    with connect(world.url) as conn:
        decide(conn, AKI, month(5), analytics=False)
    result = run("")
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "LIFECYCLE_COLD_URL does not say where" in str(failure.event_specific_data)
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", world.url)
    told = f"analytics: cold files of {TABLE} were not looked through for 1 people"
    assert told in CliRunner().invoke(app, ["consent", "status"]).output
    assert CliRunner().invoke(app, ["consent", "apply"]).exit_code == 1
    monkeypatch.setenv("LIFECYCLE_COLD_URL", world.folder.as_uri())
    assert "2 rows taken out of cold files" in CliRunner().invoke(app, ["consent", "apply"]).output
    assert CliRunner().invoke(app, ["consent", "status"]).output == "No row stands against consent.\n"
    with connect(world.url) as conn:
        decide(conn, BEN, month(5), analytics=False)
    result = run(world.folder.as_uri())
    assert result.success
    (made,) = result.asset_materializations_for_node("consent_decisions")
    assert made.metadata["rows_from_cold_files"].value == 2
    assert all(check.passed for check in result.get_asset_check_evaluations())
