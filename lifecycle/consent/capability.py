"""Consent in a migration: the declarations as rows of the policy tables."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.cold.tables import thawed_name
from lifecycle.declarations.application import Application
from lifecycle.declarations.consent import Consent, ConsentedTable, Purpose
from lifecycle.migrating.capability import Capability, Statements
from lifecycle.names import QualifiedName

# What is declared no more is not acted on any more. Decisions that were carried out stay.
FORGET: Final = (sql.SQL("delete from lifecycle.consent_purposes"), sql.SQL("delete from lifecycle.consent_record"))


def consent_policies(application: Application) -> Statements:
    """Make the policy tables equal to the declarations."""
    return (*FORGET, *_written(application, application.consent)) if application.consent else FORGET


def _written(application: Application, consent: Consent) -> Iterator[sql.Composed]:
    record = consent.record
    yield _insert(
        "consent_record",
        {
            "table_name": str(record.table),
            "id_column": record.id,
            "person_column": record.person,
            "time_column": record.at,
        },
    )
    for number, (name, purpose) in enumerate(consent.purposes.items(), 1):
        held = {"purpose": name, "position": number, "given": purpose.given, "withdrawal": purpose.withdrawal}
        yield _insert("consent_purposes", held)
        for position, (table, declared) in enumerate(_tables(application, purpose), 1):
            yield _insert(
                "consent_tables",
                {
                    "purpose": name,
                    "position": position,
                    "table_name": str(table),
                    "person_column": declared.by,
                    "time_column": declared.time,
                    "replacements": Jsonb(declared.replacements()),
                    "optional": declared.optional or table not in purpose.tables,
                    "optional_columns": list(declared.optional_columns),
                },
            )


def _tables(application: Application, purpose: Purpose) -> Iterator[tuple[QualifiedName, ConsentedTable]]:
    """The declared tables; an event table is followed by the one of its rows that were taken out of cold files."""
    for table, declared in purpose.tables.items():
        yield table, declared
        if (events := application.event_tables.get(table)) and events.cold_after:
            yield thawed_name(table), declared


def _insert(table: str, row: Mapping[str, Any]) -> sql.Composed:
    return sql.SQL("insert into lifecycle.{} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Literal, row.values())),
    )


CONSENT: Final = Capability(
    "consent",
    declared=lambda application: application.consent is not None and application.personal_data is not None,
    files=("consent.sql", "cold_files.sql"),
    policies=consent_policies,
)
