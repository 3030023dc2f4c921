"""The demo from beginning to end."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.console import Console

from lifecycle.database import connect
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from lifecycle.errors import SandboxError
from lifecycle.migrating.migrate import upgrade
from orchestration.cli.plan_parts import collect_plan
from orchestration.cli.plan_report import print_plan
from orchestration.dagster_processes import HOST, ended_by_signals, require_free_port
from orchestration.definitions import build_definitions
from orchestration.demo.broken_view import play
from orchestration.demo.channel import read_channel
from orchestration.demo.cold import how_to_list, look_into_cold_months, running_cold_storage
from orchestration.demo.databases import (
    application_database,
    create_dagster_database,
    dagster_home,
    demo_folder,
    event_rows,
)
from orchestration.demo.erased import erase_somebody
from orchestration.demo.inventory import asset_states
from orchestration.demo.outcome import DemoReport
from orchestration.demo.person import serve_somebody
from orchestration.demo.progress import step
from orchestration.demo.report import print_report
from orchestration.demo.runs import Runner, past_ticks
from orchestration.demo.services import running_slack, serve
from orchestration.shipped import SANDBOX_APPLICATION
from resources.variables import UI_URL_VARIABLE, URL_VARIABLE
from sandbox.past_weeks import make_up_past_weeks
from sandbox.play import ASK, somebody_to_erase
from sandbox.server import Server

STOPPED: Final = 130
# What the timetable starts within a day, in an order in which each finds what it reads.
JOBS: Final = (
    "refresh_derived_statistics",
    "refresh_analytics_hourly",
    "refresh_account_segments",
    "delete_expired_vouchers",
    "run_daily_maintenance",
    "build_hot_query_indexes",
    "record_storage",
    "prune_dagster_storage",
    "compare_access",
    "check_declarations",
    "archive_chat_messages",
    # Old messages have moved by now: no figure has changed.
    "reconcile_statistics",
)
# What the review's chart shows.
PAST: Final = timedelta(weeks=8)


@dataclass(frozen=True)
class Demo:
    """The options of `lifecycle demo`; `environment` is passed on to Dagster's processes."""

    once: bool
    s3: bool
    data: Path | None
    scale: str
    port: int
    keep: Path | None
    binaries: Path | None
    environment: Mapping[str, str]


def demo_application() -> Application:
    """The shipped declarations, whatever the environment names: the sandbox holds their application."""
    return load_application(SANDBOX_APPLICATION)


def work(url: str, folder: Path, variables: Mapping[str, str], console: Console) -> DemoReport:
    """Migrate, convert, rotate, move old months into files, carry out a withdrawal, export and erase people, run every
    other job, break a view and mend it; what came of it.
    """
    started, application = datetime.now(UTC), demo_application()
    before = event_rows(url, application)
    with connect(url) as conn:
        print_plan(collect_plan(conn, application, started), console)
    with step(console, "migrate"):
        migration = upgrade(url, application)
    console.print(f"  {len(migration.changes)} changes; `lifecycle migrate` prints each")
    with dagster_home(folder, variables, console) as instance:
        runner = Runner(instance, console, application)
        runner.run("convert_event_tables")
        converted = event_rows(url, application)
        # Months can leave a table only once it has any, and views are prepared for it then.
        with step(console, "migrate again: views that read old months see them wherever they are"):
            upgrade(url, application)
        runner.run("rotate_event_partitions")
        after = event_rows(url, application)
        with connect(url) as conn:
            leaving = somebody_to_erase(conn)
        runner.run("move_cold_months")
        cold = look_into_cold_months(url, application, after)
        # What is cleared changes figures, which come later.
        person = serve_somebody(runner, url, folder)
        for job in JOBS:
            runner.run(job)
        erased = erase_somebody(runner, url, leaving)
        runs = list(runner.results)
        played = play(runner, variables)
        with step(console, "make up eight weeks of runs before today"):
            make_up_past_weeks(url, past_ticks(application, started, PAST))
        review = runner.run("weekly_job_review")
        runner.look()
        with connect(url) as conn:
            channel = read_channel(variables, conn)
        return DemoReport(
            application=application,
            before=before,
            converted=converted,
            after=after,
            runs=[*runs, review],
            assets=asset_states(build_definitions(application), instance, runner.results, started),
            play=played,
            person=person,
            cold=cold,
            erased=erased,
            channel=channel,
        )


def demonstrate(settings: Demo, folder: Path, server: Server, console: Console) -> int:
    """Everything that needs the running server; the exit code."""
    console.print(f"  PostgreSQL {server.version} on port {server.port}, files in {folder}", highlight=False)
    url, artificial = application_database(server, settings.data, settings.scale, datetime.now(UTC), console)
    with (
        running_slack(folder, settings.environment, console) as slack,
        running_cold_storage(settings.s3, folder, console) as cold,
    ):
        variables = {
            URL_VARIABLE: url,
            UI_URL_VARIABLE: f"http://{HOST}:{settings.port}",
            "DAGSTER_HOME": str(folder / "dagster_home"),
            "DAGSTER_PG_URL": create_dagster_database(server),
            **slack.variables,
            **cold,
        }
        report = work(url, folder, variables, console)
        print_report(report, artificial, console)
        if settings.once:
            return 1 if report.faults else 0
        console.print("\nTo see a person erased in the UI, as the job erase_personal_data, run in another terminal:")
        psql = shlex.quote(server.psql)
        console.print(f"{psql} '{url}' <<'SQL'{ASK.rstrip()};\nSQL", markup=False, highlight=False, soft_wrap=True)
        console.print(f"\nOld months are in {report.cold.place}. To list the files:", highlight=False, soft_wrap=True)
        console.print(how_to_list(cold), markup=False, highlight=False, soft_wrap=True)
        serve(settings.port, folder, {**settings.environment, **variables}, slack, console)
    return 0


@contextmanager
def running_server(settings: Demo, folder: Path, console: Console) -> Iterator[Server]:
    server = Server(folder / "postgresql", bin_dir=settings.binaries, durable=settings.keep is not None)
    with step(console, "start PostgreSQL"):
        server.start()
    try:
        yield server
    finally:
        with step(console, "stop PostgreSQL"):
            server.stop()


def run_demo(settings: Demo, console: Console) -> int:
    """Run the demo; the exit code: 0 when every asset and check did what it should, 130 when interrupted.

    Raises SandboxError when the server, the port or the data cannot be had.
    """
    if settings.data is not None and not settings.data.is_dir():
        raise SandboxError(f"no folder {settings.data}; name the one that holds the data sets with --data")
    if not settings.once:
        require_free_port(settings.port)
    try:
        with (
            ended_by_signals(),
            demo_folder(settings.keep) as folder,
            running_server(settings, folder, console) as server,
        ):
            return demonstrate(settings, folder, server, console)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return STOPPED
