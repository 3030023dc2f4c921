"""The application's database as a Dagster resource."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg
import psycopg
from pydantic import Field

from lifecycle.database import Connection, connect
from lifecycle.errors import AlreadyRunningError, BusyError, LifecycleError, UnreachableError
from resources.variables import MISSING_URL, URL_EXAMPLE

# Longer than most transactions that hold a lock.
RETRIES: Final = 3
RETRY_SECONDS: Final = 60

# The server ends sessions, starts or stops, or has no place left.
AWAY: Final = ("57P01", "57P02", "57P03", "53300")
SERVER_SAID: Final = re.compile(r"FATAL:\s*([^\n]+)")
CLIENT_SAID: Final = {
    "refused": "nobody listens at its address",
    "timeout": "no answer in time",
    "timed out": "no answer in time",
    "resolve": "the name of its host is not known",
    "translate": "the name of its host is not known",
    "unreachable": "no route to its host",
}

TEMPORARY: Final = (BusyError, AlreadyRunningError)


class ApplicationDatabase(dg.ConfigurableResource):
    """The database whose data is looked after, on a direct connection or a session pooler."""

    url: str = Field(repr=False, description=f"PostgreSQL URL of the database's owner, e.g. {URL_EXAMPLE}")

    def required_url(self) -> str:
        """The URL; dg.Failure that names the variable and shows an example when there is none."""
        if not self.url:
            raise dg.Failure(MISSING_URL, allow_retries=False)
        return self.url

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A session in autocommit mode, closed afterwards. Errors come out as in `errors_for_dagster`."""
        with errors_for_dagster(), connect(self.required_url(), application_name="lifecycle dagster") as conn:
            yield conn


def first_line(error: BaseException) -> str:
    """What went wrong, without the DETAIL and CONTEXT lines, where PostgreSQL quotes the offending row."""
    text = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return (text or str(error)).strip().partition("\n")[0] or type(error).__name__


def is_unreachable(error: psycopg.Error) -> bool:
    """Whether the database itself is away: not a statement of ours that it refused or was too busy for."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    # Without a code the client speaks: no connection came about, or it broke.
    return error.sqlstate is None or error.sqlstate.startswith("08") or error.sqlstate in AWAY


def why_unreachable(error: psycopg.Error) -> str:
    """In the server's words where it gave any. Never the client's: they quote what it took for the host's name."""
    if error.diag.message_primary:
        return first_line(error)
    text = str(error)
    if said := SERVER_SAID.search(text):
        return said[1].strip()
    return next((reason for part, reason in CLIENT_SAID.items() if part in text), "the connection was lost")


def _interruption(error: BaseException) -> BaseException | None:
    """The Ctrl-C or termination of the run that `error` hides: a cut-off connection fails again in clean-up."""
    context: BaseException | None = error
    while context is not None:
        if isinstance(context, KeyboardInterrupt | dg.DagsterExecutionInterruptedError):
            return context
        context = context.__context__
    return None


@contextmanager
def errors_for_dagster() -> Iterator[None]:
    """Sort errors into those that pass and those that a retry cannot cure.

    A busy lock, another session at the same work and a lost connection leave as LifecycleError. Everything
    else leaves as dg.Failure without retries. No row of the application's tables reaches Dagster's storage:
    of a database error only its first line is kept.
    """
    try:
        yield
    except Exception as error:
        if interruption := _interruption(error):
            raise interruption from None
        if isinstance(error, (dg.Failure, dg.RetryRequested, *TEMPORARY)):
            raise
        if isinstance(error, psycopg.Error) and is_unreachable(error):
            raise UnreachableError(f"the database cannot be reached: {why_unreachable(error)}") from None
        if isinstance(error, psycopg.OperationalError):
            raise BusyError(f"the database did not answer or was busy: {first_line(error)}") from None
        if isinstance(error, psycopg.Error):
            text = f"the database refused: {first_line(error)} ({error.sqlstate})"
            raise dg.Failure(text, allow_retries=False) from None
        text = str(error) if isinstance(error, LifecycleError) else f"{type(error).__name__}: {first_line(error)}"
        raise dg.Failure(text, allow_retries=False) from error


@contextmanager
def retried_when_busy() -> Iterator[None]:
    """For the body of a step: sort its errors and let Dagster try the step again after those that pass.

    A RetryPolicy would do the same, and would also start a step again that someone terminates.
    """
    try:
        with errors_for_dagster():
            yield
    except TEMPORARY as error:
        raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from error
