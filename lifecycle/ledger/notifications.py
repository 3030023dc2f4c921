"""The outbox: messages wait in `lifecycle.notifications` until somebody has handed them over.

Every function here is one short transaction; none is open while a message is on its way. New messages go in the
order they came: while the first cannot be sent, later ones wait. An edit of a message that was sent waits for nobody
and keeps nobody waiting.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from lifecycle.database import Connection, value

# Longer than one message can be on its way: a second drainer must not take it meanwhile.
LEASE_SECONDS: Final = 90
FIRST_BACKOFF_SECONDS: Final = 15
LONGEST_BACKOFF_SECONDS: Final = 900

# Taken in two looks: the inner one locks, and looks at the row again when another drainer changed it meanwhile.
CLAIM: Final = """
update lifecycle.notifications n
   set claimed_until = clock_timestamp() + %(lease)s * interval '1 second', attempts = n.attempts + 1,
       in_doubt = n.message_ts is null
  from (select w.id, w.in_doubt from lifecycle.notifications w
         where w.sent_version < w.version and w.next_attempt_at <= now()
           and (w.claimed_until is null or w.claimed_until <= now())
           and (w.message_ts is not null
                or w.id = (select min(o.id) from lifecycle.notifications o
                            where o.sent_version < o.version and o.message_ts is null))
         order by w.message_ts is not null, w.id limit 1 for update skip locked) due
 where n.id = due.id
returning n.id, n.kind, n.job, n.content, n.created_at, n.closed_at, n.version, n.channel, n.message_ts, n.attempts,
          n.claimed_until, due.in_doubt
"""
MARK_SENT: Final = """
update lifecycle.notifications
   set sent_version = greatest(sent_version, %(version)s), channel = %(channel)s, message_ts = %(message_ts)s,
       attempts = 0, claimed_until = null, in_doubt = false, next_attempt_at = now(), last_error = %(note)s
 where id = %(id)s
"""
# Only by the one who holds it: a drainer that lost its lease knows nothing of what the next one did.
MARK_FAILED: Final = """
update lifecycle.notifications
   set next_attempt_at = clock_timestamp() + %(wait)s * interval '1 second', claimed_until = null,
       in_doubt = %(in_doubt)s, last_error = %(error)s
 where id = %(id)s and claimed_until = %(claimed_until)s
"""
WAITING: Final = "select count(*) from lifecycle.notifications where sent_version < version"


@dataclass(frozen=True)
class Claim:
    """A message to hand over now, taken until `claimed_until`.

    With a `message_ts` it was sent and is to be edited. `in_doubt`: an earlier attempt ended without an answer.
    """

    id: int
    kind: Literal["failure", "recovery", "report"]
    job: str
    content: dict[str, Any]
    created_at: datetime
    closed_at: datetime | None
    version: int
    channel: str | None
    message_ts: str | None
    attempts: int
    claimed_until: datetime
    in_doubt: bool


def claim(conn: Connection, *, lease: float = LEASE_SECONDS) -> Claim | None:
    """Take the next message that is due for `lease` seconds; None when nothing is due or others hold it."""
    row = conn.execute(CLAIM, {"lease": lease}).fetchone()
    return Claim(*row) if row else None


def mark_sent(conn: Connection, taken: Claim, channel: str, message_ts: str, *, version: int, note: str | None) -> None:
    """Slack has this `version` of the message (0: one that it was found with); `note` is kept as `last_error`."""
    values = {"id": taken.id, "version": version, "channel": channel, "message_ts": message_ts, "note": note}
    conn.execute(MARK_SENT, values)


def mark_failed(conn: Connection, taken: Claim, error: str, *, wait: float, in_doubt: bool) -> None:
    """It was not sent: try again after `wait` seconds."""
    values = {"id": taken.id, "wait": wait, "in_doubt": in_doubt, "error": error, "claimed_until": taken.claimed_until}
    conn.execute(MARK_FAILED, values)


def backoff(attempts: int) -> float:
    """Seconds to wait after so many attempts: 15, 30, 60 and so on, at most 15 minutes."""
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(attempts - 1, 10), LONGEST_BACKOFF_SECONDS)


def waiting(conn: Connection) -> int:
    """How many messages Slack has not, or not in their newest wording."""
    return int(value(conn, WAITING))
