"""Databases that the tests of a module share, for access: `pytest_plugins = ("tests.access_fixtures",)`."""

from collections.abc import Callable, Iterator

import pytest

from lifecycle.database import Connection, connect
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.access_vendors import add_vendors
from tests.conftest import Templates


@pytest.fixture(scope="module")
def vendors_url(server: Server, templates: Callable[[bool, bool, bool], str]) -> Iterator[str]:
    """URL of a migrated database with vendors, members, customers; its tests leave no change behind."""
    url = clone_database(server, templates(False, True, True), "vendors")
    with connect(url) as conn:
        add_vendors(conn)
    yield url
    drop_database(server, "vendors")


@pytest.fixture(scope="module")
def tampered_url(server: Server, templates: Templates) -> Iterator[str]:
    """A migrated database whose tests leave it as it was."""
    yield clone_database(server, templates(False, True, True), "tampered")
    drop_database(server, "tampered")


@pytest.fixture
def shared_conn(tampered_url: str) -> Iterator[Connection]:
    """A transaction in that database, which is undone."""
    with connect(tampered_url) as conn, conn.transaction(force_rollback=True):
        yield conn
