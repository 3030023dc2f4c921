"""The queue of deletion requests: fill it, hold, release or cancel a request, and say how it stands.

A request is named by its own id, never by the account's. What is returned are counts, states and ids of requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.declarations.application import Application
from lifecycle.erasures.due import QUEUE_EXISTS, DeletionsDue, WaitingRequest, deletions_due, waiting_requests
from lifecycle.errors import RefusedError

ENQUEUE: Final = "select request_id, state, reason from public.enqueue_deletion_jobs()"
HOLD: Final = "select public.hold_deletion_request(%s, %s, %s)"
HELD_UNTIL: Final = """
select case when j.hold_until is not null then least(j.hold_until, '9999-12-30') end,
       least(greatest(j.due_at, '0001-01-02'), '9999-12-30')
  from lifecycle.deletion_jobs j where j.request_id = lifecycle.carried_out_under(%s)
"""
RELEASE: Final = "select public.release_deletion_request(%s, %s)"
REQUEST: Final = "select public.request_erasure(%s, %s)"
CANCEL: Final = "select public.cancel_deletion_request(%s, %s)"
# What the next claim would take, the most urgent first.
DUE: Final = """
select j.request_id::text, j.attempts, j.recurrences, extract(epoch from j.next_attempt_at)::bigint
  from lifecycle.deletion_jobs j
 where j.state not in ('verified', 'cancelled') and lifecycle.is_due(j)
 order by j.due_at, j.id limit %s
"""
STATES: Final = "select state, count(*) from lifecycle.deletion_jobs group by state order by state"
# A request of the application's back end may stand at infinity, which no calendar of Python's knows.
STANDING: Final = """
select count(*) filter (where state = 'queued' and not_before > now()),
       min(due_at) filter (where state not in ('verified', 'cancelled') and isfinite(due_at)),
       lifecycle.requests_without_job()
  from lifecycle.deletion_jobs
"""
TABLE_EXISTS: Final = "select to_regclass(%s) is not null"
# Before `lifecycle migrate` nothing else is known of them.
PENDING: Final = sql.SQL("select count(*) from {table} r where r.{status}::text in ({pending}, {processing})")
# More fit on no screen, and the most urgent come first.
MOST_LISTED: Final = 50


@dataclass(frozen=True)
class Changed:
    """A job that enqueue_deletion_jobs() made, held, released or queued again."""

    request_id: str
    state: str
    reason: str | None


@dataclass(frozen=True)
class DueJob:
    """A job that could be claimed now. The others tell one wait of a request from the next; `since` is in seconds."""

    request_id: str
    attempts: int
    recurrences: int
    since: int = 0


@dataclass(frozen=True)
class QueueStatus:
    """Requests by state. `in_grace` of the queued ones wait for the end of their grace period; `without_job` were not
    enqueued yet; `next_deadline` is that of the most urgent open one; `due` counts all that is not carried out as the
    weekly review does, `listed` names it. Before `lifecycle migrate` there is no `due`."""

    states: Mapping[str, int]
    in_grace: int
    without_job: int
    next_deadline: datetime | None
    due: DeletionsDue | None = None
    listed: tuple[WaitingRequest, ...] = ()

    @property
    def waiting(self) -> int:
        """Everything that nobody has begun, or that is tried again."""
        return self.states.get("queued", 0) + self.states.get("failed", 0) + self.without_job

    @property
    def held(self) -> int:
        return self.states.get("held", 0)


def enqueue(conn: Connection) -> tuple[Changed, ...]:
    """Make jobs of new requests, hold and release by rule; psycopg's UndefinedFunction before `lifecycle migrate`."""
    with without_statement_timeout(conn):
        return tuple(Changed(*row) for row in rows(conn, ENQUEUE))


def request(conn: Connection, application: Application, person: str, reason: str | None = None) -> int:
    """Ask for somebody's erasure in our table of requests; the id of the request, of the open one if there is one.

    RefusedError where the application has a table of its own; psycopg's NoDataFound when nobody has this key.
    """
    data = application.personal_data
    if data is None or not data.requests.are_ours:
        where = "personal_data.yaml declares none" if data is None else f"they stand in {data.requests.table}"
        raise RefusedError(
            f"deletion requests of this application are not kept by this project: {where}. Write the request there"
        )
    with without_statement_timeout(conn):
        return int(value(conn, REQUEST, (person, reason)))


def due_jobs(conn: Connection, limit: int) -> tuple[DueJob, ...]:
    """At most `limit` jobs that a worker could claim now, the most urgent first."""
    with without_statement_timeout(conn):
        return tuple(DueJob(*row) for row in rows(conn, DUE, (limit,)))


def hold(conn: Connection, request_id: str, reason: str, until: datetime | None = None) -> str:
    """Keep a request from being carried out until then, or until it is released; its new state.

    Raises psycopg.Error with the reason when the request is unknown or has begun, as `release` and `cancel` do.
    """
    with without_statement_timeout(conn):
        return str(value(conn, HOLD, (request_id, reason, until)))


def standing(conn: Connection, request_id: str) -> tuple[datetime | None, datetime]:
    """The end of a request's hold (None: until somebody releases it) and its deadline."""
    found: tuple[datetime | None, datetime] = rows(conn, HELD_UNTIL, (request_id,))[0]
    return found


def release(conn: Connection, request_id: str, *, confirm: bool = False) -> str:
    """End a hold; its new state. One that this project's own rules hold ends by itself; one that reaches far beyond the
    person's rows ends when somebody confirms it."""
    with without_statement_timeout(conn):
        return str(value(conn, RELEASE, (request_id, confirm)))


def cancel(conn: Connection, request_id: str, reason: str) -> str:
    """Never carry the request out; its new state."""
    with without_statement_timeout(conn):
        return str(value(conn, CANCEL, (request_id, reason)))


def queue_status(conn: Connection, application: Application) -> QueueStatus:
    """How the queue stands. Before `lifecycle migrate` every open request counts as one without a job."""
    if not value(conn, QUEUE_EXISTS):
        return QueueStatus({}, 0, _open_requests(conn, application), None)
    in_grace, next_deadline, without_job = rows(conn, STANDING)[0]
    return QueueStatus(
        states=dict(rows(conn, STATES)),
        in_grace=in_grace,
        without_job=without_job,
        next_deadline=next_deadline,
        due=deletions_due(conn, datetime.now(UTC)),
        listed=waiting_requests(conn, MOST_LISTED),
    )


def _open_requests(conn: Connection, application: Application) -> int:
    if application.personal_data is None:
        return 0
    asked = application.personal_data.requests
    # Ours is made by the first migration; what the application lacks is told by `lifecycle check`.
    if not value(conn, TABLE_EXISTS, (str(asked.table),)):
        return 0
    query = PENDING.format(
        table=asked.table.identifier,
        status=sql.Identifier(asked.status),
        pending=sql.Literal(asked.words.pending),
        processing=sql.Literal(asked.words.processing),
    )
    return int(conn.execute(query).fetchall()[0][0])
