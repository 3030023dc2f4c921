"""The heavy jobs beside which a spike is measured: each does a piece of its work and says what it did."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from benchmarks.declared import APPLICATION
from lifecycle.archive.layout import archives_of
from lifecycle.archive.move import archive_rows
from lifecycle.archive.pace import PACE
from lifecycle.database import connect, connect_directly, rows, value
from lifecycle.erasures.queue import enqueue
from lifecycle.erasures.run import erase_batch
from lifecycle.pacing import Pacing
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.tables import monthly_tables
from lifecycle.views.statistics import refresh_statistic, statistics_status


@dataclass(frozen=True)
class Done:
    """What a piece of work came to: rows written or moved, partitions, people; and whether there is more."""

    work: int
    more: bool


Piece = Callable[[], Done]
PEOPLE: Final = 10
ARCHIVED: Final = 2_000
(CHAT,) = archives_of(APPLICATION.archived_tables)
# What people do between two refreshes.
VISITS: Final = """
insert into public.user_behavior_events (account_id, session_id, page_url)
select id, 'spike-' || id, '/chat' from public.accounts tablesample bernoulli (10)
"""
QUESTIONS: Final = """
insert into public.chat_messages (session_id, role, content, sequence)
select s.id, 'user', '福井の旅をおすすめしてください。',
       1 + coalesce((select max(m.sequence) from public.chat_messages m where m.session_id = s.id), 0)
  from public.chat_sessions s tablesample bernoulli (10)
"""
# So that the archive has work for the time: messages of sessions that are past their time.
OLD_MESSAGES: Final = """
insert into public.chat_messages (session_id, role, content, created_at, sequence)
select s.id, 'assistant', repeat('福井の旅をおすすめします。', 12), s.started_at + n * interval '1 second', 100000 + n
  from (select id, started_at from public.chat_sessions where started_at < now() - interval '100 days'
         order by id limit %(messages)s / 100) s, generate_series(1, 100) n
"""
PARTITIONS: Final = "select count(*) from pg_inherits where inhparent = to_regclass(%s)"
ASK: Final = """
with chosen as (select a.id from public.accounts a
                 where a.status = 'active'
                   and not exists (select from public.data_deletion_requests r where r.account_id = a.id)
                 order by md5(a.id::text) limit %s)
insert into public.data_deletion_requests (account_id, request_reason) select id, 'benchmark' from chosen returning id
"""


@contextmanager
def refresh(url: str, pacing: Pacing) -> Iterator[Piece]:
    """An hour's writes, then every kept view, one after the other; there is always more."""
    with connect(url, application_name="benchmark refresh") as conn:

        def piece() -> Done:
            conn.execute(VISITS)
            conn.execute(QUESTIONS)
            written = 0
            for status in statistics_status(conn):
                with pacing.work():
                    written += refresh_statistic(conn, status.name).rows
            return Done(written, more=True)

        yield piece


@contextmanager
def archive(url: str, pacing: Pacing) -> Iterator[Piece]:
    """Some thousand messages at a time, in the archive's own batches."""
    few = replace(PACE, batch_size=ARCHIVED // 4, run_limit=ARCHIVED)
    with connect(url, application_name="benchmark archive") as conn, connect(url) as claims:

        def piece() -> Done:
            run = archive_rows(conn, claims, CHAT, now=datetime.now(UTC), pace=few, pacing=pacing)
            return Done(run.moved, more=run.remaining > 0)

        yield piece


@contextmanager
def conversion(url: str, pacing: Pacing) -> Iterator[Piece]:
    """One event table after the other."""
    waiting = list(monthly_tables(APPLICATION))
    with connect(url, application_name="benchmark conversion") as conn:

        def piece() -> Done:
            table = waiting.pop(0)
            convert_table(url, table, now=datetime.now(UTC), pacing=pacing, progress=lambda *_: None)
            return Done(value(conn, PARTITIONS, (table.qualified_name,)), more=bool(waiting))

        yield piece


@contextmanager
def erasure(url: str, pacing: Pacing) -> Iterator[Piece]:
    """A batch of a few people, with the proof, at a time."""
    with connect_directly(url, application_name="benchmark erasure") as conn:

        def piece() -> Done:
            asked = rows(conn, ASK, (PEOPLE,))
            enqueue(conn)
            batch = erase_batch(conn, batch_size=PEOPLE, pacing=pacing)
            assert batch is None or not batch.failed, batch
            return Done(batch.verified if batch else 0, more=len(asked) == PEOPLE)

        yield piece


JOBS: Final = {"refresh": refresh, "archive": archive, "conversion": conversion, "erasure": erasure}
