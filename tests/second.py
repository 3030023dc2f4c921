"""The second application as tests use it: its declarations in the environment, its commands and its jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg
import pytest
from typer.testing import CliRunner

from lifecycle.declarations.loader import load_application
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import APPLICATION_VARIABLE, URL_VARIABLE
from sandbox.second.database import DECLARATIONS

SECOND: Final = load_application(DECLARATIONS)
RUNNER: Final = CliRunner()
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@contextmanager
def adopting(url: str, declarations: Path = DECLARATIONS) -> Iterator[None]:
    """Commands mean this database and these declarations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URL_VARIABLE, url)
        patch.setenv(APPLICATION_VARIABLE, str(declarations))
        yield


def call(url: str, words: str, *, code: int = 0, declarations: Path = DECLARATIONS) -> str:
    """What a command prints, in one line; it has to end with this code and without a traceback."""
    with adopting(url, declarations):
        result = RUNNER.invoke(app, words.split())
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def run_jobs(url: str, instance: dg.DagsterInstance, *jobs: str) -> None:
    """Jobs of Dagster's over this database, one after the other; each and its checks have to succeed."""
    definitions = build_definitions(SECOND, database=ApplicationDatabase(url=url))
    for job in jobs:
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, raise_on_error=False, run_config=QUIET
        )
        assert result.success, (job, [event.message for event in result.all_events if event.is_failure])
        checks = result.get_asset_check_evaluations()
        assert [check.check_name for check in checks if not check.passed] == [], job
