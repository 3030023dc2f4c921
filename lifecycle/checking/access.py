"""access.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.access.check import missing_objects, undeclared_objects
from lifecycle.access.report import access_differences
from lifecycle.checking.mismatch import Mismatch
from lifecycle.database import Connection
from lifecycle.declarations.application import Application

FILE: Final = "access.yaml"
CAPABILITY: Final = "access"


def access_mismatches(conn: Connection, application: Application) -> Iterator[Mismatch]:
    """What the API reaches and nobody declared, and what is declared and gone; nothing when no access is declared."""
    if not (application.access.relations or application.access.routines):
        return
    for found in undeclared_objects(conn, application):
        yield Mismatch(CAPABILITY, found.object, f"is not declared: {found.told}", FILE, (found.section,), found.line)
    for found in missing_objects(conn, application):
        yield Mismatch(CAPABILITY, found.object, found.told, FILE, (found.section, found.object), "optional: true")
    for difference in access_differences(conn, application):
        told = f"is not as declared: {'; '.join(difference.told)}. `lifecycle migrate` changes it"
        yield Mismatch(CAPABILITY, difference.object, told)
