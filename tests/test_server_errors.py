"""A server that cannot work now, a URL that cannot be meant, a role whose statements are cut off: one sentence."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from assets import access
from lifecycle.checking.check import check_declarations
from lifecycle.database import Connection, connect, value
from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.erasures.queue import enqueue
from lifecycle.errors import BusyError, LifecycleError
from lifecycle.server_errors import told
from orchestration.cli.main import app
from orchestration.cli.plan_parts import collect_plan
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase, errors_for_dagster
from resources.variables import URL_VARIABLE
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.erasing import ask
from tests.people import Person, add_account

pytestmark = pytest.mark.one_server

RUNNER = CliRunner()
APPLICATION = load_application(DEFAULT_FOLDER)
CUT_OFF = "200ms"


@pytest.fixture
def url(make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database, which the commands work on."""
    found = make_application_db(rows=False, migrated=True)
    monkeypatch.setenv(URL_VARIABLE, found)
    monkeypatch.setenv("COLUMNS", "200")
    return found


def alter_database(server: Server, url: str, change: str) -> None:
    """As an administrator does, for the sessions to come."""
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
        admin.execute(f"alter database {make_url(url).database} {change}".encode())


def cut_statements_off(server: Server, url: str) -> None:
    """As Supabase does, and sooner."""
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
        change = f"alter role postgres in database {make_url(url).database} set statement_timeout = '{CUT_OFF}'"
        admin.execute(change.encode())


def run_of(job: str, url: str, folder: Path) -> str:
    """Everything that Dagster's storage holds of a run that fails."""
    folder.mkdir(exist_ok=True)
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        definitions = build_definitions(database=ApplicationDatabase(url=url))
        result = definitions.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)
        assert not result.success
        return "\n".join(str(entry) for entry in instance.all_logs(result.run_id))


@pytest.mark.parametrize(
    "password",
    ["Tana@ka7secret", "Tana@ka/secret", "Tana@ka:secret", "@Tanaka7secret@", "Tana@ka?x=secret", "Tana@#secret"],
)
def test_a_password_with_an_at_sign_is_one_sentence_without_any_part_of_it(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, f"postgresql://postgres:{password}@127.0.0.1:1/postgres")
    for command in (["plan"], ["migrate"], ["erasure", "status"], ["erasure", "run"]):
        result = RUNNER.invoke(app, command)
        assert result.exit_code == 1
        assert "an @ is written %40" in result.stderr
        assert not any(part in result.output + result.stderr for part in ("Tana", "ka", "secret"))


def test_no_part_of_such_a_password_is_in_dagsters_storage(tmp_path: Path) -> None:
    kept = run_of("record_storage", "postgresql://postgres:Tana@ka7secret@127.0.0.1:1/postgres", tmp_path)
    assert "an @ is written %40" in kept
    assert not any(part in kept for part in ("Tana", "ka7", "secret"))


def test_what_a_wrong_url_came_from_is_not_kept() -> None:
    """The library's own error quotes the part of the password that it took for a port."""
    with pytest.raises(LifecycleError) as refused:
        connect("postgresql://ann@host:secret/app")
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_read_only_database_is_planned_and_refuses_in_one_sentence(server: Server, url: str, tmp_path: Path) -> None:
    alter_database(server, url, "set default_transaction_read_only = on")
    planned = RUNNER.invoke(app, ["plan"])
    assert planned.exit_code == 0, planned.output
    assert "it is read-only now" in planned.stdout
    for command in (["undo", "views"], ["erasure", "run"], ["access", "accept"]):
        result = RUNNER.invoke(app, command)
        assert result.exit_code == 1, command
        assert "is read-only now" in result.output + result.stderr, command
        assert "Traceback" not in result.output
    for job in ("record_storage", "rotate_event_partitions"):
        kept = run_of(job, url, tmp_path / job)
        assert "The database is read-only now" in kept, job


def test_exhausted_connections_are_one_sentence(server: Server, url: str) -> None:
    alter_database(server, url, "connection limit 0")
    for command in (["plan"], ["migrate"], ["erasure", "status"]):
        result = RUNNER.invoke(app, command)
        assert result.exit_code == 1
        assert "The server has no connection left" in result.stderr, command
    with pytest.raises(BusyError, match="no connection left"), ApplicationDatabase(url=url).connect():
        pass


def test_a_pooler_without_a_place_and_a_refused_password_are_told_alike() -> None:
    for said in (
        'connection to server at "10.0.0.7", port 6543 failed: FATAL:  Max client connections reached',
        "connection failed: FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "connection failed: FATAL:  sorry, too many clients already",
        "connection failed: FATAL:  no more connections allowed (max_client_conn)",
    ):
        assert "session pooler" in told(psycopg.OperationalError(said))
    assert "%40" in told(psycopg.OperationalError('FATAL:  password authentication failed for user "postgres"'))


def test_a_foreign_database_is_told_what_to_run(
    make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, make_application_db(rows=False))
    for command in (["erasure", "run"], ["consent", "apply"], ["consent", "status"], ["access", "check"]):
        result = RUNNER.invoke(app, command)
        assert result.exit_code == 1, command
        assert "lifecycle migrate" in result.stderr, command
        assert "LINE 1" not in result.stderr


def test_rows_that_an_error_quotes_are_kept_nowhere(url: str) -> None:
    twice = "create temp table guests (email text primary key); insert into guests values ('ann@x.example')"
    with connect(url) as conn:
        conn.execute(twice)
        with pytest.raises(psycopg.errors.UniqueViolation) as refused:
            conn.execute("insert into guests values ('ann@x.example')")
        assert "ann" not in told(refused.value)
    with pytest.raises(dg.Failure) as failed, errors_for_dagster():
        raise LifecycleError("guests: refused") from refused.value
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


@contextmanager
def locked_for_longer(server: Server, url: str, table: str) -> Iterator[None]:
    """Whoever asks for this table waits for three times as long as the role's statements may take."""
    locked, waited = threading.Event(), threading.Event()

    def hold() -> None:
        with psycopg.connect(server.url(make_url(url).database or "", user=SUPERUSER)) as holder:
            holder.execute(f"lock table {table} in access exclusive mode".encode())
            locked.set()
            with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as watcher:
                for _ in range(200):
                    if value(watcher, "select exists (select from pg_locks where not granted)"):
                        waited.set()
                        break
                    time.sleep(0.05)
            time.sleep(0.6)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert locked.wait(10)
        yield
    finally:
        thread.join()
    assert waited.is_set(), f"nobody waited for {table}"


def _plan(conn: Connection) -> object:
    return collect_plan(conn, APPLICATION, datetime.now(UTC))


@pytest.mark.parametrize(
    ("look", "table"),
    [
        pytest.param(_plan, "lifecycle.event_table_policies", id="plan"),
        pytest.param(lambda conn: check_declarations(conn, APPLICATION), "lifecycle.kept_views", id="check"),
        pytest.param(enqueue, "data_deletion_requests", id="enqueue"),
        pytest.param(["access", "check"], "lifecycle.accepted_access", id="access check"),
        pytest.param(["erasure", "status"], "lifecycle.deletion_jobs", id="erasure status"),
        pytest.param(["consent", "status"], "consent_history", id="consent status"),
        pytest.param(["views"], "lifecycle.kept_views", id="views"),
    ],
)
def test_a_look_outlasts_the_roles_statement_timeout(
    server: Server, url: str, look: Callable[[Connection], object] | list[str], table: str
) -> None:
    with connect(url) as conn:
        person = Person("slow")
        add_account(conn, person)
        ask(conn, person)
    cut_statements_off(server, url)
    with locked_for_longer(server, url, table):
        if isinstance(look, list):
            result = RUNNER.invoke(app, look)
            assert result.exit_code == 0, result.output + result.stderr
        else:
            with connect(url) as conn:
                assert value(conn, "select current_setting('statement_timeout')") == CUT_OFF
                look(conn)


def test_an_asset_and_its_checks_outlast_it_too(server: Server, url: str) -> None:
    cut_statements_off(server, url)
    shown = access.bundle(APPLICATION)
    for outlasts in (*shown.assets, *shown.checks):
        with locked_for_longer(server, url, "lifecycle.accepted_access"):
            found: Any = outlasts(database=ApplicationDatabase(url=url))
            assert found if isinstance(found, dg.MaterializeResult) else list(found)
