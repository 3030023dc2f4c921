"""One batch of deletion requests, from the claim to the receipts.

Each step is a database function in a transaction of its own (the SQL files beside this one). What is added here is what
the database cannot do, the search of compressed text and of cold files, and an account of what happened, in counts. A
worker that is killed loses its jobs when their lease runs out, and the next one goes on where it stopped.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from psycopg.types.json import Jsonb

from lifecycle.cold.storage import ColdStorage
from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.erasures.cold_files import ColdErasure, ColdPeople, failure_in_cold_files
from lifecycle.erasures.compressed import CompressedSearch, search_compressed
from lifecycle.errors import LifecycleError
from lifecycle.language import _
from lifecycle.pacing import UNPACED, Pacing

CLAIM: Final = "select lifecycle.claim_deletion_jobs(%s)::text"
JOBS: Final = "select array_agg(id order by id) from lifecycle.deletion_jobs where batch_id = %s"
STEP: Final = "select lifecycle.erasure_step(%s, %s, %s::oid::regclass, %s::jsonb)"
REMAINING: Final = "select count(*) from lifecycle.deletion_jobs where batch_id = %s and state = 'running'"
RELATIONS: Final = """
select relation::oid::bigint, table_name, bytes from lifecycle.relations_to_search() order by place
"""
FAIL: Final = "select lifecycle.fail_erasure_batch(%s, %s, %s)"
OUTCOME: Final = """
select count(*) filter (where state = 'verified' and batch_id = %(batch)s),
       count(*) filter (where state = 'failed'),
       count(*) filter (where state <> 'failed' and batch_id is distinct from %(batch)s)
  from lifecycle.deletion_jobs where id = any (%(jobs)s)
"""
ERRORS: Final = """
select request_id::text, attempts, last_error from lifecycle.deletion_jobs
 where id = any (%(jobs)s) and state = 'failed' order by request_id
"""
COUNTS: Final = """
select table_name, action, sum(rows)::bigint from lifecycle.erasure_counts
 where job_id = any (%(jobs)s) group by 1, 2 order by 1, 2
"""
FINDINGS: Final = """
select f.treatment, f.table_name || '.' || f.column_name, sum(f.rows)::bigint,
       coalesce((lifecycle.treatment_of(f.table_name, f.column_name)).reason, 'not on the map of personal data')
  from lifecycle.erasure_findings f where f.batch_id = %(batch)s
 group by 1, 2, 4 order by 1, 2
"""
SEARCHED: Final = """
select count(*), coalesce(sum(columns), 0)::bigint, coalesce(sum(rows), 0)::bigint,
       coalesce(sum(duration_ms), 0)::bigint
  from lifecycle.erasure_scans where batch_id = %(batch)s
"""
PROOFS: Final = """
select r.id, r.request_id::text, extract(epoch from r.issued_at - j.seen_at)::double precision, j.sign_in_user
  from lifecycle.deletion_jobs j
  join lateral (select r.* from lifecycle.erasure_receipts r
                 where r.request_id = j.request_id order by r.id desc limit 1) r on true
 where j.id = any (%(jobs)s) and j.state = 'verified' and j.batch_id = %(batch)s order by r.id
"""
# Another session refreshes a materialized view: as patient as public.process_deletion_jobs().
REFRESH_TRIES: Final = 120
REFRESH_PAUSE: Final = 1.0
LONGEST_REST: Final = 60.0  # between two steps; the lease of the batch lasts for minutes
LOCK_NOT_AVAILABLE: Final = "55P03"


@dataclass(frozen=True)
class FailedRequest:
    """A request that is tried again later. `error` names tables and columns, never a value."""

    request_id: str
    attempts: int
    error: str


@dataclass(frozen=True)
class Residue:
    """Rows of one column in which the search found people of the batch: `exempt` (may stay), `redacted` (taken out of
    others' free form) or `residual` (fails the job)."""

    treatment: str
    column: str
    rows: int
    reason: str


@dataclass(frozen=True)
class Proof:
    """A receipt: its number, its request, and the seconds to it from when the queue saw the request."""

    receipt: int
    request_id: str
    seconds: float
    sign_in_user: str


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch's requests. `taken_over` ones belong to another worker by now, since this one was
    too slow, or are held because they reach far.

    `rows` maps (table, action) to rows. `seconds` maps each step to the time it took. The search counts relations,
    columns and rows.
    """

    batch: str
    verified: int
    failed: tuple[FailedRequest, ...]
    taken_over: int
    rows: Mapping[tuple[str, str], int]
    findings: tuple[Residue, ...]
    seconds: Mapping[str, float]
    searched_relations: int
    searched_columns: int
    searched_rows: int
    search_milliseconds: int
    compressed: CompressedSearch
    cold: ColdErasure
    proofs: tuple[Proof, ...]

    @property
    def requests(self) -> int:
        return self.verified + len(self.failed) + self.taken_over

    def of_treatment(self, treatment: str) -> tuple[Residue, ...]:
        return tuple(finding for finding in self.findings if finding.treatment == treatment)


@dataclass
class _Batch:
    """A batch at work: its name, how to report, and the seconds of its steps so far."""

    conn: Connection
    name: str
    jobs: list[int]
    progress: Callable[[str, float], None]
    sleep: Callable[[float], None]
    seconds: dict[str, float]
    pacing: Pacing
    cold: ColdPeople
    compressed: CompressedSearch = field(default_factory=CompressedSearch)

    def step(self, step: str, relation: int | None = None, outside: Jsonb | None = None) -> str:
        with self.pacing.work(LONGEST_REST):
            started = time.perf_counter()
            with without_statement_timeout(self.conn):
                outcome = str(value(self.conn, STEP, (self.name, step, relation, outside)))
            self.seconds[step] = self.seconds.get(step, 0) + time.perf_counter() - started
        return outcome

    def fail(self, error: str, code: str) -> None:
        self.conn.execute(FAIL.encode(), (self.name, error, code))


def erase_batch(
    conn: Connection,
    *,
    batch_size: int | None = None,
    storage: ColdStorage | None = None,
    pacing: Pacing = UNPACED,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
    sleep: Callable[[float], None] = time.sleep,
) -> BatchResult | None:
    """Claim the most urgent jobs, erase and prove them; None when no job is due.

    The session keeps no state between transactions. `batch_size` is the policy's unless given; `storage` is where
    months are that left the database: without it no request is verified while there are any. What goes wrong with a job
    fails the job, not the caller; psycopg.Error is for a connection that breaks and a database that is not migrated.
    """
    name = value(conn, CLAIM, (batch_size,))
    if name is None:
        return None
    jobs = value(conn, JOBS, (name,))
    cold = ColdPeople(conn, name, jobs, storage, progress)
    batch = _Batch(conn, name, jobs, progress, sleep, {}, pacing, cold)
    for step in (_collect, _thaw, _erase, _sign_in_users, _refresh, _thaw_words, _search, _unpack, _conclude):
        if not step(batch):
            break
    return _result(batch)


def _collect(batch: _Batch) -> bool:
    batch.progress(_("collecting keys"), 0.0)
    return batch.step("collect") != "failed"


def _thaw(batch: _Batch) -> bool:
    """Rows that come out of files may tell of further keys, or that somebody else has one."""
    while True:
        found = _in_cold_files(batch, batch.cold.thaw_rows_by_key)
        if not found:
            return found is not None
        if batch.step("collect") == "failed":
            return False


def _thaw_words(batch: _Batch) -> bool:
    return all(_in_cold_files(batch, work) is not None for work in (batch.cold.thaw_rows_by_word, batch.cold.remove))


def _in_cold_files(batch: _Batch, work: Callable[[], bool]) -> bool | None:
    """What `work` says; None when it failed: the jobs are tried again, and nothing is taken for erased."""
    started = time.perf_counter()
    try:
        outcome = work()
    except Exception as error:
        if batch.conn.closed:
            raise
        batch.fail(*failure_in_cold_files(error))
        return None
    batch.seconds["cold"] = batch.seconds.get("cold", 0) + time.perf_counter() - started
    return outcome


def _erase(batch: _Batch) -> bool:
    while True:
        remaining = value(batch.conn, REMAINING, (batch.name,))
        batch.progress(_("erasing"), 1 - remaining / len(batch.jobs))
        outcome = batch.step("erase")
        if outcome != "again":
            return outcome != "failed"


def _sign_in_users(batch: _Batch) -> bool:
    batch.progress(_("sign-in users"), 0.0)
    return batch.step("sign_in_users") != "failed"


def _refresh(batch: _Batch) -> bool:
    for attempt in range(REFRESH_TRIES):
        batch.progress(_("refreshing materialized views"), attempt / REFRESH_TRIES)
        outcome = batch.step("refresh")
        if outcome != "again":
            return outcome != "failed"
        batch.sleep(REFRESH_PAUSE)
    batch.fail("another session kept refreshing a materialized view", LOCK_NOT_AVAILABLE)
    return False


def _search(batch: _Batch) -> bool:
    relations = rows(batch.conn, RELATIONS)
    total, done = sum(size for _, _, size in relations) or 1, 0
    for relation, table, size in relations:
        batch.progress(_("searching {table}").format(table=table), done / total)
        if batch.step("search", relation) == "failed":
            return False
        done += size
    return True


def _unpack(batch: _Batch) -> bool:
    started = time.perf_counter()
    try:
        with without_statement_timeout(batch.conn):
            batch.compressed = search_compressed(batch.conn, batch.name, progress=batch.progress)
    except Exception as error:
        if batch.conn.closed:
            raise
        # Its message might quote what it choked on.
        code = getattr(error, "sqlstate", None) or ""
        batch.fail(f"compressed text could not be searched: {type(error).__name__} {code}".strip(), code)
        return False
    batch.seconds["unpack"] = time.perf_counter() - started
    return True


def _conclude(batch: _Batch) -> bool:
    batch.progress(_("writing receipts"), 1.0)
    return (
        batch.step("conclude", outside=Jsonb({"compressed": asdict(batch.compressed), "cold": batch.cold.done.told()}))
        != "failed"
    )


def _result(batch: _Batch) -> BatchResult:
    values = {"batch": batch.name, "jobs": batch.jobs}
    verified, failed, taken_over = rows(batch.conn, OUTCOME, values)[0]
    relations, columns, searched, milliseconds = rows(batch.conn, SEARCHED, values)[0]
    failures = tuple(FailedRequest(*row) for row in rows(batch.conn, ERRORS, values))
    if verified + failed + taken_over != len(batch.jobs):
        raise LifecycleError(f"batch {batch.name} was not concluded: its jobs are claimed again when their lease ends")
    return BatchResult(
        batch=batch.name,
        verified=verified,
        failed=failures,
        taken_over=taken_over,
        rows={(table, action): count for table, action, count in rows(batch.conn, COUNTS, values)},
        findings=tuple(Residue(*row) for row in rows(batch.conn, FINDINGS, values)),
        seconds=dict(batch.seconds),
        searched_relations=relations,
        searched_columns=columns,
        searched_rows=searched,
        search_milliseconds=milliseconds,
        compressed=batch.compressed,
        cold=batch.cold.done,
        proofs=tuple(Proof(*row) for row in rows(batch.conn, PROOFS, values)),
    )
