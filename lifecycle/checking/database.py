"""database.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "database.yaml"
CAPABILITY: Final = "ledger"


def needed_ledger(application: Application) -> Iterator[Needed]:
    """The application's table of what happened, with its columns."""
    if ledger := application.database.ledger:
        columns = (ledger.kind, ledger.subject, ledger.event, ledger.payload, ledger.at)
        yield Needed(CAPABILITY, FILE, ledger.table, columns, ledger.optional)


def maintenance_gone(application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """The function of the daily maintenance."""
    maintenance = application.database.maintenance
    if maintenance and not maintenance.optional and maintenance.function not in catalog.functions:
        yield Mismatch(
            CAPABILITY,
            f"{maintenance.function}()",
            f"is declared and does not exist: take `maintenance` out of {FILE}, or name what took its place",
            FILE,
        )
