"""What refreshing a statistic or a materialized view came to, as the database functions report it."""

from dataclasses import dataclass
from typing import Literal

from lifecycle.database import Connection, value
from lifecycle.errors import AlreadyRunningError

LOCK = "select lifecycle.lock_analytics()"


@dataclass(frozen=True)
class RefreshOutcome:
    """One row of a refresh function. `rows` changed in a statistic, or stand in a materialized view."""

    name: str
    outcome: Literal["success", "populated", "skipped", "busy", "failure"]
    duration_ms: int
    rows: int
    error: str | None

    @property
    def failed(self) -> bool:
        return self.outcome == "failure"


def lock_analytics(conn: Connection) -> None:
    """Keep every other refresh out until the transaction ends; AlreadyRunningError names the session that has it."""
    holder = value(conn, LOCK)
    if holder is not None:
        raise AlreadyRunningError(
            f"another session refreshes the statistics (pid {holder}); nothing was done. Wait for it, or end that "
            "session with pg_terminate_backend, then run this again"
        )
