"""The asset of consent: one run carries out, describes without personal data, and checks; and the commands."""

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets.consent import KEY
from lifecycle.consent.apply import rows_against_consent
from lifecycle.database import connect, rows
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.erasure_requests import everybody_named

pytestmark = pytest.mark.one_server

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
CHECK = "no_rows_against_consent"


def run(url: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def("apply_consents")
    return job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)


def test_a_run_carries_out_describes_and_checks(
    make_application_db: MakeApplicationDb, instance: dg.DagsterInstance
) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        names = everybody_named(conn)
        held = sum(each.rows for each in rows_against_consent(conn))
        assert held > 0
        result = run(url, instance)
        assert result.success
        assert rows_against_consent(conn) == ()
    assert [(found.check_name, found.passed) for found in result.get_asset_check_evaluations()] == [(CHECK, True)]
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["rows_cleared"].value == held
    told = str(result.all_events) + str(metadata)
    assert [name for name in names if name in told] == []
    again = run(url, instance)
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    assert again.success
    assert event.asset_materialization.metadata["rows_cleared"].value == 0


def test_rows_against_consent_turn_the_check_red(
    make_application_db: MakeApplicationDb, instance: dg.DagsterInstance
) -> None:
    definitions = build_definitions(database=ApplicationDatabase(url=make_application_db(migrated=True)))
    checks = dg.AssetSelection.checks_for_assets(KEY)
    job = dg.define_asset_job("only_checks", selection=checks)
    merged = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    result = merged.resolve_job_def("only_checks").execute_in_process(
        instance=instance, raise_on_error=False, run_config=QUIET
    )
    (found,) = result.get_asset_check_evaluations()
    assert not found.passed
    assert "rows of public.search_queries (analytics)" in str(found.description)


def test_a_failure_fails_the_run_and_is_told_once(
    make_application_db: MakeApplicationDb, instance: dg.DagsterInstance
) -> None:
    url = make_application_db(migrated=True)
    with connect(url) as conn:
        conn.execute("alter table search_queries add constraint odd check (account_id is not null) not valid")
        assert not run(url, instance).success
        assert rows(conn, "select job, cause from lifecycle.open_problems") == [("apply_consents", "analytics")]


def test_nothing_declared_shows_nothing() -> None:
    for missing in ("consent", "personal_data"):
        # Operations name jobs, which are gone with the file.
        declared = APPLICATION.model_copy(update={missing: None, "operations": type(APPLICATION.operations)()})
        definitions = build_definitions(declared)
        assert "apply_consents" not in {job.name for job in definitions.jobs or ()}
        assert KEY not in {spec.key for spec in definitions.resolve_all_asset_specs()}


def test_the_commands(make_application_db: MakeApplicationDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, make_application_db(migrated=True))
    before = CliRunner().invoke(app, ["consent", "status"])
    assert before.exit_code == 0, before.output
    assert "analytics: " in before.output
    assert '"purpose": "analytics"' in CliRunner().invoke(app, ["consent", "status", "--json"]).output
    done = CliRunner().invoke(app, ["consent", "apply"])
    assert done.exit_code == 0, done.output
    assert "rows of public.search_queries cleared" in done.output
    assert "analytics: withdrawn by " in done.output
    assert CliRunner().invoke(app, ["consent", "status"]).output == "No row stands against consent.\n"
