"""What DuckDB's errors mean to somebody who asked for rows, in one sentence and without a secret."""

from typing import TYPE_CHECKING, Final

from psycopg.conninfo import conninfo_to_dict

from lifecycle.database import libpq_url
from lifecycle.errors import ColdStorageError, LifecycleError, RefusedError

if TYPE_CHECKING:
    import duckdb

# Where DuckDB quotes the statement: with words of ours around the reader's own.
QUOTES: Final = "\n\nLINE "
# Before it DuckDB quotes what it sent.
SAID_BY_POSTGRESQL: Final = " ERROR: "


def told(error: "duckdb.Error", url: str) -> LifecycleError:
    """The error to raise instead."""
    import duckdb

    text = " ".join(str(error).partition(QUOTES)[0].split())
    if SAID_BY_POSTGRESQL in text:
        text = "PostgreSQL says: " + text.partition(SAID_BY_POSTGRESQL)[2].partition(" LINE 1: ")[0]
    if password := conninfo_to_dict(libpq_url(url)).get("password"):
        text = text.replace(str(password), "***")
    if isinstance(error, duckdb.OutOfMemoryException):
        return RefusedError(
            f"The statement needs more memory, or room for temporary files, than it may use ({text}). Ask for fewer "
            "columns or months, or raise memory_limit."
        )
    if isinstance(error, duckdb.IOException):
        return ColdStorageError(f"Rows could not be read: {text}. `lifecycle cold verify` says which files are there.")
    return RefusedError(f"The statement was not run: {text}")
