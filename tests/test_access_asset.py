"""Access as an asset, in the plan and on the command line: what they print of a healthy and of a tampered database."""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import psycopg
import pytest
from typer.testing import CliRunner, Result

from assets.access import KEY
from lifecycle.database import connect
from lifecycle.migrating.migrate import upgrade
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION

pytestmark = pytest.mark.one_server
Command = Callable[..., Result]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
HEALTHY = {
    "access_is_as_declared": True,
    "nothing_of_ours_is_exposed": True,
    "application_access_is_accepted": True,
    "no_table_is_open_to_anybody": True,
}


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def run(url: str, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    definition = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def("compare_access")
    return definition.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)


def metadata_of(instance: dg.DagsterInstance) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)


def markdown(metadata: dict[str, Any], name: str) -> dict[str, dict[str, str]]:
    """The lines of a table in Markdown by their first cell."""
    lines = [line.strip("|").split("|") for line in str(metadata[name].value).splitlines() if line.startswith("|")]
    heading, _, *cells = [[cell.strip().strip("`") for cell in line] for line in lines]
    return {line[0]: dict(zip(heading, line, strict=True)) for line in cells}


def test_a_run_shows_the_matrix_and_its_checks_find_what_differs(url: str, instance: dg.DagsterInstance) -> None:
    result = run(url, instance)
    assert result.success
    found = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert {name: evaluation.passed for name, evaluation in found.items()} == HEALTHY
    metadata = metadata_of(instance)
    matrix = markdown(metadata, "matrix")
    assert matrix["audit_events"]["ops"] == "S the ledger"
    assert matrix["vendors"]["authenticated"].startswith("S own vendors")
    assert matrix["session_replay_events"]["anon"] == "I of any visit"
    assert matrix["is_ops_role()"]["ops"] == "X"
    assert matrix["vendors"]["service_role"] == "all"
    assert "TRUNCATE" in markdown(metadata, "closed_by_lifecycle_migrate")["public.vendors"]["was open"]
    assert metadata["differences"].value == 0

    with connect(url) as conn:
        conn.execute("grant delete on vendors to authenticated")
        conn.execute("grant usage on schema lifecycle to anon")
        conn.execute("create table diary (body text)")
    result = run(url, instance)
    assert result.success
    found = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert {name for name, evaluation in found.items() if evaluation.passed} == set()
    assert {name: evaluation.severity for name, evaluation in found.items()} == {
        "access_is_as_declared": dg.AssetCheckSeverity.ERROR,
        "nothing_of_ours_is_exposed": dg.AssetCheckSeverity.ERROR,
        "application_access_is_accepted": dg.AssetCheckSeverity.WARN,
        "no_table_is_open_to_anybody": dg.AssetCheckSeverity.WARN,
    }
    assert "public.vendors: authenticated may DELETE" in str(found["access_is_as_declared"].description)
    assert "schema lifecycle: anon has USAGE" in str(found["nothing_of_ours_is_exposed"].description)
    assert "diary" in str(found["application_access_is_accepted"].description)
    told = str(found["no_table_is_open_to_anybody"].description)
    assert "public.diary (anon may SELECT, INSERT, UPDATE, DELETE, every row)" in told
    metadata = metadata_of(instance)
    assert (metadata["differences"].value, metadata["exposed_of_ours"].value, metadata["undeclared"].value) == (1, 1, 1)
    assert markdown(metadata, "matrix")["vendors"]["authenticated"].endswith("D not declared")

    upgrade(url, APPLICATION)
    result = run(url, instance)
    found = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert {name for name, evaluation in found.items() if evaluation.passed} == {
        "access_is_as_declared",
        "nothing_of_ours_is_exposed",
    }


@pytest.fixture
def lifecycle(url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return call


def test_the_matrix_is_read_at_80_columns(lifecycle: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Who may do what with which rows" in lifecycle("access", "matrix").stdout
    monkeypatch.setenv("COLUMNS", "80")
    printed = lifecycle("access", "matrix").stdout
    found = {row["object"]: row for row in json.loads(lifecycle("access", "matrix", "--json").stdout)}
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert max(map(len, printed.splitlines())) <= 80
    for name, row in found.items():
        # A name stands whole in one line, also the longest function with its arguments.
        line = next(line for line in lines.values() if f"{line} ".startswith(f"{name.removeprefix('public.')} "))
        assert (" - " in line) == ("" in {row["access"][role] for role in ("anon", "authenticated", "ops")}), line
    note = lines["audit_events"].split()[4].removeprefix("S")
    assert f"{note}  the ledger" in printed
    for heading in ("anon", "authenticated", "ops", "service"):
        assert heading in lines["object"].split()
    assert found["public.voucher_redemptions"]["guarded"] == "row-level security"
    assert found["public.audit_events"]["access"]["ops"] == "SELECT the ledger"


@pytest.mark.every_version
def test_check_ends_with_1_until_it_is_cured_or_accepted(url: str, lifecycle: Command) -> None:
    assert "Everything is as declared and as accepted." in lifecycle("access", "check").stdout
    with connect(url) as conn:
        conn.execute("grant delete on vendors to authenticated")
        conn.execute("create policy everybody on quiz_results for select using (true)")
    printed = lifecycle("access", "check", code=1).stdout
    assert "authenticated may DELETE" in printed
    assert 'policy "everybody" is new' in printed
    document = json.loads(lifecycle("access", "check", "--json", code=1).stdout)
    assert [found["object"] for found in document["differences"]] == ["public.vendors"]
    assert [found["object"] for found in document["drifts"]] == ["public.quiz_results"]
    # Nothing was changed by looking, and acceptance is of the application's own only.
    lifecycle("access", "accept")
    document = json.loads(lifecycle("access", "check", "--json", code=1).stdout)
    assert (len(document["differences"]), document["drifts"]) == (1, [])
    upgrade(url, APPLICATION)
    lifecycle("access", "check")


def test_the_plan_says_what_migrate_would_change(url: str, lifecycle: Command) -> None:
    assert json.loads(lifecycle("plan", "--json").stdout)["access"] == []
    with connect(url) as conn:
        conn.execute("alter table search_queries disable row level security")
    assert "row-level security is off" in lifecycle("plan", "access").stdout
    (difference,) = json.loads(lifecycle("plan", "--json").stdout)["access"]
    assert difference["object"] == "public.search_queries"


def test_the_plan_names_who_would_see_nothing_any_more(server: Server, url: str, lifecycle: Command) -> None:
    with psycopg.connect(server.url(url.rpartition("/")[2], user=SUPERUSER), autocommit=True) as admin:
        admin.execute("create role reports; create role warehouse bypassrls")
        try:
            admin.execute("grant select on search_queries, vendors to reports, warehouse")
            admin.execute("alter table search_queries disable row level security")
            (difference,) = json.loads(lifecycle("plan", "--json").stdout)["access"]
            (told,) = difference["told"]
            assert "reports sees no row" in told
            assert "warehouse" not in told
        finally:
            admin.execute("drop owned by reports, warehouse; drop role reports, warehouse")


def test_a_database_that_was_never_migrated(
    make_application_db: MakeApplicationDb, lifecycle: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, make_application_db(rows=False))
    planned = {found["object"] for found in json.loads(lifecycle("plan", "--json").stdout)["access"]}
    assert {"public.vendors", "public.session_replay_events"} <= planned
    assert "\nvendors " in lifecycle("access", "matrix").stdout
    for command in ("check", "accept"):
        assert "lifecycle migrate" in lifecycle("access", command, code=1).output
