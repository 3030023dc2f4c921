"""Archives in a migration."""

from collections.abc import Iterator
from typing import Final

from lifecycle.archive.layout import archives_of, exists
from lifecycle.archive.structure import keep_in_step
from lifecycle.archive.undo import take_archives_back
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.migrating.capability import Capability


def make_archives(conn: Connection, application: Application) -> Iterator[str]:
    """Every declared archive, in step with its table. An optional table that is not there is passed by."""
    for archive in archives_of(application.archived_tables):
        if archive.declared.optional and not exists(conn, archive.source):
            continue
        yield from keep_in_step(conn, archive)


# A policy's function is executed with the rights of the reader. A role that is not named here reads no archive.
READERS: Final = ("anon", "authenticated", "service_role", "ops")
ARCHIVE: Final = Capability(
    "archive",
    declared=lambda application: bool(application.archived_tables),
    files=("archive.sql",),
    executors={
        "lifecycle.readable_groups(source_schema text, source_table text, group_column text, groups_schema text, "
        "groups_table text, groups_id text, reader_path text)": READERS
    },
    objects=make_archives,
    undo=take_archives_back,
)
