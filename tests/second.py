"""The second application as tests use it: its declarations in the environment, its commands and its jobs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from typer.testing import CliRunner

from lifecycle.archive.text import unpack
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import APPLICATION_VARIABLE, URL_VARIABLE
from sandbox.second.database import DECLARATIONS

SECOND: Final = load_application(DECLARATIONS)
RUNNER: Final = CliRunner()
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

FIRST_DAY: Final = (
    "convert_event_tables",
    "rotate_event_partitions",
    "refresh_derived_statistics",
    "refresh_analytics_hourly",
    "reconcile_statistics",
    "archive_OrderNote",
    "compare_access",
    "weekly_job_review",
)
# What no declaration lets go. Readings are kept for the shortest time.
THIS_MONTH: Final = "date_trunc('month', now())"
MOVED: Final = {
    "views": f'select v::text from shop."PageView" v where "viewedAt" >= {THIS_MONTH} - interval \'2 months\'',
    "till": 'select v::text from telemetry."PageView" v',
    "readings": f"select r::text from telemetry.reading r where day >= {THIS_MONTH} - interval '1 month'",
    "notes": 'select "id", "orderId", "writtenAt", "body" from shop."OrderNote"',
}
ARCHIVE: Final = 'shop."OrderNoteArchive"'
ARCHIVED: Final = 'select "id", "orderId", "writtenAt", "body", "body_gzip", "body_sha256" from {}'


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


def run_jobs(url: str, instance: dg.DagsterInstance, *jobs: str, declared: Application = SECOND) -> None:
    """Jobs of Dagster's over this database, one after the other; each and its checks have to succeed."""
    definitions = build_definitions(declared, database=ApplicationDatabase(url=url))
    for job in jobs:
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, raise_on_error=False, run_config=QUIET
        )
        assert result.success, (job, [event.message for event in result.all_events if event.is_failure])
        checks = result.get_asset_check_evaluations()
        assert [check.check_name for check in checks if not check.passed] == [], job


def everything_moved(conn: Connection, archive: str = ARCHIVE) -> dict[str, list[Any]]:
    """Every row of what is partitioned or archived, whole, wherever it stands."""
    conn.execute("set timezone = 'UTC'")
    found = {name: list(rows(conn, query)) for name, query in MOVED.items()}
    if value(conn, "select to_regclass(%s)", (archive,)):
        found["notes"] += [(*row[:3], unpack(*row[3:])) for row in rows(conn, ARCHIVED.format(archive))]
    return {name: sorted(each) for name, each in found.items()}
