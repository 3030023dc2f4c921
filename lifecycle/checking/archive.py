"""archive.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "archive.yaml"
CAPABILITY: Final = "archive"


def needed_archived_tables(application: Application) -> Iterator[Needed]:
    """Archived tables with the columns that a move asks for, and the tables of their groups."""
    for name, table in application.archived_tables.items():
        columns = (table.id, table.group, table.time, *table.compress, *table.shown)
        yield Needed(CAPABILITY, FILE, name, columns, table.optional, (str(name),))
        yield Needed(CAPABILITY, FILE, table.groups.table, (table.groups.id,), table.optional, (str(name),))


def new_columns(application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """Columns of an archived table that its archive lacks."""
    for name, table in application.archived_tables.items():
        source, archive = catalog.relations.get(name), catalog.relations.get(table.archive)
        if source is None or archive is None:
            continue
        if lacking := [column for column in source.columns if column not in archive.columns]:
            yield Mismatch(
                CAPABILITY,
                str(table.archive),
                f"lacks new columns of {name}: {', '.join(lacking)}. They are taken up before the next row moves, or "
                "now by `lifecycle migrate`",
            )
