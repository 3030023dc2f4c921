"""The next batch is claimed, read and packed by a second thread while the caller moves the current one.

A claim is an advisory lock on a day, and lasts as long as the transaction of the session that took it: until every
batch read in it has been moved. Between its statements that transaction holds the claims and nothing else: no table is
locked (batches.py), and at READ COMMITTED there is no snapshot that would hold back VACUUM.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from typing import Final
from uuid import UUID

import psycopg

from lifecycle.archive.batches import Due, Place, next_days, read_batch, start_of_next
from lifecycle.archive.text import Packed, pack
from lifecycle.database import Connection, rows, without_statement_timeout

# Some seconds. With each transaction the thread has to wait once for the caller.
BATCHES_A_TRANSACTION: Final = 20
SECONDS_TO_STOP: Final = 1
# The session is idle in its transaction while the caller waits for a lock. The second is new in PostgreSQL 17.
NO_TIMEOUT: Final = """
select set_config(s.name, '0', true) from pg_settings s
 where s.name in ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""
CLAIM: Final = """
select d.name from unnest(%s::text[]) d(name)
 where pg_try_advisory_xact_lock(hashtextextended('lifecycle.chat_archive.' || d.name, 0))
"""

# A row as COPY reads it in binary: four columns, the length before each. Written here, and not by the driver while the
# caller holds the moving transaction open.
COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_ROW: Final = Struct("!hi16si16si")
COPY_CHECKSUM: Final = Struct("!i32s")
COPY_END: Final = b"\xff\xff"


@dataclass(frozen=True)
class Batch:
    """So many messages of claimed days, and the place behind them. `busy_days` were claimed by somebody else.

    `packed` is what COPY reads: id, session, gzip and checksum of each.
    """

    end: Place
    messages: int
    packed: bytes
    busy_days: int


def claimed_batches(claims: Connection, due: Due, place: Place) -> Generator[Batch]:
    """The next batches behind `place`, of days that stay claimed until the generator is closed; none at the end.

    `claims` belongs to a second thread meanwhile, whose errors are raised here. At most two batches are in memory.
    """
    with without_statement_timeout(claims), ThreadPoolExecutor(1, "chat-archive") as thread:
        rows(claims, NO_TIMEOUT)
        ahead = thread.submit(_next_batch, claims, due, place)
        try:
            for more in reversed(range(BATCHES_A_TRANSACTION)):
                batch = ahead.result()
                if batch is None:
                    return
                if more:
                    ahead = thread.submit(_next_batch, claims, due, batch.end)
                yield batch
        finally:
            # Left early, by an error or Ctrl-C: its statement may wait for a lock, and a cancel may come between two.
            while wait([ahead], SECONDS_TO_STOP).not_done:
                with suppress(psycopg.Error):
                    claims.cancel_safe(timeout=SECONDS_TO_STOP)


def _next_batch(claims: Connection, due: Due, place: Place) -> Batch | None:
    """Claim the next days until the transaction ends, and pack a batch of theirs; None when nothing is due."""
    days = next_days(claims, due, place)
    if not days:
        return None
    free = {name for (name,) in rows(claims, CLAIM, ([day.name for day in days],))}
    claimed = [day for day in days if day.name in free]
    messages = read_batch(claims, due, place, claimed) if claimed else []
    end = start_of_next(days[-1])
    full = len(messages) == due.policy.batch_size or sum(len(m[3]) for m in messages) >= due.policy.batch_bytes
    if messages and full:
        message, _, at, _ = messages[-1]
        end = Place(at, message)
    packed = b"".join([COPY_HEAD, *(_copy_row(m, session, pack(text)) for m, session, _, text in messages), COPY_END])
    return Batch(end, len(messages), packed, len(days) - len(claimed))


def _copy_row(message: UUID, session: UUID, packed: Packed) -> bytes:
    head = COPY_ROW.pack(4, 16, message.bytes, 16, session.bytes, len(packed.content_gzip))
    return head + packed.content_gzip + COPY_CHECKSUM.pack(32, packed.content_sha256)
