"""Cold months in the weekly review: what each table takes in the database and in files, and what it costs a month."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lifecycle.cold.cost import MonthlyCost, monthly_cost
from lifecycle.cold.status import ColdStatus, cold_status
from lifecycle.cold.tables import cold_tables
from lifecycle.database import Connection, value
from lifecycle.declarations.application import Application
from lifecycle.language import _
from lifecycle.units import size_text

MANIFEST_EXISTS: Final = "select to_regclass('lifecycle.cold_files') is not null"


@dataclass(frozen=True)
class ColdMonths:
    """One table: bytes in the database, bytes in files, and what the rows in files took in the database.

    `cost` is None where no prices are declared.
    """

    table: str
    months: int
    database_bytes: int
    cold_bytes: int
    bytes_before: int
    cost: MonthlyCost | None


def cold_months(conn: Connection, application: Application, now: datetime) -> tuple[ColdMonths, ...]:
    """Every table that declares `cold_after`; none before the migration that follows the declaration."""
    tables = cold_tables(application)
    if not tables or not value(conn, MANIFEST_EXISTS):
        return ()
    return tuple(_reviewed(cold_status(conn, table, now), application) for table in tables)


def _reviewed(status: ColdStatus, application: Application) -> ColdMonths:
    return ColdMonths(
        table=str(status.table.relation),
        months=len(status.months),
        database_bytes=status.database_bytes,
        cold_bytes=status.cold_bytes,
        bytes_before=status.bytes_before,
        cost=monthly_cost(application.operations.prices, status),
    )


def cold_line(found: ColdMonths) -> str:
    """One table in a sentence."""
    if found.months:
        told = _("Cold months of {table}: {hot} in the database, {cold} in files (took {before})")
    else:
        told = _("Cold months of {table}: {hot} in the database, no month in files yet")
    sizes = {"hot": found.database_bytes, "cold": found.cold_bytes, "before": found.bytes_before}
    line = told.format(table=found.table, **{name: size_text(size) for name, size in sizes.items()})
    if found.cost is None:
        return line
    return _("{line}; a month costs {cost}").format(line=line, cost=_(found.cost.told))
