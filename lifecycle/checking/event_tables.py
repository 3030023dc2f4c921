"""event_tables.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "event_tables.yaml"
CAPABILITY: Final = "partitions"
TIME_TYPE: Final = "timestamp with time zone"
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
        elif table.time in live.columns and not live.columns[table.time].startswith(TIME_TYPE):
            yield Mismatch(
                CAPABILITY,
                f"{name}.{table.time}",
                f"is {live.columns[table.time]}, and months need {TIME_TYPE}: name another column in {FILE}",
                FILE,
            )
