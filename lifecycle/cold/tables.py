"""Event tables whose months go cold, as the operations take them."""

from dataclasses import dataclass
from datetime import UTC, datetime

from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from lifecycle.partitions.months import month_start
from lifecycle.partitions.tables import PARTITION_SCHEMA, MonthlyTable, monthly_table, named_table, stem


@dataclass(frozen=True)
class ColdTable:
    """An event table with how old its months are when they leave (a PostgreSQL interval).

    `split_by`: columns of which the first that a row has decides in which file of its month it stands, the columns by
    which people are found first. Who is erased then stands in one file a month.
    `accept_changed_views`: months leave although something that reads the table would answer otherwise.
    """

    table: MonthlyTable
    cold_after: str
    split_by: tuple[str, ...] = ()
    accept_changed_views: bool = False

    @property
    def relation(self) -> QualifiedName:
        return self.table.relation

    @property
    def folder(self) -> str:
        """What the keys of its files begin with; no two tables share it."""
        return f"{self.table.stem}/"


def thawed_name(relation: QualifiedName) -> QualifiedName:
    """The table of rows that were taken out of files (cold.sql makes it)."""
    return QualifiedName(PARTITION_SCHEMA, f"{stem(relation)}_thawed")


def narrow_name(relation: QualifiedName) -> QualifiedName:
    """The table of what views read of cold rows (narrow.py makes it)."""
    return QualifiedName(PARTITION_SCHEMA, f"{stem(relation)}_narrow")


def cold_tables(application: Application) -> tuple[ColdTable, ...]:
    """The declared tables with `cold_after`, in the order of the file."""
    return tuple(
        ColdTable(
            monthly_table(relation, declared),
            declared.cold_after,
            _found_by(application, relation),
            declared.accept_changed_views,
        )
        for relation, declared in application.event_tables.items()
        if declared.cold_after
    )


def _found_by(application: Application, relation: QualifiedName) -> tuple[str, ...]:
    mapped = application.personal_data.tables.get(relation) if application.personal_data else None
    return tuple(dict.fromkeys(step.by for step in mapped.steps)) if mapped else ()


def named_cold_table(application: Application, name: str) -> ColdTable:
    """One of them by schema.name, or by its bare name where only one has it; RefusedError names those there are."""
    tables = cold_tables(application)
    try:
        found = named_table((each.table for each in tables), name)
    except KeyError as unknown:
        raise RefusedError(f"{unknown.args[0]} (with cold_after in event_tables.yaml)") from None
    return next(each for each in tables if each.table == found)


def chosen_cold_tables(application: Application, name: str, *, only_one: bool = False) -> tuple[ColdTable, ...]:
    """The table of this name, or all without a name; RefusedError where none or several are left and one is wanted."""
    if name:
        return (named_cold_table(application, name),)
    tables = cold_tables(application)
    if not tables:
        raise RefusedError("no event table declares cold_after (event_tables.yaml), so nothing is in files")
    if only_one and len(tables) > 1:
        raise RefusedError(f"several tables have cold months; name one: {', '.join(str(t.relation) for t in tables)}")
    return tables


def chosen_month(text: str) -> datetime:
    """The first instant of a month such as 2026-07; RefusedError for anything else."""
    try:
        return month_start(datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC))
    except ValueError:
        raise RefusedError(f"{text!r} is no month; write it like 2026-07") from None


def no_storage(relation: QualifiedName) -> RefusedError:
    """The error of whoever needs the files of a table and was not told where they are."""
    return RefusedError(
        f"{relation}: rows of it stand in cold storage, and LIFECYCLE_COLD_URL does not say where. Set it (and the "
        "variables of the store) as docs/how-to/cold-months.md shows, then run this again."
    )
