"""The ledger: how a run of a job ended, in the application's own table, and what people must hear of it."""

import time
from dataclasses import dataclass, field
from typing import Final

from psycopg.types.json import Jsonb

from lifecycle.database import Connection, value
from lifecycle.ledger.problems import CHECK, LINK_RUN, LOCK_TIMEOUT, RUN, open_causes, record, report

WRITE_RUN: Final = "select lifecycle.write_run(%(job)s, %(success)s, %(payload)s, %(error)s)"
CANCELED: Final = "canceled"


@dataclass(frozen=True)
class CheckOutcome:
    """How a check of an asset ended in a run.

    `job` is the one that makes the asset. `error` is None unless the check failed with severity ERROR.
    """

    job: str
    asset: str
    check: str
    error: str | None = None

    @property
    def cause(self) -> str:
        return f"{CHECK}{self.asset} {self.check}"


@dataclass(frozen=True)
class JobOutcome:
    """How one run ended.

    `error` is None for a success; of a failure the database keeps the first line, without values of rows. `step` is
    where it failed, when that is known; `duration_ms` is None for a run that never started; `ended_ago` is how many
    seconds before `seen_at` (of time.monotonic()) it ended.

    `about` is the job whose conversation hears of it, when that is not `job`. `part` says what a run covered that
    did not do its whole job. `proves_part` is False when its success says nothing of that part, as with one of
    several runs of a backfill.
    """

    job: str
    run_id: str
    duration_ms: int | None
    error: str | None = None
    step: str | None = None
    about: str | None = None
    part: str | None = None
    proves_part: bool = True
    ended_ago: float = 0
    seen_at: float = field(default_factory=time.monotonic)
    checks: tuple[CheckOutcome, ...] = ()

    @property
    def payload(self) -> dict[str, str | int | None]:
        payload: dict[str, str | int | None] = {"run_id": self.run_id, "duration_ms": self.duration_ms}
        if self.error is not None:
            payload |= {"step": self.step}
        return payload


def record_job_outcome(conn: Connection, outcome: JobOutcome) -> bool:
    """Write one `job_success` or `job_failure` row and report it; False when the run already has its row.

    Ledger and messages are one transaction. Raises psycopg.Error when they cannot be written.
    """
    values = {
        "job": outcome.job,
        "success": outcome.error is None,
        "payload": Jsonb(outcome.payload),
        "error": outcome.error,
    }
    with conn.transaction():
        conn.execute(LOCK_TIMEOUT)
        if not value(conn, WRITE_RUN, values):
            return False
        # A canceled run is somebody's wish: it proves nothing and alarms nobody.
        if outcome.error != CANCELED:
            _report_run(conn, outcome)
        for check in outcome.checks:
            _report_check(conn, check, outcome.run_id)
        return True


def _report_run(conn: Connection, outcome: JobOutcome) -> None:
    job, part = outcome.about or outcome.job, outcome.part
    cause = f"{RUN}{part}" if part else ""
    if outcome.error is not None:
        # What the run reported itself must not look older than the run, however long this outcome waited its turn.
        ago = outcome.ended_ago + (outcome.duration_ms or 0) / 1000 + time.monotonic() - outcome.seen_at
        if not value(conn, LINK_RUN, {"job": job, "run_id": outcome.run_id, "ago": ago}):
            report(conn, job, cause, outcome.error, outcome.run_id)
    elif part is None:
        for _, healed in [(job, ""), *open_causes(conn, RUN, job)]:
            report(conn, job, healed, None)
    elif outcome.proves_part:
        report(conn, job, cause, None)


def _report_check(conn: Connection, check: CheckOutcome, run_id: str) -> None:
    """A check that fails, or passes again, is a fact of its own: the run it belongs to may have succeeded."""
    known = (check.job, check.cause) in open_causes(conn, check.cause, check.job)
    if check.error is not None or known:
        record(conn, check.job, check.cause, check.error, seen_in_run=run_id)
