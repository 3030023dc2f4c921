"""Decisions carried out by the database function, batch after batch, and what still stands against them.

Rows in cold files are taken out first, since the function sees the database alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from lifecycle.cold.storage import ColdStorage
from lifecycle.consent.cold_rows import LookedAt, note_as_looked_at, thaw_rows_of_refusing
from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import BusyError, LifecycleError, RefreshError
from lifecycle.pacing import UNPACED, Pacing

JOB: Final = "apply_consents"
APPLY: Final = """
select people, withdrawn, granted, cleared, last, outcome, error from public.apply_consents(%s, %s)
"""
NOT_IN_FILES: Final = "select purpose, table_name, people from lifecycle.consents_not_in_files(%s)"
AGAINST: Final = "select purpose, table_name, rows from lifecycle.rows_against_consent(%s) where rows > 0"
BATCH: Final = 1000


@dataclass(frozen=True)
class ConsentRun:
    """People who were looked at; decisions that were carried out, by purpose; rows that were cleared, by table.

    `thawed` rows were taken out of cold files to be looked at; those that are to be cleared are among `cleared`.
    """

    people: int = 0
    withdrawn: Mapping[str, int] = field(default_factory=dict)
    granted: Mapping[str, int] = field(default_factory=dict)
    cleared: Mapping[str, int] = field(default_factory=dict)
    thawed: int = 0


@dataclass(frozen=True)
class AgainstConsent:
    """Rows of a table that are held for a purpose against their person's decision."""

    purpose: str
    table: str
    rows: int


@dataclass(frozen=True)
class NotInFiles:
    """People whose withdrawal no cold file of a table was looked through for: rows there may stand against consent."""

    purpose: str
    table: str
    people: int


def apply_consents(
    conn: Connection,
    *,
    storage: ColdStorage | None = None,
    batch_size: int = BATCH,
    pacing: Pacing = UNPACED,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
) -> ConsentRun:
    """Look at everybody who ever decided, one batch in one transaction after the other.

    `storage` is where months are that left the database. Raises RefreshError when a purpose failed (the others are
    carried out, batches before stay), BusyError when rows stayed locked, psycopg's LockNotAvailable when another
    session does the same, UndefinedFunction before `lifecycle migrate`. When cold files could not be looked through,
    everything is carried out in the database, then that error is raised: RefusedError without `storage`,
    ColdStorageError when it is away.
    """
    looked, unread = LookedAt(), None
    try:
        looked = thaw_rows_of_refusing(conn, storage, progress)
    except LifecycleError as error:
        unread = error
    run = _apply_in_database(conn, batch_size, pacing, progress)
    if unread is not None:
        raise unread
    note_as_looked_at(conn, looked)
    return replace(run, thawed=looked.rows)


def _apply_in_database(
    conn: Connection, batch_size: int, pacing: Pacing, progress: Callable[[str, float], None]
) -> ConsentRun:
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


def not_in_files(conn: Connection, slack: str = "0") -> tuple[NotInFiles, ...]:
    """Where nobody has looked yet, of decisions that are older than `slack`. Nothing without cold months."""
    with without_statement_timeout(conn):
        return tuple(NotInFiles(*row) for row in rows(conn, NOT_IN_FILES, (slack,)))


def rows_against_consent(conn: Connection, slack: str = "0") -> tuple[AgainstConsent, ...]:
    """What stands against consent in the database; decisions and rows younger than `slack` wait for the next run.

    It knows nothing of rows in cold files: not_in_files() says of whom there may be some.
    """
    with without_statement_timeout(conn):
        return tuple(AgainstConsent(*row) for row in rows(conn, AGAINST, (slack,)))
