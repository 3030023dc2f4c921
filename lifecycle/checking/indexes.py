"""indexes.yaml against the database: the tables. Whether the indexes serve, the job that builds them says."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "indexes.yaml"
CAPABILITY: Final = "indexes"


def needed_indexed_tables(application: Application) -> Iterator[Needed]:
    """The table of each index."""
    for name, index in application.indexes.indexes.items():
        yield Needed(CAPABILITY, FILE, index.table, (), index.optional, ("indexes", name))
