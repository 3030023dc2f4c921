"""A database with vendors, their members and customers: `pytest_plugins = ("tests.access_fixtures",)`."""

from collections.abc import Callable, Iterator

import pytest

from lifecycle.database import connect
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.access_vendors import add_vendors


@pytest.fixture(scope="module")
def vendors_url(server: Server, templates: Callable[[bool, bool, bool], str]) -> Iterator[str]:
    """URL of a migrated database with vendors, members, customers; its tests leave no change behind."""
    url = clone_database(server, templates(False, True, True), "vendors")
    with connect(url) as conn:
        add_vendors(conn)
    yield url
    drop_database(server, "vendors")
