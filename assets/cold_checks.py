"""What must hold for cold months, by the manifest."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from assets.checks import Finding, checks_of_one_look, listed
from assets.keys import step_name
from lifecycle.cold.status import ColdStatus, cold_status
from lifecycle.cold.tables import ColdTable


def nothing_due(status: ColdStatus) -> Finding:
    """No month that is old enough to leave still stands in the database."""
    if status.due:
        months = listed([f"{each.month:%Y-%m}" for each in status.due])
        return Finding(
            False, f"still in the database: {months}; run the job move_cold_months", {"due": len(status.due)}
        )
    return Finding(True, f"nothing older than {status.table.cold_after}", {"due": 0})


def nothing_left_in_the_store(status: ColdStatus) -> Finding:
    """The store has no object that nobody reads: such a one may hold what was erased since."""
    if status.to_remove:
        told = f"{status.to_remove} files wait to be removed from the store; run the job move_cold_months"
        return Finding(False, told, {"to_remove": status.to_remove})
    return Finding(True, "every object is read, or was seen to be gone", {"to_remove": 0})


CHECKS: Final[tuple[tuple[Callable[[ColdStatus], Finding], dg.AssetCheckSeverity], ...]] = (
    (nothing_due, dg.AssetCheckSeverity.WARN),
    (nothing_left_in_the_store, dg.AssetCheckSeverity.WARN),
)


def cold_checks(table: ColdTable, asset: dg.AssetKey) -> dg.AssetChecksDefinition:
    """The checks of one table, evaluated together from one look at the manifest."""
    return checks_of_one_look(
        f"{step_name(asset)}_checks", asset, CHECKS, lambda conn: cold_status(conn, table, datetime.now(UTC))
    )
