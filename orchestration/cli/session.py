"""What every command starts from: the environment, the declarations, a connection, errors told as messages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from lifecycle.database import Connection, connect
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.errors import LifecycleError
from resources.variables import APPLICATION_VARIABLE, BINARIES_VARIABLE, MISSING_URL, URL_VARIABLE

errors = Console(stderr=True)


def required_url() -> str:
    """The application's database; ends with exit code 2 when the variable is not set."""
    url = os.environ.get(URL_VARIABLE, "")
    if not url:
        errors.print(MISSING_URL, highlight=False, soft_wrap=True)
        raise typer.Exit(2)
    return url


def application_folder() -> Path:
    """The folder of declarations: the one that the environment names, else this project's own."""
    return Path(os.environ.get(APPLICATION_VARIABLE) or DEFAULT_FOLDER)


def binaries_folder() -> Path | None:
    """Where the throwaway server's programs are, when somebody says so."""
    named = os.environ.get(BINARIES_VARIABLE)
    return Path(named) if named else None


def declared_application() -> Application:
    """The declarations; DeclarationError says what is wrong with them."""
    return load_application(application_folder())


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


@contextmanager
def command_session(group: str) -> Iterator[Connection]:
    """A connection for the commands of `lifecycle GROUP`, named so in the server's list of sessions.

    An error ends the command with a message.
    """
    url = required_url()
    with errors_as_messages(), connect(url, application_name=f"lifecycle {group}") as conn:
        yield conn
