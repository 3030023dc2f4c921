"""Old months leave the database for files, and a query reads both."""

import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from rich.console import Console

from lifecycle.cold.connect import connect as connect_cold
from lifecycle.cold.status import cold_status
from lifecycle.cold.tables import cold_tables
from lifecycle.database import connect
from lifecycle.declarations.application import Application
from orchestration.cli.session import required_cold_storage
from orchestration.demo.progress import step
from resources.variables import (
    ACCESS_KEY_VARIABLE,
    COLD_URL_VARIABLE,
    ENDPOINT_VARIABLES,
    REGION_VARIABLE,
    SECRET_KEY_VARIABLE,
)
from sandbox.object_storage import REGION, ObjectStorage

FOLDER: Final = "cold months"
BUCKET: Final = "cold-months"
COUNT: Final = "select count(*) from {}"
# boto3 reads the keys and the endpoint from the environment.
LIST_OBJECTS: Final = (
    f"import boto3; [print(each.size, each.key) for each in boto3.resource('s3').Bucket('{BUCKET}').objects.all()]"
)


@dataclass(frozen=True)
class ColdTableSeen:
    """One table after its months moved: rows that the database and files hold, rows that a query over both counts,
    bytes that the months took in the database and take in files."""

    name: str
    months: int
    hot_rows: int
    cold_rows: int
    counted: int
    bytes_before: int
    cold_bytes: int


@dataclass(frozen=True)
class ColdSeen:
    """Where the files are, and the tables; `expected` are rows by table before anything moved."""

    place: str
    tables: tuple[ColdTableSeen, ...]
    expected: Mapping[str, int]

    @property
    def fault(self) -> str | None:
        """Why this is not what the demo should show; None when it is."""
        for table in self.tables:
            if not table.cold_rows:
                return f"nothing of {table.name} is in files"
            if table.counted != self.expected[table.name]:
                return f"{table.counted:,} of {self.expected[table.name]:,} rows of {table.name} are read"
        return None


@contextmanager
def running_cold_storage(s3: bool, folder: Path, console: Console) -> Iterator[Mapping[str, str]]:
    """A folder beside the database, or an S3 server that runs as long; the variables that name it."""
    if not s3:
        yield {COLD_URL_VARIABLE: (folder / FOLDER).absolute().as_uri()}
        return
    key, secret = "demo", secrets.token_urlsafe(24)
    server = ObjectStorage(folder / "s3", key, secret)
    with step(console, "start an S3 server"):
        server.start()
    try:
        server.make_bucket(BUCKET, versioned=True)
        console.print(f"  bucket {BUCKET} at {server.endpoint}, files in {server.folder}", highlight=False)
        yield {
            COLD_URL_VARIABLE: f"s3://{BUCKET}/events",
            ACCESS_KEY_VARIABLE: key,
            SECRET_KEY_VARIABLE: secret,
            REGION_VARIABLE: REGION,
            ENDPOINT_VARIABLES[0]: server.endpoint,
        }
    finally:
        server.stop()


def how_to_list(variables: Mapping[str, str]) -> str:
    """A command that lists the files, for another terminal while the demo runs; of a bucket with this run's keys."""
    url = variables[COLD_URL_VARIABLE]
    if not url.startswith("s3:"):
        return shlex.join(["find", unquote(urlsplit(url).path), "-name", "*.parquet"])
    keys = [f"{name}={variables[name]}" for name in (ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE, ENDPOINT_VARIABLES[0])]
    return shlex.join(["env", *keys, sys.executable, "-c", LIST_OBJECTS])


def look_into_cold_months(url: str, application: Application, expected: Mapping[str, int]) -> ColdSeen:
    """Count the rows of each table in the database, in files, and by one query over both."""
    storage = required_cold_storage()
    now = datetime.now(UTC)
    seen = []
    with connect(url) as conn, connect_cold(url, application, storage) as reader:
        for table in cold_tables(application):
            status = cold_status(conn, table, now)
            ((hot,),) = conn.execute(COUNT.format(table.relation).encode()).fetchall()
            ((counted,),) = reader.query(COUNT.format(table.relation)).rows()
            seen.append(
                ColdTableSeen(
                    name=table.relation.name,
                    months=len(status.months),
                    hot_rows=hot,
                    cold_rows=status.cold_rows,
                    counted=counted,
                    bytes_before=status.bytes_before,
                    cold_bytes=status.cold_bytes,
                )
            )
    return ColdSeen(storage.url, tuple(seen), expected)
