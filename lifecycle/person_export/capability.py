"""Exports in a migration: the log of them, and the functions that say who may have one and by what keys."""

from lifecycle.migrating.capability import Capability

PERSON_EXPORT = Capability(
    "person_export",
    declared=lambda application: application.personal_data is not None,
    files=("person_export.sql",),
)
