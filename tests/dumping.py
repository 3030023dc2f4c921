"""pg_dump, psql and migra as docs/how-to/local-databases-and-branches.md shows them, and databases to run them on."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from sandbox.server import SUPERUSER, Server
from tests.conftest import SERVERS
from tests.docs_pages import ROOT, blocks

# Where `make schema-tools` puts migra.
SCHEMA_TOOLS = Path(sys.prefix) / "schema-tools"
PAGE = ROOT / "docs/how-to/local-databases-and-branches.md"


def program(server: Server, name: str) -> str:
    return str(SERVERS[f"pg{server.version}"] / name)


def dump(server: Server, url: str, *options: str) -> str:
    """What pg_dump prints; lines that differ from run to run (the key of psql's \\restrict) are left out."""
    done = subprocess.run(
        [program(server, "pg_dump"), *options, url], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return "".join(line for line in done.stdout.splitlines(True) if not line.startswith(("\\restrict", "\\unrestrict")))


def run_page(server: Server, commands: str, folder: Path, **variables: str) -> tuple[str, list[str]]:
    """Run a block of a page in `folder`, as it stands there: what it prints, and the errors that PostgreSQL told."""
    path = (program(server, ""), str(Path(sys.prefix) / "bin"), str(SCHEMA_TOOLS / "bin"), os.environ["PATH"])
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", commands],
        cwd=folder,
        env={**os.environ, "PATH": os.pathsep.join(path), "PYTHONWARNINGS": "ignore", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, [line.partition("ERROR:  ")[2] for line in done.stderr.splitlines() if "ERROR:" in line]


def commands_with(part: str) -> str:
    """The one block of commands of the page that holds `part`."""
    (found,) = (text for text in blocks(PAGE, "sh") if part in text)
    return found


def create_empty(server: Server, name: str) -> str:
    """A database with nothing in it; its URL as the server's superuser, who restores."""
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} owner postgres template template0").format(sql.Identifier(name)))
        # A setting of a database is no part of a dump.
        conn.execute(
            sql.SQL('alter database {} set search_path = "$user", public, extensions').format(sql.Identifier(name))
        )
    return server.url(name, user=SUPERUSER)


def as_owner(url: str) -> str:
    """The same database as the role that owns the application; both have one password here."""
    return make_url(url).set(username="postgres").render_as_string(hide_password=False)
