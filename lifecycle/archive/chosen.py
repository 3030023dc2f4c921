"""The archive that somebody means."""

from lifecycle.archive.layout import Archive, archives_of
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError


def chosen_archive(application: Application, table: str = "") -> Archive:
    """The archive of the table of that name, or the only one; RefusedError names those that are declared."""
    archives = archives_of(application.archived_tables)
    named = [archive for archive in archives if not table or str(archive.source) == table]
    if len(named) == 1:
        return named[0]
    known = ", ".join(str(archive.source) for archive in archives)
    if not archives:
        raise RefusedError("archive.yaml declares no archived table")
    raise RefusedError(f"{table or 'which table?'}: archive.yaml declares {known}; name one of them with --table")
