"""What refreshed assets have in common: pool, owners, freshness, and outcomes as metadata and errors."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import dagster as dg

from lifecycle.views.refreshing import RefreshOutcome

# One refresh at a time: they would only wait for each other's locks.
POOL: Final = "analytics"
OWNERS: Final = ["team:data-platform"]
# Refreshed every hour: one missed run is worth a look, two are a fault.
HOURLY: Final = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3), warn_window=timedelta(minutes=130))


def outcome_metadata(outcome: RefreshOutcome) -> dict[str, Any]:
    """Outcome, duration and number of rows of one refresh."""
    return {"outcome": outcome.outcome, "duration_ms": outcome.duration_ms, "rows_written": outcome.rows}


def raise_failures(outcomes: Iterable[RefreshOutcome]) -> None:
    """dg.Failure that names every refresh that failed; none is tried again, since PostgreSQL refused it."""
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        raise dg.Failure("; ".join(f"{o.name}: {o.error}" for o in failed), allow_retries=False)
