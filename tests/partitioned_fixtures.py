"""Fixtures that start from partitioned event tables: `pytest_plugins = ("tests.partitioned_fixtures",)`."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from lifecycle.database import Connection, connect
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import Templates
from tests.partitioned import MakePartitionedDb

NUMBERS = count(1)


@pytest.fixture(scope="session")
def partitioned_template(templates: Templates) -> Callable[[bool], str]:
    """Name of the converted template database for `auto_grant`, built unless it is there."""
    return lambda auto_grant: templates(False, auto_grant, True, partitioned=True)


@pytest.fixture
def make_partitioned_db(server: Server, partitioned_template: Callable[[bool], str]) -> Iterator[MakePartitionedDb]:
    """Make fresh databases with partitioned event tables; they are dropped after the test."""
    made: list[str] = []

    def make(auto_grant: bool = True) -> str:
        name = f"partitioned_{next(NUMBERS)}"
        url = clone_database(server, partitioned_template(auto_grant), name)
        made.append(name)
        return url

    yield make
    for name in made:
        drop_database(server, name)


@pytest.fixture
def partitioned_db(make_partitioned_db: MakePartitionedDb) -> str:
    """URL of a fresh database with partitioned event tables, as role postgres."""
    return make_partitioned_db()


@pytest.fixture
def partitioned(partitioned_db: str) -> Iterator[Connection]:
    """An autocommit session of role postgres in a fresh database with partitioned event tables."""
    with connect(partitioned_db) as conn:
        yield conn
