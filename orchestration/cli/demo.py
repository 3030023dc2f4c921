"""`lifecycle demo`: the whole life cycle on a throwaway PostgreSQL."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestration.cli.session import binaries_folder, errors_as_messages, name_application
from orchestration.shipped import SANDBOX_APPLICATION


class Scale(StrEnum):
    """How many rows the demo makes up: tens of thousands, a million, ten million events."""

    small = "small"
    medium = "medium"
    large = "large"


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the tables; exit 0 if all went well.")] = False,
    s3: Annotated[bool, typer.Option("--s3", help="Old months go to an S3 server, not to a folder.")] = False,
    data: Annotated[Path | None, typer.Option(help="Load the real data sets of this folder.")] = None,
    scale: Annotated[Scale, typer.Option(help="How many rows to make up.")] = Scale.small,
    port: Annotated[int, typer.Option(help="Port of Dagster's UI.", min=1, max=65535)] = 3000,
    keep: Annotated[Path | None, typer.Option(help="Keep databases and logs in this folder.")] = None,
) -> None:
    """Run the whole life cycle on a throwaway PostgreSQL, then open Dagster's UI.

    When: to see everything before you connect a database of your own.
    """
    # The sandbox holds their application, whatever else the environment names.
    name_application(SANDBOX_APPLICATION)
    from orchestration.demo.run import Demo, run_demo

    settings = Demo(
        once=once,
        s3=s3,
        data=data,
        scale=scale.value,
        port=port,
        keep=keep,
        binaries=binaries_folder(),
        environment=dict(os.environ),
    )
    with errors_as_messages():
        raise typer.Exit(run_demo(settings, Console()))
