"""The application's database as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg
import psycopg
from pydantic import Field

from lifecycle.database import Connection, connect, without_statement_timeout
from lifecycle.errors import AlreadyRunningError, BusyError, LifecycleError, UnreachableError
from lifecycle.server_errors import first_line, is_unreachable, next_step, why_unreachable
from resources.variables import URL_EXAMPLE, missing_url

# Longer than most transactions that hold a lock.
RETRIES: Final = 3
RETRY_SECONDS: Final = 60

TEMPORARY: Final = (BusyError, AlreadyRunningError)


class ApplicationDatabase(dg.ConfigurableResource):
    """The database whose data is looked after, on a direct connection or a session pooler."""

    url: str = Field(repr=False, description=f"PostgreSQL URL of the database's owner, e.g. {URL_EXAMPLE}")

    def required_url(self) -> str:
        """The URL; dg.Failure that names the variable and shows an example when there is none."""
        if not self.url:
            raise dg.Failure(missing_url(), allow_retries=False)
        return self.url

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A session in autocommit mode, closed afterwards. Errors come out as in `errors_for_dagster`."""
        with errors_for_dagster(), connect(self.required_url(), application_name="lifecycle dagster") as conn:
            yield conn

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A session for one transaction, which the role's statement_timeout does not cut off."""
        with self.connect() as conn, without_statement_timeout(conn):
            yield conn


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
            text = next_step(error) or f"the database refused: {first_line(error)} ({error.sqlstate})"
            raise dg.Failure(text, allow_retries=False) from None
        unexpected = f"unexpected, and worth a report: {first_line(error)} ({type(error).__name__})"
        text = str(error) if isinstance(error, LifecycleError) else unexpected
        # With the lines of the code that failed, and without what it came from: that may quote a row.
        raise dg.Failure(text, allow_retries=False).with_traceback(error.__traceback__) from None


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
