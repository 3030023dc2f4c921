"""expiry.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "expiry.yaml"
CAPABILITY: Final = "expiry"


def needed_expiring_tables(application: Application) -> Iterator[Needed]:
    """Tables with rows that expire, and those whose rows keep them."""
    for job in application.expiry.root.values():
        for name, table in job.tables.items():
            yield Needed(CAPABILITY, FILE, name, table.time, table.optional)
            for other, column in table.unless_referenced_by.items():
                yield Needed(CAPABILITY, FILE, other, (column,), table.optional)
