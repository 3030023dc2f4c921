"""Runs that the demo makes in its own process stand where Dagster's UI looks for them."""

from io import StringIO
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from orchestration.definitions import defs
from orchestration.demo import runs
from orchestration.demo.runs import Runner
from tests.declared import APPLICATION

LOCATION = "orchestration.definitions"


@dg.job
def nothing() -> None:
    """Ends well."""


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    made = dg.Definitions(jobs=[nothing])
    monkeypatch.setattr(runs, "build_definitions", lambda *_args, **_named: made)
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    return Runner(instance, Console(file=StringIO()), APPLICATION)


def test_a_run_is_found_by_its_job_and_its_code_location(runner: Runner) -> None:
    run_id = runner.run("nothing").run_id
    repository = defs.get_repository_def().name
    for tag, expected in {
        "dagster/code_location": LOCATION,
        ".dagster/repository": f"{repository}@{LOCATION}",
    }.items():
        (found,) = runner.instance.get_runs(dg.RunsFilter(job_name="nothing", tags={tag: expected}))
        assert (found.run_id, found.tags[tag]) == (run_id, expected)
        # The timeline of Overview leaves out a run without it.
        assert found.remote_job_origin is not None
        assert found.remote_job_origin.repository_origin.get_label() == f"{repository}@{LOCATION}"
        assert found.status is dg.DagsterRunStatus.SUCCESS
