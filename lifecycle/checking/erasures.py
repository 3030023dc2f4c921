"""personal_data.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.declarations.personal_data import Key, PersonalData, PersonalTable
from lifecycle.erasures.check import proposals, undeclared_columns

FILE: Final = "personal_data.yaml"
CAPABILITY: Final = "erasures"
TABLES: Final = "tables"


def needed_personal_data(application: Application) -> Iterator[Needed]:
    """The person, the requests, where keys come from, and the tables of the map."""
    data = application.personal_data
    if data is None:
        return
    yield from _needed_people(data)
    for kind, key in data.keys.items():
        yield from _needed_sources(kind, key)
    for name, table in data.tables.items():
        within = (TABLES, str(name))
        yield Needed(CAPABILITY, FILE, name, tuple(_columns(table)), table.optional, within, "optional_columns")


def _needed_people(data: PersonalData) -> Iterator[Needed]:
    person, requests = data.person, data.requests
    tombstone = (person.tombstone.column,) if person.tombstone else ()
    yield Needed(CAPABILITY, FILE, person.table, (person.key, *tombstone))
    if sign_in := person.sign_in:
        yield Needed(CAPABILITY, FILE, sign_in.table, (sign_in.id,), sign_in.optional)
        if sign_in.still_used:
            used, column = sign_in.still_used
            yield Needed(CAPABILITY, FILE, used, (column,), sign_in.optional)
    if not requests.are_ours:
        columns = (requests.id, requests.person, requests.status, requests.requested_at)
        yield Needed(CAPABILITY, FILE, requests.table, columns)


def _needed_sources(_kind: str, key: Key) -> Iterator[Needed]:
    for source in key.sources:
        if source.table is not None:
            columns = filter(None, (source.by, source.take, source.given, source.unowned))
            yield Needed(CAPABILITY, FILE, source.table, tuple(columns), source.optional)
    for limit in key.unless:
        if limit.table is not None:
            columns = filter(None, (limit.column, limit.owner))
            yield Needed(CAPABILITY, FILE, limit.table, tuple(columns), limit.optional)


def _columns(table: PersonalTable) -> Iterator[str]:
    named = [
        *(column for step in table.steps for column in (step.by, *filter(None, [step.unowned]), *step.set)),
        *table.redacted,
        *table.exempt,
        *table.clean,
        *filter(None, [table.time]),
    ]
    yield from (column for column in named if column not in table.optional_columns and column != "*")


def undeclared_personal_data(conn: Connection, application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """Tables and columns that may hold personal data and are on no map, with a proposal."""
    for found in proposals(undeclared_columns(conn, application)):
        if found.table not in catalog.relations:
            continue
        within = (TABLES,) if found.new else (TABLES, str(found.table))
        yield Mismatch(CAPABILITY, str(found.table), found.told, FILE, within, found.lines)
