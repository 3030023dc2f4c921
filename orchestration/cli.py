"""The command `lifecycle`: migrate, plan, demo, access, chat, erasure."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import DBAPIError

from lifecycle.errors import LifecycleError
from orchestration.access_commands import access
from orchestration.chat_commands import chat
from orchestration.erasure_commands import erasure
from resources.variables import BINARIES_VARIABLE, MISSING_URL, URL_VARIABLE

app = typer.Typer(
    name="lifecycle",
    help="Partition, rotate and check the event tables of a PostgreSQL application.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(access, name="access")
app.add_typer(chat, name="chat")
app.add_typer(erasure, name="erasure")
errors = Console(stderr=True)


class Scale(StrEnum):
    """How many rows the demo makes up: tens of thousands, a million, ten million events."""

    small = "small"
    medium = "medium"
    large = "large"


def required_url() -> str:
    """The application's database; ends with exit code 2 when the variable is not set."""
    url = os.environ.get(URL_VARIABLE, "")
    if not url:
        errors.print(MISSING_URL, highlight=False, soft_wrap=True)
        raise typer.Exit(2)
    return url


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print an expected error without its traceback and end with exit code 1."""
    try:
        yield
    except (LifecycleError, psycopg.Error, DBAPIError) as error:
        # SQLAlchemy adds the statement and a link to its manual; what the server said is enough.
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        errors.print(f"[bold red]{type(cause).__name__}:[/]", end=" ", highlight=False)
        errors.print(str(cause).strip(), markup=False, highlight=False, soft_wrap=True)
        # Errors of class 55 count as operational for the driver, and say themselves what is wrong.
        if isinstance(cause, psycopg.OperationalError) and not (cause.sqlstate or "").startswith("55"):
            errors.print(f"Is {URL_VARIABLE} right, and can the server be reached from here?", highlight=False)
        raise typer.Exit(1) from None


@app.command()
def migrate(
    sql: Annotated[bool, typer.Option("--sql", help="Print what would run, change nothing.")] = False,
) -> None:
    """Bring the project's own objects in the database up to date. Safe to repeat."""
    from lifecycle.migrating.migrate import migration_sql, upgrade

    if sql:
        typer.echo(migration_sql())
        return
    url = required_url()
    with errors_as_messages(), errors.status("migrating") as status:
        build = upgrade(
            url, progress=lambda message, fraction: status.update(f"migrating: {escape(message)} ({fraction:.0%})")
        )
    for message in build.left_out:
        errors.print(f"[bold yellow]Left out:[/] {escape(message)}", highlight=False, soft_wrap=True)
    typer.echo("The database is up to date.")


@app.command()
def plan(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what conversion and rotation would do now. Changes nothing."""
    from orchestration.plan_report import collect_plan, plan_json, print_plan

    url = required_url()
    with errors_as_messages():
        report = collect_plan(url, datetime.now(UTC))
    if as_json:
        typer.echo(plan_json(report))
    else:
        print_plan(report, Console())


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the tables; exit 0 if all went well.")] = False,
    data: Annotated[Path | None, typer.Option(help="Load the real data sets of this folder.")] = None,
    scale: Annotated[Scale, typer.Option(help="How many rows to make up.")] = Scale.small,
    port: Annotated[int, typer.Option(help="Port of Dagster's UI.", min=1, max=65535)] = 3000,
    keep: Annotated[Path | None, typer.Option(help="Keep databases and logs in this folder.")] = None,
) -> None:
    """Run the whole life cycle on a throwaway PostgreSQL, then open Dagster's UI."""
    from orchestration.demo.run import Demo, run_demo

    binaries = os.environ.get(BINARIES_VARIABLE)
    settings = Demo(
        once=once,
        data=data,
        scale=scale.value,
        port=port,
        keep=keep,
        binaries=Path(binaries) if binaries else None,
        environment=dict(os.environ),
    )
    with errors_as_messages():
        raise typer.Exit(run_demo(settings, Console()))


if __name__ == "__main__":
    app()
