"""What fails at present: causes are reported to the database, which writes the messages about them."""

from typing import Final

from psycopg.types.json import Jsonb

from lifecycle.database import Connection, rows
from lifecycle.language import _, translatable

# How a cause begins that no database function reports: lifecycle.link_run tells these apart by the same words.
RUN: Final = "run of "
CHECK: Final = "check "
STALE: Final = "stale "
# How people read them.
TITLES: Final = {
    RUN: translatable("run of {name}"),
    CHECK: translatable("check {name}"),
    STALE: translatable("stale {name}"),
}

# A database function may hold its job's conversation for as long as it works. Rather look again later.
LOCK_TIMEOUT: Final = "set local lock_timeout = '10s'"
REPORT: Final = "select lifecycle.report_outcome(%(job)s, %(cause)s, %(error)s, %(run_id)s)"
RECORD: Final = "select lifecycle.record_outcome(%(job)s, %(cause)s, %(error)s, %(details)s)"
LINK_RUN: Final = "select lifecycle.link_run(%(job)s, %(run_id)s, now() - %(ago)s * interval '1 second')"
OPEN_CAUSES: Final = """
select job, cause from lifecycle.open_problems
 where (%(job)s::text is null or job = %(job)s) and starts_with(cause, %(prefix)s) order by job, cause
"""


def cause_title(cause: str) -> str:
    """What failed, as a heading."""
    for prefix, title in TITLES.items():
        if cause.startswith(prefix):
            return _(title).format(name=cause.removeprefix(prefix))
    return cause or _("the run")


def report(conn: Connection, job: str, cause: str, error: str | None, run_id: str | None = None) -> None:
    """Say how one cause of a job fares: `error` is what fails, None means that it works."""
    conn.execute(REPORT, {"job": job, "cause": cause, "error": error, "run_id": run_id})


def record(conn: Connection, job: str, cause: str, error: str | None, **details: str) -> None:
    """The same for a fact that has no row in the ledger yet: ledger and message in one transaction.

    Raises psycopg.errors.LockNotAvailable while a database function of that job works on.
    """
    with conn.transaction():
        conn.execute(LOCK_TIMEOUT)
        conn.execute(RECORD, {"job": job, "cause": cause, "error": error, "details": Jsonb(details)})


def open_causes(conn: Connection, prefix: str, job: str | None = None) -> list[tuple[str, str]]:
    """(job, cause) of what fails now and begins with `prefix`, of one job or of all."""
    return [(row[0], row[1]) for row in rows(conn, OPEN_CAUSES, {"job": job, "prefix": prefix})]
