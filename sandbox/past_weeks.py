"""A past for a database that is minutes old: runs in the ledger and sizes by the day, for the weekly review.

Nothing of it happened. It is told by the week, so it needs no rows of people and no objects that were not there.
"""

import random
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from psycopg.types.json import Jsonb

from lifecycle.database import connect, value
from sandbox.rows.world import make_uuid

HAS_A_PAST: Final = """
select exists (select from public.audit_events where entity_type = 'job' and created_at < now() - interval '2 days')
"""
RUN: Final = """
insert into public.audit_events (entity_type, entity_id, event_type, payload, created_at)
values ('job', %s, %s, %s, %s)
"""
MEASURE: Final = "select lifecycle.record_storage()"
# Each relation shrinks by its own pace, at most by a hundredth of today's size per day back.
SIZES: Final = """
insert into lifecycle.storage_history (measured_on, relation, bytes, row_estimate)
select h.measured_on - day, h.relation, round(h.bytes * (1 - pace * day)), round(h.row_estimate * (1 - pace * day))
  from lifecycle.storage_history h
 cross join generate_series(1, 60) day
 cross join lateral (select abs(hashtext(h.relation) % 100) / 10000.0 as pace) p
 where h.measured_on = (select max(measured_on) from lifecycle.storage_history)
    on conflict (measured_on, relation) do update set bytes = excluded.bytes, row_estimate = excluded.row_estimate
"""
FAILURES: Final = 0.006
LONGEST_TYPICAL_MS: Final = 9000


def make_up_past_weeks(url: str, ticks: Iterable[tuple[str, datetime]], *, seed: int = 1) -> int:
    """Write an outcome for each (job, moment) and sizes for sixty days; the number of outcomes.

    The sizes lead to those of now, which are measured. A database with a past keeps its own: 0.
    """
    rng = random.Random(seed)
    typical: dict[str, float] = {}
    outcomes = []
    for job, at in ticks:
        pace = typical.setdefault(job, rng.uniform(300, LONGEST_TYPICAL_MS))
        payload = {"run_id": make_uuid(rng), "duration_ms": round(pace * rng.lognormvariate(0, 0.25))}
        failed = rng.random() < FAILURES
        payload |= {"error": "a connection was lost", "step": None} if failed else {}
        outcomes.append((job, "job_failure" if failed else "job_success", Jsonb(payload), at))
    with connect(url, application_name="sandbox") as conn, conn.transaction():
        if value(conn, HAS_A_PAST):
            return 0
        with conn.cursor() as cursor:
            cursor.executemany(RUN, outcomes)
        # Twice: the rows that this writes count among the sizes.
        for _ in range(2):
            conn.execute(MEASURE)
            conn.execute(SIZES)
    return len(outcomes)
