"""The demo's folder, its two databases and their rows."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import dagster as dg
from psycopg import sql
from rich.console import Console
from sqlalchemy import make_url

from lifecycle.database import connect, value
from lifecycle.declarations.application import Application
from orchestration.demo.progress import Step, step
from orchestration.shipped import DAGSTER_YAML
from sandbox.application import create_application_database
from sandbox.generate import generate
from sandbox.real_data import load
from sandbox.server import SUPERUSER, Server

APPLICATION: Final = "application"
DAGSTER: Final = "dagster"
DATABASE_EXISTS: Final = "select exists (select from pg_database where datname = %s)"
ROLE_EXISTS: Final = "select exists (select from pg_roles where rolname = %s)"


@contextmanager
def demo_folder(keep: Path | None) -> Iterator[Path]:
    """The folder to keep, or a temporary one that is removed afterwards."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="lifecycle-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def dagster_home(folder: Path, variables: Mapping[str, str], console: Console) -> Iterator[dg.DagsterInstance]:
    """A fresh DAGSTER_HOME with the project's dagster.yaml, and its instance in this process."""
    home = folder / "dagster_home"
    home.mkdir(exist_ok=True)
    shutil.copyfile(DAGSTER_YAML, home / DAGSTER_YAML.name)
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        with step(console, "make Dagster's database"):
            instance = dg.DagsterInstance.from_config(str(home))
        with instance:
            yield instance
    finally:
        os.environ.clear()
        os.environ.update(before)


def create_dagster_database(server: Server) -> str:
    """Dagster's own database under its own role, with a new password each time; its URL."""
    password = secrets.token_urlsafe(24)
    with connect(server.url(user=SUPERUSER)) as conn:
        role = sql.Identifier(DAGSTER)
        if not value(conn, ROLE_EXISTS, (DAGSTER,)):
            conn.execute(sql.SQL("create role {} login").format(role))
        conn.execute(sql.SQL("alter role {} password {}").format(role, sql.Literal(password)))
        if not value(conn, DATABASE_EXISTS, (DAGSTER,)):
            conn.execute(sql.SQL("create database {} owner {}").format(role, role))
    url = make_url(server.url(DAGSTER, driver="psycopg2")).set(username=DAGSTER, password=password)
    return url.render_as_string(hide_password=False)


def fill(
    url: str, data: Path | None, scale: str, now: datetime, progress: Step
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Load the real data sets or generated rows: rows per table, and what is made up about them."""

    def loaded(table: str, rows: int) -> None:
        progress(f"{table}: {rows:,} rows")

    if data is not None:
        report = load(url, data, now=now, progress=loaded)
        return report.rows, report.artificial
    # Events of years to come stay in the default partition, and its check rightly warns: no way to end green.
    return generate(url, scale, now=now, progress=loaded, skewed_clocks=False), ()


def event_rows(url: str, application: Application) -> dict[str, int]:
    """The exact number of rows of every event table."""
    with connect(url) as conn:
        return {
            table.name: conn.execute(sql.SQL("select count(*) from {}").format(table.identifier)).fetchall()[0][0]
            for table in application.event_tables
        }


def application_database(
    server: Server, data: Path | None, scale: str, now: datetime, console: Console
) -> tuple[str, tuple[str, ...]]:
    """The application's database with its rows: made and filled, or found as an earlier demo left it."""
    with connect(server.url(user=SUPERUSER)) as conn:
        if value(conn, DATABASE_EXISTS, (APPLICATION,)):
            console.print("The folder holds the database of an earlier demo: going on with its rows.")
            return server.url(APPLICATION), ()
    with step(console, "make the application's database"):
        url = create_application_database(server, APPLICATION)
    source = f"the data sets of {data}" if data else f"generated rows, scale {scale}"
    with step(console, f"load {source}") as progress:
        rows, artificial = fill(url, data, scale, now, progress)
    console.print(f"  {sum(rows.values()):,} rows in {len(rows)} tables")
    return url, artificial
