"""`lifecycle home` and `lifecycle serve`: what Dagster needs on one machine, and Dagster itself."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from orchestration.cli.session import (
    declared_application,
    errors_as_messages,
    passed_on,
    require_prepared_database,
    required_home,
    required_storage,
)

LOGS: Final = "logs"


def prepare_home(folder: Path) -> str:
    """Put this release's dagster.yaml into `folder` where there is none; a line that says what was done.

    One that is there is somebody's own and stays.
    """
    from orchestration.shipped import DAGSTER_YAML

    file, text = folder / DAGSTER_YAML.name, DAGSTER_YAML.read_text(encoding="utf-8")
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return f"{file}: written"
    if file.read_text(encoding="utf-8") != text:
        return f"{file}: differs from that of this release and stays as it is. Compare it with {DAGSTER_YAML}"
    return f"{file}: as in this release"


def home() -> None:
    """Write dagster.yaml into the folder that DAGSTER_HOME names, unless there is one.

    When: before the first run; after an update, to hear whether this release has another one.
    """
    folder = required_home()
    with errors_as_messages():
        typer.echo(prepare_home(folder))


def serve(
    port: Annotated[int, typer.Option(help="Port of Dagster's UI.", min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="Address that the UI listens on. It has no login.")] = "127.0.0.1",
) -> None:
    """Run Dagster's daemon and UI until Ctrl-C, with every schedule and sensor on.

    When: on one machine without a process manager, and in a container. `deploy/systemd` has units for a server.
    """
    folder = required_home()
    required_storage()
    # Whatever a run would find missing is told before anything starts.
    with errors_as_messages():
        declared_application()
    require_prepared_database("serve")
    from orchestration.dagster_processes import ended_by_signals, running_dagster, watch

    console, logs = Console(highlight=False, soft_wrap=True), folder / LOGS
    with errors_as_messages():
        console.print(prepare_home(folder))
        logs.mkdir(exist_ok=True)
        try:
            with ended_by_signals(), running_dagster(port, logs, passed_on(), host) as dagster:
                console.print(
                    f"Dagster's UI is at [bold]{dagster.url}[/], schedules and sensors are running; logs in {logs}.\n"
                    "Ctrl-C stops both."
                )
                watch(dagster.processes, logs)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
