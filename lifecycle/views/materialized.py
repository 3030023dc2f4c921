"""The views that are refreshed every hour: one call of the database function per view, each its own transaction."""

from typing import Final

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import BusyError, LifecycleError
from lifecycle.policy import MATERIALIZED_VIEWS
from lifecycle.views.refreshing import RefreshOutcome

REFRESH: Final = "select name, outcome, duration_ms, rows, error from public.refresh_analytics_hourly(%s)"
# Materialized by the application, and a view over its roll-up since.
ROLLED_UP_VIEW: Final = "account_function_usage"
REFRESHED_VIEWS: Final = (ROLLED_UP_VIEW, *(view.name for view in MATERIALIZED_VIEWS))


def refresh_view(conn: Connection, name: str) -> RefreshOutcome:
    """Refresh one view and say what became of it; `skipped` where its sources did not change.

    Raises BusyError when another session refreshes or a lock stayed taken, and LifecycleError when PostgreSQL refused;
    the failure is in audit_events by then.
    """
    with without_statement_timeout(conn):
        (row,) = rows(conn, REFRESH, (name,))
    outcome = RefreshOutcome(*row)
    if outcome.outcome == "busy":
        raise BusyError(f"{name}: {outcome.error}")
    if outcome.failed:
        raise LifecycleError(f"{name}: {outcome.error}")
    return outcome
