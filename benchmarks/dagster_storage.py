"""What the hourly refresh of kept views leaves in Dagster's storage: now, and as Dagster stores it alone.

    python -m benchmarks.dagster_storage --bin-dir /usr/lib/postgresql/15/bin

Alone: metadata with the step's output and with the materialization, each picture as it is drawn. Before each run some
events come in, so that the views change, which is the worst case; a quiet hour stores no picture. Then what is left
after the job prune_dagster_storage, as if every run but the last had ended long ago.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final
from unittest.mock import patch

import dagster as dg
import psycopg
import typer
from matplotlib.figure import Figure
from sqlalchemy import make_url

from benchmarks.data import benchmark_server, describe
from benchmarks.report import Report, write_json
from lifecycle.database import connect
from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.migrating.migrate import upgrade
from orchestration.definitions import build_definitions
from orchestration.demo.databases import create_dagster_database
from orchestration.demo.services import PROJECT
from resources.dagster_storage import Ours, prune
from resources.postgres import ApplicationDatabase
from sandbox.application import create_application_database
from sandbox.generate import SCALES, generate

JOB: Final = "refresh_derived_statistics"
RUNS_A_DAY: Final = 24
QUIET: Final[dict[str, Any]] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
NEW_EVENTS: Final = """
insert into public.user_behavior_events
select (jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid(), 'event_timestamp', now()))).*
  from public.user_behavior_events e limit 50
"""
STORED: Final = """
select coalesce((select sum(length(event)) from event_logs where run_id = any(%(runs)s)), 0)
     + coalesce((select sum(length(evaluation_event)) from asset_check_executions where run_id = any(%(runs)s)), 0)
"""


@dataclass(frozen=True)
class Stored:
    """Bytes of text that one run leaves behind, on average, and a day of runs."""

    name: str
    bytes_a_run: int

    @property
    def bytes_a_day(self) -> int:
        return self.bytes_a_run * RUNS_A_DAY


def _as_drawn(figure: Figure) -> bytes:
    target = BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


@contextmanager
def _as_dagster_alone() -> Iterator[None]:
    with (
        patch("assets.statistics.stored_once", lambda _context, result: result),
        patch("assets.statistics.last_picture", lambda *_: None),
        patch("assets.pictures.png", _as_drawn),
    ):
        yield


def _measure(name: str, url: str, storage: str, instance: dg.DagsterInstance, runs: int) -> tuple[Stored, list[str]]:
    job = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def(JOB)
    made = []
    for _ in range(runs):
        with connect(url) as conn:
            conn.execute(NEW_EVENTS)
        result = job.execute_in_process(instance=instance, run_config=QUIET)
        made.append(result.run_id)
    with psycopg.connect(storage) as conn:
        stored = int(conn.execute(STORED, {"runs": made}).fetchall()[0][0])
    return Stored(name, stored // runs), made


def _pruned(storage: str, instance: dg.DagsterInstance, runs: list[str]) -> tuple[int, int]:
    """Bytes of these runs before and after pruning, when all but the newest had ended a month ago."""
    keep = timedelta(days=30)
    with psycopg.connect(storage, autocommit=True) as conn:
        before = int(conn.execute(STORED, {"runs": runs}).fetchall()[0][0])
        conn.execute(
            "update runs set update_timestamp = update_timestamp - %s where run_id = any(%s)",
            (keep + timedelta(days=1), runs[:-1]),
        )
        prune(instance, Ours(jobs={JOB}), keep)
        return before, int(conn.execute(STORED, {"runs": runs}).fetchall()[0][0])


def main(
    scale: Annotated[str, typer.Option(help=f"Sample rows: {', '.join(SCALES)}.")] = "small",
    runs: Annotated[int, typer.Option(help="Runs of each kind.")] = 3,
    bin_dir: Annotated[
        Path | None, typer.Option(help="Folder of postgres and initdb; default: the first found.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures here too.")] = None,
) -> None:
    """Measure bytes a day both ways, print a table and the ratio."""
    report = Report()
    with ExitStack() as stack:
        server = stack.enter_context(benchmark_server(bin_dir))
        url = create_application_database(server, "dagster_storage")
        report.step(f"filling the database, scale {scale}")
        generate(url, scale, now=datetime.now(UTC), progress=lambda _table, _rows: None, skewed_clocks=False)
        upgrade(url, load_application(DEFAULT_FOLDER))
        title = f"Dagster's storage, sample rows {scale}, {describe(url)}"
        home = stack.enter_context(TemporaryDirectory(prefix="lifecycle-benchmark-dagster-"))
        shutil.copy(PROJECT / "dagster.yaml", home)
        os.environ["DAGSTER_PG_URL"] = dagster_url = create_dagster_database(server)
        storage = make_url(dagster_url).set(drivername="postgresql")
        plain = storage.render_as_string(hide_password=False)
        with dg.DagsterInstance.from_config(home) as instance:
            report.step(f"{runs} runs as Dagster stores them alone")
            with _as_dagster_alone():
                alone, _ = _measure("Dagster alone", url, plain, instance, runs)
            report.step(f"{runs} runs as they are stored now")
            now, made = _measure("stored once, when it changes", url, plain, instance, runs)
            before, after = _pruned(plain, instance, made)
        report.step("done")
    lines = [
        (each.name, f"{each.bytes_a_run / 1e3:,.0f} kB", f"{each.bytes_a_day / 1e6:,.1f} MB") for each in (alone, now)
    ]
    report.table(title, ("", "a run", "a day"), lines)
    report.line(f"ratio {now.bytes_a_run / alone.bytes_a_run:.2f}; pruning left {after / before:.2f} of {runs} runs")
    report.aim("at most 0.7 of what Dagster stores alone", now.bytes_a_run <= 0.7 * alone.bytes_a_run)
    if json:
        pruned = {"name": "pruned", "before": before, "after": after}
        write_json(json, title, [alone, now, pruned])


if __name__ == "__main__":
    typer.run(main)
