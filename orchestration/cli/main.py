"""All commands of `lifecycle`, assembled."""

from typing import Annotated

import typer

from lifecycle.release import release
from orchestration.cli.access import access
from orchestration.cli.chat import chat
from orchestration.cli.check import check, schema
from orchestration.cli.cold import cold
from orchestration.cli.consent import consent
from orchestration.cli.demo import demo
from orchestration.cli.docs import docs
from orchestration.cli.erasure import erasure
from orchestration.cli.health import health
from orchestration.cli.index import index
from orchestration.cli.init import init
from orchestration.cli.migrate import migrate, undo
from orchestration.cli.person import person
from orchestration.cli.plan import plan
from orchestration.cli.serve import home, serve
from orchestration.cli.session import speak_the_language_that_is_set
from orchestration.cli.views import views

app = typer.Typer(
    name="lifecycle",
    help="The life cycle of a PostgreSQL application's data: partition, archive, erase, derive, guard.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def print_version(wanted: bool) -> None:
    """Print the release and end."""
    if wanted:
        typer.echo(f"lifecycle {release()}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the release and end.")
    ] = False,
) -> None:
    """The life cycle of a PostgreSQL application's data: partition, archive, erase, derive, guard."""
    speak_the_language_that_is_set()


for command in (init, migrate, undo, plan, check, index, schema, home, serve, health, demo, docs):
    app.command()(command)
app.add_typer(access, name="access")
app.add_typer(chat, name="chat")
app.add_typer(cold, name="cold")
app.add_typer(consent, name="consent")
app.add_typer(erasure, name="erasure")
app.add_typer(person, name="person")
app.add_typer(views, name="views")
