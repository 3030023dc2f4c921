"""Which messages are next, and their text: read without a lock that outlasts the reading."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.policy import ChatArchivePolicy

# Older than the policy keeps, not brought back by somebody, and behind the last one that was looked at.
DUE: Final = """
       m.created_at < %(cutoff)s
   and (%(at)s::timestamptz is null or (m.created_at, m.id) > (%(at)s::timestamptz, %(id)s::uuid))
   and not exists (select from lifecycle.restored_chat_sessions r
                    where r.session_id = m.session_id and r.until > %(now)s)
"""
# PostgreSQL's calendar begins in 4714 BC; before it lies only -infinity, which has no day of its own.
NEXT_DAYS: Final = f"""
select d.day::text, greatest(d.day + interval '1 day', '4714-11-24 00:00+00 BC')::text
  from (select distinct date_trunc('day', n.created_at, 'UTC') as day
          from (select m.created_at from public.chat_messages m
                 where {DUE} order by m.created_at, m.id limit %(batch_size)s) n) d
 order by d.day
"""  # noqa: S608 - constants only
# One text may be as large as thousands of others: the batch ends with the one that fills it.
READ: Final = f"""
select b.id, b.session_id, b.created_at::text, convert_to(b.content, 'UTF8')
  from (select d.id, d.session_id, d.created_at, d.content,
               sum(octet_length(d.content)) over (order by d.created_at, d.id) - octet_length(d.content) as before
          from (select m.id, m.session_id, m.created_at, m.content from public.chat_messages m
                 where {DUE} and m.created_at < %(end)s::timestamptz
                   and date_trunc('day', m.created_at, 'UTC') = any (%(days)s::timestamptz[])
                 order by m.created_at, m.id limit %(batch_size)s) d) b
 where b.before < %(batch_bytes)s order by b.created_at, b.id
"""  # noqa: S608 - constants only
COUNT: Final = f"""
select count(*) from (select from public.chat_messages m where {DUE} limit %(limit)s) due
"""  # noqa: S608 - constants only


@dataclass(frozen=True)
class Place:
    """The last message that was looked at, in order of time; `at` is text, as Python knows no -infinity."""

    at: str | None = None
    id: UUID | None = None


@dataclass(frozen=True)
class Day:
    """A UTC day with messages that are due. `name` identifies it; `end` is where the next one begins."""

    name: str
    end: str


def start_of_next(day: Day) -> Place:
    """Before the first message behind a day."""
    return Place(day.end, UUID(int=0))


@dataclass(frozen=True)
class Due:
    """What a run archives: messages before `cutoff`, as seen at `now`."""

    now: datetime
    policy: ChatArchivePolicy

    def values(self, place: Place) -> dict[str, Any]:
        return {
            "now": self.now,
            "cutoff": self.now - self.policy.keep_for,
            "batch_size": self.policy.batch_size,
            "batch_bytes": self.policy.batch_bytes,
            "at": place.at,
            "id": place.id,
        }


def count_due(conn: Connection, due: Due, limit: int) -> int:
    """How many messages are due, counted no further than `limit`."""
    with without_statement_timeout(conn):
        return int(value(conn, COUNT, due.values(Place()) | {"limit": limit}))


def next_days(conn: Connection, due: Due, place: Place) -> tuple[Day, ...]:
    """The days of the next messages that are due behind `place`, as many as a batch takes; none at the end.

    In the caller's transaction, which is left without a lock on the table, as by `read_batch`.
    """
    with _without_locks(conn):
        return tuple(Day(*row) for row in rows(conn, NEXT_DAYS, due.values(place)))


def read_batch(conn: Connection, due: Due, place: Place, days: Sequence[Day]) -> list[tuple[UUID, UUID, str, bytes]]:
    """Id, session, moment and text of the next messages of these days that are due behind `place`, oldest first.

    A SELECT with binary results: COPY hands out one row at a time, and asking for each costs more than the row.
    """
    values = due.values(place) | {"days": [day.name for day in days], "end": days[-1].end}
    with _without_locks(conn), conn.cursor(binary=True) as cursor:
        return cursor.execute(READ.encode(), values).fetchall()


def _without_locks(conn: Connection) -> AbstractContextManager[object]:
    """A savepoint that is rolled back, and what was locked behind it let go; the transaction keeps its claims.

    A transaction that only reads locks its tables until it ends; an ALTER TABLE would wait for it, and everybody else
    for the ALTER TABLE.
    """
    return conn.transaction(force_rollback=True)
