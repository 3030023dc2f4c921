"""Refreshing a materialized view: one call of the database function per view, each its own transaction."""

from dataclasses import dataclass
from typing import Final, Literal

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import BusyError, LifecycleError
from lifecycle.names import QualifiedName

REFRESH: Final = "select name, outcome, duration_ms, rows, error from public.refresh_analytics_hourly(%s)"


@dataclass(frozen=True)
class RefreshOutcome:
    """One row of the refresh function. `rows` stand in the view; `error` of one that was `rewritten` is a note."""

    name: str
    outcome: Literal["success", "populated", "rewritten", "skipped", "busy", "failure", "missing"]
    duration_ms: int = 0
    rows: int = 0
    error: str | None = None


def refresh_view(conn: Connection, name: QualifiedName) -> RefreshOutcome:
    """Refresh one view and say what became of it; `skipped` where nothing that it reads has changed.

    `missing` is an optional view that the application does not have. Raises BusyError when another session refreshes
    or a lock stayed taken, and LifecycleError when PostgreSQL refused; the failure is in the ledger by then.
    """
    with without_statement_timeout(conn):
        found = rows(conn, REFRESH, (str(name),))
    if not found:
        return RefreshOutcome(str(name), "missing")
    outcome = RefreshOutcome(*found[0])
    if outcome.outcome == "busy":
        raise BusyError(f"{name}: {outcome.error}")
    if outcome.outcome == "failure":
        raise LifecycleError(f"{name}: {outcome.error}")
    return outcome
