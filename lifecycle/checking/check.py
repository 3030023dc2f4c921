"""`lifecycle check`: every comparison of the declarations with the database."""

from collections.abc import Iterator

from lifecycle.checking.catalog import Catalog, read_catalog
from lifecycle.checking.database import maintenance_gone, needed_ledger
from lifecycle.checking.event_tables import needed_event_tables, unfit_event_tables
from lifecycle.checking.migrated import not_migrated
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed, gone
from lifecycle.checking.segments import unfit_segments
from lifecycle.checking.views import needed_views, unfit_views
from lifecycle.database import Connection
from lifecycle.declarations.application import Application

READ_ONLY = "set transaction read only"


def check_declarations(conn: Connection, application: Application) -> tuple[Mismatch, ...]:
    """All places where they disagree, as of one moment; in a transaction that cannot write."""
    with conn.transaction():
        conn.execute(READ_ONLY)
        conn.execute("set local transaction isolation level repeatable read")
        catalog = read_catalog(conn)
        return tuple(_compared(conn, application, catalog))


def _needed(application: Application) -> Iterator[Needed]:
    yield from needed_ledger(application)
    yield from needed_event_tables(application)
    yield from needed_views(application)


def _compared(conn: Connection, application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    yield from gone(_needed(application), catalog)
    yield from maintenance_gone(application, catalog)
    yield from unfit_event_tables(application, catalog)
    yield from unfit_views(application, catalog)
    yield from unfit_segments(conn, application)
    yield from not_migrated(conn, application)
