"""`lifecycle health`: whether everything that should run does."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestration.cli.session import required_home, required_storage, required_url


def health(
    ui: Annotated[str, typer.Option(help="Where the web server listens; '' leaves it out.")] = "http://127.0.0.1:3000",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Say whether both databases, the daemon, the sensors and the UI work; exit 1 when one does not. Changes nothing.

    When: from a monitor, as the health check of a container, after an update.
    """
    url, storage, home = required_url(), required_storage(), required_home()
    from orchestration.health import look

    parts = look(url, storage, home, ui, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps([asdict(part) for part in parts], indent=2))
    else:
        for part in parts:
            typer.echo(f"{'ok ' if part.healthy else 'ILL'}  {part.name}: {part.told}")
    if not all(part.healthy for part in parts):
        raise typer.Exit(1)
