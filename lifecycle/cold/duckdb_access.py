"""What a DuckDB connection needs to read a bucket: the extension that was installed with it, and a secret in memory."""

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from lifecycle.errors import ColdStorageError

if TYPE_CHECKING:
    import duckdb

# A bucket that is away is told as soon as by the client of our own.
SETTINGS: Final = ("set http_timeout = 18", "set http_retries = 2")


def load_extension(conn: "duckdb.DuckDBPyConnection", name: str) -> None:
    """Load an extension from its Python package: from no network, and with no copy in the home folder."""
    import duckdb

    try:
        path = files(f"duckdb_extension_{name}") / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        conn.execute("load '{}'".format(str(path).replace("'", "''")))
    except (ModuleNotFoundError, duckdb.Error):
        raise ColdStorageError(
            f"DuckDB's extension {name} is not installed for version {duckdb.__version__}. Install "
            "supabase-data-lifecycle[cold]."
        ) from None


def make_secret(conn: "duckdb.DuckDBPyConnection", options: Mapping[str, object]) -> None:
    """Let the connection's S3 requests use these options: in memory, until it is closed."""
    import duckdb

    named = ", ".join(f"{name} ?" for name in options)
    try:
        for statement in SETTINGS:
            conn.execute(statement)
        conn.execute(f"create or replace temporary secret lifecycle_cold (type s3, {named})", list(options.values()))
    except duckdb.Error as error:
        # Its words may hold the secret.
        raise ColdStorageError(
            f"DuckDB {duckdb.__version__} did not take the credentials of the bucket ({type(error).__name__}). Look at "
            "AWS_REGION and AWS_ENDPOINT_URL_S3."
        ) from None
