"""Fixtures that start from partitioned event tables: `pytest_plugins = ("tests.partitioned_fixtures",)`."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count

import pytest

from lifecycle.database import Connection, connect
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.months import add_months, month_start
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.declared import EVENT_TABLES
from tests.partitioned import MONTHS_BACK, REPLAYS, MakePartitionedDb, insert_events

NUMBERS = count(1)


@pytest.fixture(scope="session")
def partitioned_template(
    server: Server, templates: Callable[[bool, bool, bool], str], now: datetime
) -> Callable[[bool], str]:
    """Name of the converted template database for `auto_grant`, built when first asked for."""
    built: dict[bool, str] = {}

    def template(auto_grant: bool) -> str:
        if auto_grant not in built:
            name = f"template_partitioned_{'auto' if auto_grant else 'explicit'}"
            url = clone_database(server, templates(False, auto_grant, True), name)
            with connect(url) as conn:
                conn.execute("insert into accounts (id) select gen_random_uuid() from generate_series(1, 3)")
                for table in EVENT_TABLES:
                    for back in range(MONTHS_BACK if table is not REPLAYS else 2, -1, -1):
                        insert_events(conn, table, add_months(month_start(now), -back), session="template")
            for table in EVENT_TABLES:
                convert_table(url, table, now=now, progress=lambda _message, _fraction: None)
            built[auto_grant] = name
        return built[auto_grant]

    return template


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
