"""Bring rows from any source into an empty application database, table by table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import SandboxError
from sandbox.rows.copying import Progress, copy_lines

W = TypeVar("W")

REFRESH_EACH_VIEW: Final = "select format('refresh materialized view %I.%I', schemaname, matviewname) from pg_matviews"


@dataclass(frozen=True)
class Source(Generic[W]):
    """A table, the columns that are given (by spaces), and the function that makes their lines.

    `copy` is copy_lines, or bulk_copy for the tables that get many rows.
    """

    table: str
    columns: str
    lines: Callable[[W], Iterator[str]]
    copy: Callable[..., int] = copy_lines


def fill(url: str, sources: Sequence[Source[W]], world: W, progress: Progress) -> dict[str, int]:
    """COPY all sources, in their order; then refresh the materialized views and ANALYZE.

    Returns rows per table. Raises SandboxError when the database has rows already.
    """
    with connect(url, application_name="sandbox") as conn:
        if value(conn, "select exists (select from accounts)"):
            raise SandboxError("the database has rows already; make a fresh one with create_application_database")
        counts = {
            source.table: source.copy(conn, source.table, source.columns.split(), source.lines(world), progress)
            for source in sources
        }
        _settle(conn)
    return counts


def _settle(conn: Connection) -> None:
    """What the application's nightly job would have done by now."""
    for (statement,) in rows(conn, REFRESH_EACH_VIEW):
        conn.execute(statement.encode())
    conn.execute("analyze")
