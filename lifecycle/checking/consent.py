"""consent.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "consent.yaml"
CAPABILITY: Final = "consent"


def needed_consents(application: Application) -> Iterator[Needed]:
    """The record of decisions, and the tables that are cleared."""
    consent = application.consent
    if consent is None:
        return
    record = consent.record
    yield Needed(CAPABILITY, FILE, record.table, (record.id, record.person, record.at))
    for purpose, declared in consent.purposes.items():
        for name, table in declared.tables.items():
            columns = (column for column in (table.by, table.time, *table.set) if column)
            named = tuple(column for column in columns if column not in table.optional_columns)
            within = ("purposes", purpose, "tables", str(name))
            yield Needed(CAPABILITY, FILE, name, named, table.optional, within, "optional_columns")


def consent_of_nobody(application: Application) -> Iterator[Mismatch]:
    """Consent is declared, and who a person is is not: nothing is carried out."""
    if application.consent is not None and application.personal_data is None:
        told = f"{FILE} is declared without personal_data.yaml, which says who a person is: no decision is carried out"
        yield Mismatch(CAPABILITY, str(application.consent.record.table), told, "personal_data.yaml")
