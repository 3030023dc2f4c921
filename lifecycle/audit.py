"""The ledger: how a run of a job ended, in the application's own `audit_events`."""

from dataclasses import dataclass
from typing import Final

from psycopg.types.json import Jsonb

from lifecycle.database import Connection

# One session at a time per run: two sensors that look at once would both find no row and both write one.
LOCK_RUN: Final = "select pg_advisory_xact_lock(hashtextextended('lifecycle.audit.' || %(run_id)s, 0))"
INSERT_OUTCOME: Final = """
insert into public.audit_events (entity_type, entity_id, event_type, payload)
select 'job', %(job)s, %(event_type)s, %(payload)s
 where not exists (select from public.audit_events
                    where entity_type = 'job' and entity_id = %(job)s
                      and event_type in ('job_success', 'job_failure') and payload ->> 'run_id' = %(run_id)s)
"""


@dataclass(frozen=True)
class JobOutcome:
    """How one run ended.

    `error` is a single line and None for a success; `step` is where it failed, when that is known;
    `duration_ms` is None for a run that never started.
    """

    job: str
    run_id: str
    duration_ms: int | None
    error: str | None = None
    step: str | None = None

    @property
    def event_type(self) -> str:
        return "job_success" if self.error is None else "job_failure"

    @property
    def payload(self) -> dict[str, str | int | None]:
        payload: dict[str, str | int | None] = {"run_id": self.run_id, "duration_ms": self.duration_ms}
        if self.error is not None:
            # PostgreSQL's further lines quote rows, and the ledger holds no personal data.
            payload |= {"error": self.error.strip().partition("\n")[0], "step": self.step}
        return payload


def record_job_outcome(conn: Connection, outcome: JobOutcome) -> bool:
    """Write one `job_success` or `job_failure` row; False when the run already has its row.

    Raises psycopg.Error when the ledger cannot be written.
    """
    values = {
        "job": outcome.job,
        "run_id": outcome.run_id,
        "event_type": outcome.event_type,
        "payload": Jsonb(outcome.payload),
    }
    with conn.transaction():
        conn.execute(LOCK_RUN, values)
        return conn.execute(INSERT_OUTCOME, values).rowcount == 1
