"""Cold months in Dagster: the job, its schedule with a run for each month, what a run tells, and the commands."""

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from lifecycle.database import connect, value
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.cold_storage import ColdMonths
from resources.postgres import ApplicationDatabase
from tests.cold import COLD, MakeColdDb, hot_ids, month, objects
from tests.partitioned import BEHAVIOR, insert_events

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.cold_fixtures",)

ASSET = dg.AssetKey(["cold_months", "user_behavior_events"])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def url(make_cold_db: MakeColdDb) -> str:
    """A database in which three months of the event table are old enough to leave."""
    made = make_cold_db()
    return made


def definitions(url: str, folder: Path) -> dg.Definitions:
    return build_definitions(COLD, database=ApplicationDatabase(url=url), cold_storage=ColdMonths(url=folder.as_uri()))


def run(
    url: str, folder: Path, instance: dg.DagsterInstance, request: dg.RunRequest | None = None
) -> dg.ExecuteInProcessResult:
    job = definitions(url, folder).resolve_job_def("move_cold_months")
    config = dict(request.run_config) if request else {}
    return job.execute_in_process(instance=instance, raise_on_error=False, run_config={**QUIET, **config})


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (made,) = result.asset_materializations_for_node("cold_months__user_behavior_events")
    return {name: each.value for name, each in made.metadata.items()}


def test_each_month_has_a_run_of_its_own_and_one_sees_to_the_rest(
    url: str, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    folder = tmp_path / "store"
    schedule = definitions(url, folder).resolve_schedule_def("move_cold_months_daily")
    context = dg.build_schedule_context(instance=instance, resources={"database": ApplicationDatabase(url=url)})
    requests = list(schedule.evaluate_tick(context).run_requests or ())
    asked = [request.run_config.get("ops", {}).get("cold_months__user_behavior_events") for request in requests]
    assert asked == [{"config": {"month": int(f"{month(back):%Y%m}")}} for back in (5, 4, 3)] + [None]
    with connect(url) as conn:
        before = len(hot_ids(conn))
        first = run(url, folder, instance, requests[0])
        assert first.success
        assert metadata(first)["months_moved"] == 1
        assert len(objects(folder)) == 1
        # By hand, without arguments: everything that is due.
        everything = run(url, folder, instance)
        assert everything.success
        told = metadata(everything)
        assert (told["months_moved"], told["months"], told["due"]) == (2, 3, 0)
        assert told["bytes_before"] > told["cold_bytes"] > 0  # type: ignore[operator]
        assert "| 2 |" not in json.dumps(str(told["picture"]))
        assert all(check.passed for check in everything.get_asset_check_evaluations())
        assert len(hot_ids(conn)) == before - 3


def test_without_a_store_a_run_says_what_to_set(url: str, instance: dg.DagsterInstance) -> None:
    job = build_definitions(COLD, database=ApplicationDatabase(url=url)).resolve_job_def("move_cold_months")
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "LIFECYCLE_COLD_URL is not set" in str(failure.event_specific_data)


def test_commands_tell_of_months_bring_one_back_and_find_a_damaged_file(
    url: str, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    with connect(url) as conn:
        insert_events(conn, BEHAVIOR, month(3) + timedelta(days=2), session="many", rows=20)
        before = sorted(hot_ids(conn))
    assert run(url, folder, instance).success
    monkeypatch.setattr("orchestration.cli.cold.declared_application", lambda: COLD)
    monkeypatch.setenv("LIFECYCLE_DATABASE_URL", url)
    runner = CliRunner(env={"COLUMNS": "80"})
    assert runner.invoke(app, ["cold", "verify"]).exit_code == 2
    monkeypatch.setenv("LIFECYCLE_COLD_URL", folder.as_uri())
    status = runner.invoke(app, ["cold", "status"])
    assert status.exit_code == 0, status.output
    assert f"{month(3):%Y-%m}" in status.output
    assert max(map(len, status.output.splitlines())) <= 80
    assert "3 files with 23 rows looked at, 0 differ." in runner.invoke(app, ["cold", "verify"]).output
    damaged = folder / objects(folder)[0]
    damaged.chmod(0o600)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    verified = runner.invoke(app, ["cold", "verify"])
    assert verified.exit_code == 1
    assert "3 files with 23 rows looked at, 1 differ." in verified.output
    refused = runner.invoke(app, ["cold", "restore", "2026-13"])
    assert (refused.exit_code, "is no month" in refused.output) == (1, True)
    restored = runner.invoke(app, ["cold", "restore", f"{month(3):%Y-%m}"])
    assert restored.exit_code == 0, restored.output
    assert "21 rows are back" in restored.output
    with connect(url) as conn:
        assert set(hot_ids(conn)) < set(before)
        assert value(conn, "select count(*) from user_behavior_events where session_id = 'many'") == 20
