"""event_tables.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application
from lifecycle.partitions.tables import monthly_table
from lifecycle.partitions.time_types import lacks_a_zone, unfit_type

FILE: Final = "event_tables.yaml"
CAPABILITY: Final = "partitions"
TABLES: Final = ("r", "p")


def needed_event_tables(application: Application) -> Iterator[Needed]:
    """Event tables with their time columns."""
    for name, table in application.event_tables.items():
        yield Needed(CAPABILITY, FILE, name, (table.time,), table.optional, (str(name),))


def unfit_event_tables(application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """What cannot be partitioned by month."""
    for name, table in application.event_tables.items():
        live = catalog.relations.get(name)
        if live is None:
            continue
        if live.kind not in TABLES:
            yield Mismatch(CAPABILITY, str(name), f"is no table: take its entry out of {FILE}", FILE)
        elif table.time in live.columns:
            found = live.columns[table.time]
            monthly = monthly_table(name, table)
            if told := unfit_type(monthly, found):
                lines = "zone: UTC" if lacks_a_zone(monthly, found) else ""
                yield Mismatch(CAPABILITY, str(name), told, FILE, (str(name),) if lines else (), lines)
