"""expiry.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "expiry.yaml"
CAPABILITY: Final = "expiry"


def needed_expiring_tables(application: Application) -> Iterator[Needed]:
    """Tables with rows that expire, and those whose rows keep them."""
    for job_name, job in application.expiry.root.items():
        for name, table in job.tables.items():
            within = (job_name, "tables", str(name))
            yield Needed(CAPABILITY, FILE, name, table.time, table.optional, within)
            for other, column in table.unless_referenced_by.items():
                yield Needed(CAPABILITY, FILE, other, (column,), table.optional, within)
