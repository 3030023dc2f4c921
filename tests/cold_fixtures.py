"""Fixtures that start from a database whose months may go cold: `pytest_plugins = ("tests.cold_fixtures",)`."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from lifecycle.migrating.migrate import upgrade
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.cold import COLD, MakeColdDb

pytest_plugins = ("tests.partitioned_fixtures",)

NAMES = count(1)


@pytest.fixture(scope="session")
def cold_template(server: Server, partitioned_template: Callable[[bool], str]) -> str:
    """Name of a database with partitioned event tables whose months may go cold; migrated once for a session."""
    name = "template_cold"
    upgrade(clone_database(server, partitioned_template(True), name), COLD)
    return name


@pytest.fixture
def make_cold_db(server: Server, cold_template: str) -> Iterator[MakeColdDb]:
    """Make fresh databases whose months may go cold; they are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"cold_{next(NAMES)}"
        url = clone_database(server, cold_template, name)
        made.append(name)
        return url

    yield make
    for name in made:
        drop_database(server, name)
