"""`lifecycle check`: every comparison of the declarations with the database."""

from collections.abc import Iterator

from lifecycle.checking.access import access_mismatches
from lifecycle.checking.archive import needed_archived_tables, new_columns
from lifecycle.checking.catalog import Catalog, read_catalog
from lifecycle.checking.consent import consent_of_nobody, needed_consents
from lifecycle.checking.database import maintenance_gone, needed_ledger
from lifecycle.checking.erasures import needed_personal_data, undeclared_personal_data
from lifecycle.checking.event_tables import needed_event_tables, unfit_event_tables
from lifecycle.checking.expiry import needed_expiring_tables
from lifecycle.checking.indexes import needed_indexed_tables
from lifecycle.checking.migrated import not_migrated
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed, gone
from lifecycle.checking.person_export import explained_and_on_no_map
from lifecycle.checking.segments import lost_sources, needed_segment_tables, no_target
from lifecycle.checking.views import kept_mismatches, needed_views, view_mismatches
from lifecycle.database import Connection
from lifecycle.declarations.application import Application

READ_ONLY = "set transaction isolation level repeatable read, read only"


def check_declarations(conn: Connection, application: Application) -> tuple[Mismatch, ...]:
    """All places where they disagree, as of one moment; in a transaction that cannot write."""
    with conn.transaction():
        conn.execute(READ_ONLY)
        conn.execute("set local statement_timeout = 0")
        return tuple(dict.fromkeys(_compared(conn, application, read_catalog(conn))))


def _needed(application: Application) -> Iterator[Needed]:
    yield from needed_ledger(application)
    yield from needed_event_tables(application)
    yield from needed_views(application)
    yield from needed_archived_tables(application)
    yield from needed_expiring_tables(application)
    yield from needed_segment_tables(application)
    yield from needed_personal_data(application)
    yield from needed_consents(application)
    yield from needed_indexed_tables(application)


def _compared(conn: Connection, application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    yield from gone(_needed(application), catalog)
    yield from maintenance_gone(application, catalog)
    yield from unfit_event_tables(application, catalog)
    yield from view_mismatches(application, catalog)
    yield from kept_mismatches(conn, application)
    yield from new_columns(application, catalog)
    yield from no_target(application, catalog)
    yield from lost_sources(conn, application)
    yield from undeclared_personal_data(conn, application, catalog)
    yield from explained_and_on_no_map(application)
    yield from consent_of_nobody(application)
    yield from access_mismatches(conn, application)
    yield from not_migrated(conn, application)
