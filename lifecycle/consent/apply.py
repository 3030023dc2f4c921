"""Decisions carried out by the database function, batch after batch, and what still stands against them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import BusyError, RefreshError
from lifecycle.pacing import UNPACED, Pacing

JOB: Final = "apply_consents"
APPLY: Final = """
select people, withdrawn, granted, cleared, last, outcome, error from public.apply_consents(%s, %s)
"""
AGAINST: Final = "select purpose, table_name, rows from lifecycle.rows_against_consent(%s) where rows > 0"
BATCH: Final = 1000


@dataclass(frozen=True)
class ConsentRun:
    """People who were looked at; decisions that were carried out, by purpose; rows that were cleared, by table."""

    people: int = 0
    withdrawn: Mapping[str, int] = field(default_factory=dict)
    granted: Mapping[str, int] = field(default_factory=dict)
    cleared: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AgainstConsent:
    """Rows of a table that are held for a purpose against their person's decision."""

    purpose: str
    table: str
    rows: int


def apply_consents(
    conn: Connection,
    *,
    batch_size: int = BATCH,
    pacing: Pacing = UNPACED,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> ConsentRun:
    """Look at everybody who ever decided, one batch in one transaction after the other.

    Raises RefreshError when a purpose failed (the others are carried out, batches before stay), BusyError when rows
    stayed locked, psycopg's LockNotAvailable when another session does the same, UndefinedFunction before
    `lifecycle migrate`.
    """
    people, after = 0, None
    withdrawn, granted, cleared = Counter[str](), Counter[str](), Counter[str]()
    failed: dict[str, str] = {}
    while True:
        with pacing.work(), without_statement_timeout(conn):
            found = rows(conn, APPLY, (batch_size, after))[0]
        people += found[0]
        for total, counted in zip((withdrawn, granted, cleared), found[1:4], strict=True):
            total.update(counted)
        after, outcome, error = found[4:]
        if error is not None:
            failed.setdefault(outcome, error)
        if after is None:
            break
        progress(f"{people:,} people", 0.0)
    if "failure" in failed:
        raise RefreshError(f"{JOB}: {failed['failure']}. It is undone for that batch and tried again by the next run.")
    if failed:
        raise BusyError(f"{JOB}: {failed['busy']}. It is tried again by the next run.")
    return ConsentRun(people, dict(withdrawn), dict(granted), dict(cleared))


def rows_against_consent(conn: Connection, slack: str = "0") -> tuple[AgainstConsent, ...]:
    """What stands against consent; decisions and rows that are younger than `slack` wait for the next run."""
    with without_statement_timeout(conn):
        return tuple(AgainstConsent(*row) for row in rows(conn, AGAINST, (slack,)))
