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

import psycopg

from lifecycle.archive.batches import Due, Place, Row, next_days, read_batch
from lifecycle.archive.text import pack
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
 where pg_try_advisory_xact_lock(hashtextextended('lifecycle.archive.' || %s || '.' || d.name, 0))
"""

# A row as COPY reads it in binary: the number of columns, the length before each. Written here, and not by the driver
# while the caller holds the moving transaction open.
COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_COLUMNS: Final = Struct("!h")
COPY_LENGTH: Final = Struct("!i")
COPY_NULL: Final = COPY_LENGTH.pack(-1)
COPY_END: Final = b"\xff\xff"


@dataclass(frozen=True)
class Batch:
    """So many rows of claimed days, and the place behind them. `busy_days` were claimed by somebody else.

    `packed` is what COPY reads: key and group of each, then gzip and checksum of each text.
    """

    end: Place
    rows: int
    packed: bytes
    busy_days: int


def claimed_batches(claims: Connection, due: Due, place: Place) -> Generator[Batch]:
    """The next batches behind `place`, of days that stay claimed until the generator is closed; none at the end.

    `claims` belongs to a second thread meanwhile, whose errors are raised here. At most two batches are in memory.
    """
    with without_statement_timeout(claims), ThreadPoolExecutor(1, "archive") as thread:
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
    archive = str(due.layout.archive.declared.archive)
    free = {name for (name,) in rows(claims, CLAIM, ([day.name for day in days], archive))}
    claimed = [day for day in days if day.name in free]
    found = read_batch(claims, due, place, claimed) if claimed else []
    end = Place(days[-1].end)
    size = sum(len(text) for row in found for text in row.texts if text is not None)
    if found and (len(found) == due.pace.batch_size or size >= due.pace.batch_bytes):
        end = found[-1].place
    packed = b"".join([COPY_HEAD, *map(_copy_row, found), COPY_END])
    return Batch(end, len(found), packed, len(days) - len(claimed))


def _copy_row(row: Row) -> bytes:
    values: list[bytes | None] = [row.id, row.group]
    for text in row.texts:
        if text is None:
            values += (None, None)
        else:
            packed = pack(text)
            values += (packed.gzip, packed.sha256)
    pieces = [COPY_COLUMNS.pack(len(values))]
    for value in values:
        pieces += (COPY_NULL,) if value is None else (COPY_LENGTH.pack(len(value)), value)
    return b"".join(pieces)
