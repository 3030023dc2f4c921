"""How the archive stands: what is where, what is overdue, and whether texts can still be read. Counts only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lifecycle.archive.text import Packed, unpack
from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.errors import VerificationError
from lifecycle.policy import CHAT_ARCHIVE

SIZES: Final = """
select pg_total_relation_size('public.chat_messages'), pg_total_relation_size('public.chat_messages_archive')
"""
OVERDUE: Final = """
select count(*) from public.chat_messages m
 where m.created_at < %(limit)s
   and not exists (select from lifecycle.restored_chat_sessions r
                    where r.session_id = m.session_id and r.until > %(now)s)
"""
# By chance, and without reading the archive: the next message behind so many random ids.
SAMPLE: Final = """
select distinct on (a.id) a.id, a.content_gzip, a.content_sha256
  from (select gen_random_uuid() as id from generate_series(1, %s)) r
 cross join lateral (select a.* from public.chat_messages_archive a where a.id >= r.id order by a.id limit 1) a
"""
SAMPLED: Final = 200


@dataclass(frozen=True)
class Sizes:
    """Bytes of both tables with indexes and TOAST."""

    live: int
    archive: int


@dataclass(frozen=True)
class Sample:
    """Archived texts that were unpacked by chance, and how many of them were damaged."""

    read: int
    damaged: int


def table_sizes(conn: Connection) -> Sizes:
    """How large both tables are now."""
    return Sizes(*rows(conn, SIZES)[0])


def overdue_messages(conn: Connection, now: datetime) -> int:
    """Messages that should have been archived a day ago, restored sessions left out."""
    limit = now - CHAT_ARCHIVE.keep_for - CHAT_ARCHIVE.grace
    with without_statement_timeout(conn):
        return int(value(conn, OVERDUE, {"now": now, "limit": limit}))


def sample_archive(conn: Connection, size: int = SAMPLED) -> Sample:
    """Unpack some archived texts, chosen by chance, and compare each with its checksum."""
    found, damaged = rows(conn, SAMPLE, (size,)), 0
    for _, packed, checksum in found:
        try:
            unpack(Packed(packed, checksum))
        except VerificationError:
            damaged += 1
    return Sample(len(found), damaged)
