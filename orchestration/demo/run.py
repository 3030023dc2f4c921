"""The demo from beginning to end."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dagster as dg
from rich.console import Console

from lifecycle.errors import SandboxError
from lifecycle.migrate import upgrade
from orchestration.definitions import build_definitions
from orchestration.demo.databases import (
    application_database,
    create_dagster_database,
    dagster_home,
    demo_folder,
    event_rows,
)
from orchestration.demo.progress import progress_logger, step
from orchestration.demo.report import DemoReport, interrupted, print_report
from orchestration.demo.services import PROJECT, require_free_port, serve
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from sandbox.server import Server

STOPPED: Final = 130


@dataclass(frozen=True)
class Demo:
    """The options of `lifecycle demo`; `environment` is passed on to Dagster's processes."""

    once: bool
    data: Path | None
    scale: str
    port: int
    keep: Path | None
    binaries: Path | None
    environment: Mapping[str, str]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does: everything it started is stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_job(name: str, url: str, instance: dg.DagsterInstance, console: Console) -> dg.ExecuteInProcessResult:
    """Run one job in this process on the instance that the UI shows; KeyboardInterrupt when it was interrupted."""
    with step(console, f"run the job {name}") as progress:
        definitions = build_definitions(
            loggers={"console": progress_logger(progress)}, database=ApplicationDatabase(url=url)
        )
        result = definitions.resolve_job_def(name).execute_in_process(
            instance=instance, raise_on_error=False, run_config={"loggers": {"console": {"config": {}}}}
        )
        if interrupted(result):
            raise KeyboardInterrupt
    return result


def work(url: str, folder: Path, variables: Mapping[str, str], console: Console) -> DemoReport:
    """Migrate, convert, rotate and check; what came of it."""
    before = event_rows(url)
    with step(console, "migrate"):
        upgrade(url)
    with dagster_home(folder, variables, console) as instance:
        conversion = run_job("convert_event_tables", url, instance, console)
        converted = event_rows(url)
        rotation = run_job("rotate_event_partitions", url, instance, console)
    return DemoReport(before, converted, event_rows(url), conversion, rotation)


def demonstrate(settings: Demo, folder: Path, server: Server, console: Console) -> int:
    """Everything that needs the running server; the exit code."""
    console.print(f"  PostgreSQL {server.version} on port {server.port}, files in {folder}", highlight=False)
    url, artificial = application_database(server, settings.data, settings.scale, datetime.now(UTC), console)
    variables = {
        URL_VARIABLE: url,
        "DAGSTER_HOME": str(folder / "dagster_home"),
        "DAGSTER_PG_URL": create_dagster_database(server),
    }
    report = work(url, folder, variables, console)
    print_report(report, artificial, console)
    if settings.once:
        return 0 if report.succeeded else 1
    serve(settings.port, folder, {**settings.environment, **variables}, console)
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
    if not (PROJECT / "dagster.yaml").exists():
        raise SandboxError(f"no dagster.yaml in {PROJECT}: the demo runs from a clone of the repository")
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
