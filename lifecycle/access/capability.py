"""Access in a migration: the role of ops, the helpers that policies ask, grants and policies as access.yaml says."""

from collections.abc import Iterator

from lifecycle.access.apply import apply_access
from lifecycle.access.declared import EXECUTORS, declared_access
from lifecycle.access.script import access_script
from lifecycle.access.undo import take_back
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.migrating.capability import Capability


def _objects(conn: Connection, application: Application) -> Iterator[str]:
    yield from apply_access(conn, declared_access(application))


ACCESS = Capability(
    "access",
    declared=lambda application: bool(application.access.relations or application.access.routines),
    files=("helpers.sql",),
    executors=EXECUTORS,
    objects=_objects,
    undo=take_back,
    script=access_script,
)
