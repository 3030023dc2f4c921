"""What every command starts from: the environment, the declarations, a connection, errors told as messages."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from lifecycle.database import Connection, connect, without_statement_timeout
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import DEFAULT_FOLDER, load_application
from lifecycle.errors import LifecycleError, RefusedError
from lifecycle.language import _, set_language, translatable
from lifecycle.migrating.foreign import refuse_a_foreign_database
from lifecycle.migrating.state import is_migrated
from lifecycle.server_errors import is_unreachable, next_step, told
from resources.variables import (
    ACCESS_KEY_VARIABLE,
    APPLICATION_VARIABLE,
    BINARIES_VARIABLE,
    COLD_URL_VARIABLE,
    ENDPOINT_VARIABLES,
    HOME_VARIABLE,
    LANGUAGE_VARIABLE,
    REGION_VARIABLE,
    SECRET_KEY_VARIABLE,
    SESSION_TOKEN_VARIABLE,
    STORAGE_VARIABLE,
    URL_VARIABLE,
    missing_cold_url,
    missing_home,
    missing_storage,
    missing_url,
)

if TYPE_CHECKING:
    from lifecycle.cold.storage import ColdSettings, ColdStorage

errors = Console(stderr=True)
ERROR: Final = translatable("Not done:")


def speak_the_language_that_is_set() -> None:
    """Whatever a command prints is in that language; ends with exit code 2 where there is none of that name."""
    try:
        set_language(os.environ.get(LANGUAGE_VARIABLE, ""))
    except LifecycleError as error:
        errors.print(f"{LANGUAGE_VARIABLE}: {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


def required_url() -> str:
    """The application's database; ends with exit code 2 when the variable is not set."""
    return _required(os.environ.get(URL_VARIABLE, ""), missing_url)


def _required(setting: str, missing: Callable[[], str]) -> str:
    if not setting:
        errors.print(missing(), highlight=False, soft_wrap=True)
        raise typer.Exit(2)
    return setting


def required_home() -> Path:
    """The folder of Dagster's settings; ends with exit code 2 when none is named by a whole path, as Dagster asks."""
    folder = Path(os.environ.get(HOME_VARIABLE, ""))
    if not folder.is_absolute():
        errors.print(missing_home(), highlight=False, soft_wrap=True)
        raise typer.Exit(2)
    return folder


def required_storage() -> str:
    """Dagster's own database; ends with exit code 2 when the variable is not set."""
    return _required(os.environ.get(STORAGE_VARIABLE, ""), missing_storage)


def passed_on() -> dict[str, str]:
    """The environment for processes that work in another folder: a folder named from here stays the same one."""
    return {**os.environ, APPLICATION_VARIABLE: str(application_folder().absolute())}


def cold_settings() -> "ColdSettings":
    """Where months go that leave the database, and what a bucket needs beside it; no URL where nobody said."""
    from lifecycle.cold.storage import ColdSettings

    endpoints = (os.environ.get(name, "") for name in ENDPOINT_VARIABLES)
    return ColdSettings(
        url=os.environ.get(COLD_URL_VARIABLE, ""),
        access_key=os.environ.get(ACCESS_KEY_VARIABLE, ""),
        secret_key=os.environ.get(SECRET_KEY_VARIABLE, ""),
        session_token=os.environ.get(SESSION_TOKEN_VARIABLE, ""),
        region=os.environ.get(REGION_VARIABLE, ""),
        endpoint=next(filter(None, endpoints), ""),
    )


def cold_storage() -> "ColdStorage | None":
    """The store that these name, None where nobody said; ColdStorageError for a URL that names none."""
    from lifecycle.cold.storage import open_storage

    settings = cold_settings()
    return open_storage(settings) if settings.url else None


def required_cold_storage() -> "ColdStorage":
    """The same; ends with exit code 2 where nobody said where it is."""
    if (storage := cold_storage()) is None:
        errors.print(missing_cold_url(), highlight=False, soft_wrap=True)
        raise typer.Exit(2)
    return storage


def application_folder() -> Path:
    """The folder of declarations: the one that the environment names, else this project's own."""
    return Path(os.environ.get(APPLICATION_VARIABLE) or DEFAULT_FOLDER)


def name_application(folder: Path) -> None:
    """From here on, in this process and those that it starts, the declarations are those of `folder`."""
    os.environ[APPLICATION_VARIABLE] = str(folder)


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
    except (LifecycleError, psycopg.Error, DBAPIError, OSError) as error:
        # SQLAlchemy adds the statement and a link to its manual; what the server said is enough.
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        errors.print(f"[bold red]{_(ERROR)}[/]", end=" ", highlight=False)
        errors.print(_told(cause), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _told(error: BaseException) -> str:
    if isinstance(error, OSError):
        place = error.filename or "a file"
        return (
            f"{place} cannot be used: {(error.strerror or str(error)).lower()}. Make it usable, or name another place"
        )
    if isinstance(error, LifecycleError):
        return _(error.told).strip()
    if not isinstance(error, psycopg.Error):
        return str(error).strip()
    unknown = is_unreachable(error) and not next_step(error)
    question = _(". Is {variable} right, and can the server be reached from here?").format(variable=URL_VARIABLE)
    return told(error) + (question if unknown else "")


@contextmanager
def command_transaction(group: str, *, migrated: bool = True) -> Iterator[Connection]:
    """A connection for commands that look, in one transaction that the role's statement_timeout does not cut off."""
    with command_session(group, migrated=migrated) as conn, without_statement_timeout(conn):
        yield conn


@contextmanager
def command_session(group: str, *, migrated: bool = True) -> Iterator[Connection]:
    """A connection for the commands of `lifecycle GROUP`, named so in the server's list of sessions.

    An error ends the command with a message, and so does a database that is not the application's, or was not
    `migrated` where the command needs that.
    """
    url = required_url()
    with errors_as_messages(), connect(url, application_name=f"lifecycle {group}") as conn:
        if not is_migrated(conn):
            refuse_a_foreign_database(conn, declared_application())
            if migrated:
                not_prepared = _("database {database} is not prepared: run `lifecycle migrate`, then this again")
                raise RefusedError(not_prepared.format(database=conn.info.dbname))
        yield conn


def require_prepared_database(group: str) -> None:
    """End as `command_session` does where the database is not the application's or was not migrated."""
    with command_session(group):
        pass
