"""Dagster's wiring: it loads anywhere, keeps its timetable, and its assets do their work on a real database."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from lifecycle.checking.relations import live_relations, relations_text
from lifecycle.database import connect
from lifecycle.declarations.application import FILES, Application
from lifecycle.declarations.loader import DEFAULT_FOLDER, RELATIONS_FILE
from lifecycle.errors import BusyError, RefusedError
from lifecycle.ledger.outcomes import JobOutcome, record_job_outcome
from orchestration.definitions import build_definitions, defs
from orchestration.executor import living_in_process_executor
from resources.postgres import ApplicationDatabase, errors_for_dagster, retried_when_busy
from resources.variables import APPLICATION_VARIABLE, URL_VARIABLE
from sensors.run_outcomes import run_outcomes
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES

pytestmark = pytest.mark.one_server

GROUPS = {
    *("application", "event_partitions", "materialized_views", "statistics", "segments", "operations"),
    *("chat_archive", "cold_months", "retention", "erasure", "access", "indexes"),
}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LOADS = """
import socket
def refuse(*_): raise AssertionError("loading definitions opened a connection")
socket.socket.connect = refuse
from orchestration.definitions import defs
from dagster import Definitions
Definitions.validate_loadable(defs)
"""


def run(job: str, url: str, instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(database=ApplicationDatabase(url=url))
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, raise_on_error=False, run_config={**QUIET, **config}
    )


def audit_rows(url: str) -> list[tuple[str, str, dict[str, object]]]:
    with connect(url) as conn:
        return conn.execute(
            "select entity_id, event_type, payload from audit_events where payload ? 'run_id' order by created_at"
        ).fetchall()


def test_load_in_a_fresh_interpreter_without_secrets_under_warnings_as_errors(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-W", "error", "-c", LOADS], cwd=tmp_path, env=environment, check=True)
    # Three seconds are the aim on a quiet machine; this only catches work that does not belong there.
    assert time.perf_counter() - started < 15


def test_every_job_runs_in_its_own_process_and_every_asset_is_described() -> None:
    for job in defs.resolve_all_job_defs():
        assert job.executor_def is living_in_process_executor, job.name
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.group_name in GROUPS
        assert spec.kinds & {"postgres", "dagster"}


def test_nothing_declared_shows_nothing_but_the_ground() -> None:
    empty = build_definitions(Application())
    dg.Definitions.validate_loadable(empty)
    made = {spec.key.path[-1] for spec in empty.resolve_all_asset_specs()}
    assert made == {"dagster_storage", "declarations", "storage_history", "weekly_job_review"}
    jobs = {"check_declarations", "prune_dagster_storage", "record_storage", "weekly_job_review"}
    assert {job.name for job in empty.jobs or ()} == jobs
    assert "deletion_requests" not in {sensor.name for sensor in empty.sensors or ()}


@pytest.mark.parametrize("file", sorted({*FILES} - {"operations"}))
def test_any_file_alone_and_all_but_any_file_load(file: str) -> None:
    field = next(name for name, held in Application.model_fields.items() if file in (held.alias, name))
    alone = Application().model_copy(update={field: getattr(APPLICATION, field)})
    # Operations name jobs, which may be gone with the file.
    nothing = Application()
    without = APPLICATION.model_copy(update={field: getattr(nothing, field), "operations": nothing.operations})
    for application in (alone, without):
        dg.Definitions.validate_loadable(build_definitions(application))


def test_the_environment_names_the_folder_of_declarations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(APPLICATION_VARIABLE, str(tmp_path))
    (tmp_path / "event_tables.yaml").write_text("app.visits: {time: at, keep: 1 year}\n")
    jobs = {job.name for job in build_definitions().jobs or ()}
    assert "rotate_event_partitions" in jobs
    assert "archive_chat_messages" not in jobs


def test_the_columns_as_last_seen_are_those_of_the_application(empty_application_db: str) -> None:
    with connect(empty_application_db) as conn:
        text = relations_text(live_relations(conn, APPLICATION))
    assert text == (DEFAULT_FOLDER / RELATIONS_FILE).read_text(encoding="utf-8"), "run: lifecycle schema"


def test_lineage_starts_at_the_application() -> None:
    graph = defs.resolve_asset_graph()
    for table in EVENT_TABLES:
        source = dg.AssetKey(["public", table.name])
        assert graph.get(dg.AssetKey(["event_partitions", table.name])).parent_keys == {source}
        assert not graph.get(source).is_materializable
    views = graph.get(dg.AssetKey(["public", "user_retention"]))
    assert dg.AssetKey(["public", "user_behavior_events"]) in views.parent_keys


def test_outcomes_wait_until_the_ledger_answers(
    instance: dg.DagsterInstance, make_application_db: MakeApplicationDb
) -> None:
    url = make_application_db(rows=False, migrated=True)
    run("run_daily_maintenance", url, instance)
    away = ApplicationDatabase(url="postgresql://nobody:x@127.0.0.1:1/none")
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        assert isinstance(run_outcomes(context, database=away), dg.SkipReason)
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        run_outcomes(context, database=ApplicationDatabase(url=url))
    assert len(audit_rows(url)) == 1


def test_one_row_per_run(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        assert record_job_outcome(
            conn, JobOutcome("a_job", "run-1", 12, "first\nDETAIL: (alice@example.com)", "a_step")
        )
        assert not record_job_outcome(conn, JobOutcome("a_job", "run-1", 12))
        assert record_job_outcome(conn, JobOutcome("a_job", "run-2", None))
    failure, success = audit_rows(url)
    assert failure[1:] == ("job_failure", {"run_id": "run-1", "duration_ms": 12, "error": "first", "step": "a_step"})
    assert success[1:] == ("job_success", {"run_id": "run-2", "duration_ms": None})


def test_a_missing_url_names_the_variable_and_shows_an_example(instance: dg.DagsterInstance) -> None:
    result = run("run_daily_maintenance", "", instance)
    failure = result.failure_data_for_node("maintain")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert f"export {URL_VARIABLE}=postgresql://" in str(failure.user_failure_data.description)


def test_errors_are_sorted_by_what_a_retry_can_cure(empty_application_db: str) -> None:
    with pytest.raises(BusyError), errors_for_dagster():
        raise BusyError("a lock")
    with pytest.raises(BusyError), errors_for_dagster():
        raise psycopg.OperationalError("server closed the connection unexpectedly")
    with pytest.raises(dg.RetryRequested) as retried, retried_when_busy():
        raise BusyError("a lock")
    assert isinstance(retried.value.__cause__, BusyError)
    with pytest.raises(dg.Failure) as refused, errors_for_dagster():
        raise RefusedError("not possible here")
    assert refused.value.allow_retries is False
    twice = "create temp table guests (email text primary key) on commit drop; insert into guests values (%s), (%s)"
    with pytest.raises(dg.Failure) as broken, ApplicationDatabase(url=empty_application_db).connect() as conn:
        psycopg.ClientCursor(conn).execute(twice, ["alice@example.com"] * 2)
    # PostgreSQL quotes the row in its DETAIL line; Dagster's storage must not see it.
    assert "guests_pkey" in str(broken.value.description)
    assert "alice" not in str(broken.value.description)
    assert broken.value.__suppress_context__
