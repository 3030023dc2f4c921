"""Indexes in a migration: built after the revisions, outside of any transaction."""

from collections.abc import Iterator

from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.indexes.build import build_indexes, index_script
from lifecycle.indexes.model import declared_indexes
from lifecycle.indexes.undo import drop_indexes
from lifecycle.migrating.capability import Capability


def _objects(conn: Connection, application: Application) -> Iterator[str]:
    build = build_indexes(conn, declared_indexes(application))
    yield from (f"index {name}: built" for name in build.built)
    yield from build.left_out


INDEXES = Capability(
    "indexes",
    declared=lambda application: bool(application.indexes.indexes),
    objects=_objects,
    undo=drop_indexes,
    script=index_script,
    script_in_transaction=False,
)
