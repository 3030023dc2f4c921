"""docs/how-to/back-up-and-restore.md, run on real rows: nothing is lost, and whoever was erased stays erased."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from orchestration.definitions import build_definitions
from orchestration.shipped import DAGSTER_YAML
from resources.postgres import ApplicationDatabase
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.docs_pages import ROOT
from tests.dumping import as_owner, create_empty, run_page
from tests.erasing import ask, job, picture, process, traces
from tests.people import Person, add_catalogue, add_person

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

PAGE = ROOT / "docs/how-to/back-up-and-restore.md"
DAGSTER = "dagster_of_backups"
AKI, BEN = Person("aki"), Person("ben")


def commands(part: str) -> str:
    """The one block of the page that holds `part`, also where it belongs to a step of a list."""
    text = dedented(PAGE.read_text(encoding="utf-8"))
    (found,) = (block for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if part in block)
    return str(found)


def dedented(text: str) -> str:
    return re.sub(r"^ {3}", "", text, flags=re.MULTILINE)


@contextmanager
def dagster_database(server: Server) -> Iterator[str]:
    name = sql.Identifier(DAGSTER)
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(name))
        yield server.url(DAGSTER, user=SUPERUSER)
        conn.execute(sql.SQL("drop database {} with (force)").format(name))


@contextmanager
def instance_on(url: str, home: Path) -> Iterator[dg.DagsterInstance]:
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(DAGSTER_YAML.read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_PG_URL", url.replace("postgresql://", "postgresql+psycopg2://"))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance


def of_ben(conn: Connection) -> dict[tuple[str, str], str]:
    """Every row of the application's tables that ben owns, as text."""
    return {key: text for key, text in picture(conn).items() if str(BEN.account) in text or BEN.email in text}


def test_a_restored_backup_does_not_bring_erased_people_back(
    make_application_db: MakeApplicationDb, server: Server, tmp_path: Path
) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        add_catalogue(conn)
        for person in (AKI, BEN):
            add_person(conn, person.name)
        alive, before = traces(conn, AKI), of_ben(conn)
    assert alive
    assert before
    with dagster_database(server) as dagster:
        run_page(server, commands("pg_dump"), tmp_path, PRODUCTION=url, DAGSTER=dagster)
    # Asked for and done after the backup, which knows neither.
    with connect(url) as conn:
        asked = ask(conn, AKI)
        process(conn)
        assert job(conn, asked)["state"] == "verified"
        left = traces(conn, AKI).keys()
    # The account's own row stays, without anything that tells whose it was.
    assert {"account_profiles", "chat_sessions", "user_behavior_events"} <= alive.keys() - left
    run_page(server, commands("erasure export"), tmp_path, LIFECYCLE_DATABASE_URL=url)
    there = create_empty(server, "restored_after_erasure")
    try:
        run_page(server, commands("$ELSEWHERE"), tmp_path, ELSEWHERE=there)
        with connect(as_owner(there)) as conn:
            assert traces(conn, AKI).keys() >= alive.keys()
        printed, _ = run_page(server, commands("erasure replay"), tmp_path, LIFECYCLE_DATABASE_URL=as_owner(there))
        assert "2 were missing here" in printed
        with connect(as_owner(there)) as conn:
            assert traces(conn, AKI).keys() <= left
            assert not [key for key, text in picture(conn).items() if AKI.email in text]
            assert of_ben(conn) == before
            assert rows(conn, "select id, fault from lifecycle.broken_receipts()") == []
            assert value(conn, "select count(*) from lifecycle.erasure_receipts") == 1
    finally:
        with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
            conn.execute("drop database restored_after_erasure with (force)")


def test_dagsters_runs_are_there_again(make_application_db: MakeApplicationDb, server: Server, tmp_path: Path) -> None:
    url = make_application_db(rows=False, migrated=True)
    record = build_definitions(APPLICATION, database=ApplicationDatabase(url=url)).resolve_job_def("record_storage")
    with dagster_database(server) as dagster:
        with instance_on(dagster, tmp_path / "home") as instance:
            assert record.execute_in_process(instance=instance).success
            before = {run.run_id: run.status for run in instance.get_runs()}
        run_page(server, commands("pg_dump"), tmp_path, PRODUCTION=url, DAGSTER=dagster)
    with dagster_database(server) as dagster:
        run_page(server, commands("--no-owner"), tmp_path, DAGSTER=dagster)
        with instance_on(dagster, tmp_path / "home") as instance:
            assert {run.run_id: run.status for run in instance.get_runs()} == before
            assert instance.get_latest_materialization_event(dg.AssetKey(["lifecycle", "storage_history"]))
            assert record.execute_in_process(instance=instance).success
            assert instance.get_runs_count() == len(before) + 1
