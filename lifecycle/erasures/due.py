"""Deletion requests that are not carried out, against their deadline: one count for the weekly review, the check of the
deadline, alerts and `lifecycle erasure status`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lifecycle.database import Connection, rows, value
from lifecycle.language import _, numbered

QUEUE_EXISTS: Final = "select to_regclass('lifecycle.deletion_jobs') is not null"
COUNTED: Final = """
select count(*) filter (where open),
       count(*) filter (where open and due_at > %(now)s and due_at <= %(now)s + interval '7 days'),
       count(*) filter (where open and due_at <= %(now)s),
       floor(extract(epoch from %(now)s - min(requested_at) filter (where open and isfinite(requested_at)))
             / 86400)::int,
       count(*) filter (where given_up),
       count(*) filter (where state = 'held'),
       count(*) filter (where state = 'failed' and not given_up)
  from lifecycle.deletions_asked_for()
"""
# A request of the application's back end may stand at infinity, which no calendar of Python's knows.
LISTED: Final = """
select request_id, state, given_up, least(greatest(due_at, '0001-01-02'), '9999-12-30'),
       case when until is not null then least(greatest(until, '0001-01-02'), '9999-12-30') end, told
  from lifecycle.deletions_asked_for() order by given_up desc, due_at, request_id limit %s
"""


@dataclass(frozen=True)
class DeletionsDue:
    """Deletion requests not carried out.

    `open` ones count against their deadline: `due_soon` is within 7 days, `overdue` past it; `held` and `tried_again`
    are among them. `failed` ones need a person: their tries are used up, or they failed before this project came, and
    then they are not open. `oldest_days` is the age of the oldest open one.
    """

    open: int = 0
    due_soon: int = 0
    overdue: int = 0
    oldest_days: int | None = None
    failed: int = 0
    held: int = 0
    tried_again: int = 0


@dataclass(frozen=True)
class WaitingRequest:
    """One of them. `until` is the end of a hold or the next try, `told` why it waits: never a value of a row."""

    request_id: str
    state: str
    needs_a_person: bool
    due_at: datetime
    until: datetime | None
    told: str | None


def deletions_due(conn: Connection, now: datetime) -> DeletionsDue | None:
    """Deletion requests against their deadline; None where no personal data is declared."""
    if not value(conn, QUEUE_EXISTS):
        return None
    return DeletionsDue(*rows(conn, COUNTED, {"now": now})[0])


def waiting_requests(conn: Connection, limit: int) -> tuple[WaitingRequest, ...]:
    """At most `limit` of them: those that need a person first, then the most urgent."""
    return tuple(WaitingRequest(*row) for row in rows(conn, LISTED, (limit,)))


def deletions_text(due: DeletionsDue) -> str:
    """The counts as every message tells them."""
    comma = _(", ")
    among = [_("{count} held").format(count=due.held)] if due.held else []
    among += [_("{count} failed and tried again").format(count=due.tried_again)] if due.tried_again else []
    open_told = _("{count} open ({among})") if among else _("{count} open")
    parts = [
        _("{count} overdue").format(count=due.overdue),
        _("{count} due within 7 days").format(count=due.due_soon),
        open_told.format(count=due.open, among=comma.join(among)),
    ]
    if due.oldest_days is not None:
        parts.append(_("oldest {days} days").format(days=due.oldest_days))
    if due.failed:
        told = numbered("{count} failed and needs a person", "{count} failed and need a person", due.failed)
        parts.append(told.format(count=due.failed))
    return comma.join(parts)
