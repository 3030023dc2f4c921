"""What the tests of the conversion share: event rows, a silent run, and what must be the same before and after."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, politely, rows, value
from lifecycle.locks import LockPolicy
from lifecycle.partitions.convert import ConversionResult, convert_table
from lifecycle.partitions.months import add_months, before_name, month_start, partition_name
from lifecycle.partitions.tables import MonthlyTable
from tests.declared import event_table

BEHAVIOUR = event_table("user_behavior_events")
BUSINESS = event_table("business_metrics_events")
REPLAY = event_table("session_replay_events")

# A short history, for tests to which the number of months is all the same: each costs a table, indexes, checks.
FEW_MONTHS = timedelta(days=100)
# First instants past retention, by table: what `lifecycle.first_kept_month` computes in the database.
RETENTION = {
    BEHAVIOUR.name: lambda now: add_months(month_start(now), -24),
    BUSINESS.name: lambda now: add_months(month_start(now), -24),
    REPLAY.name: lambda now: month_start(now - timedelta(days=90)),
}

ACCOUNTS = """
insert into accounts (id) select md5('account' || i)::uuid from generate_series(1, %s) i on conflict do nothing
"""
PAGE_VIEWS = """
insert into {} (id, account_id, session_id, event_timestamp, page_url)
select md5('event' || i)::uuid, case when i %% 7 > 0 then md5('account' || 1 + i %% 50)::uuid end,
       case when i %% 100 = 0 then 'known' else 's' || i %% 40 end, %s - i * %s / %s, '/観光/' || i
  from generate_series(1, %s) i
"""
REPLAYS = """
insert into {} (id, session_id, event_type, event_data, "timestamp")
select md5('event' || i)::uuid, case when i %% 100 = 0 then 'known' else 's' || i %% 40 end, 'input',
       jsonb_build_object('text', i), %s - i * %s / %s
  from generate_series(1, %s) i
"""
CLOCKS_BEHIND = ("-infinity", "0044-03-15 BC", "1970-01-01 00:00+00")
CLOCKS_AHEAD = ("2099-12-31 23:59:59.999999+00", "infinity")
# Everything that a finished conversion must have taken away again, one phrase each.
LEFTOVERS = r"""
select 'relation ' || c.oid::regclass from pg_class c
 where c.relnamespace = 'event_partitions'::regnamespace and c.relkind in ('r', 'p', 'm', 'v', 'S') and not exists (
    select from pg_inherits i join pg_class p on p.oid = i.inhparent
     where i.inhrelid = c.oid and p.relnamespace = 'public'::regnamespace
       and obj_description(c.oid, 'pg_class') ~ '^lifecycle:(month|before|default) of ')
union all
select 'relation ' || c.oid::regclass from pg_class c
 where c.relnamespace in ('public'::regnamespace, 'lifecycle'::regnamespace, 'event_partitions'::regnamespace)
   and c.relname ~ '_(legacy|capture|legacy_pkey)$'
union all
select 'invalid index ' || i.indexrelid::regclass from pg_index i where not i.indisvalid
union all
select 'autovacuum off on ' || c.oid::regclass from pg_class c where 'autovacuum_enabled=false' = any (c.reloptions)
union all
select 'constraint ' || conname || ' of ' || conrelid::regclass from pg_constraint
 where conname = 'lifecycle_bounds' or not convalidated
union all
select 'function ' || p.oid::regprocedure from pg_proc p where p.proname like 'capture\_%'
union all
select 'trigger ' || tgname || ' of ' || tgrelid::regclass from pg_trigger where tgname = 'lifecycle_capture'
"""

# Every relation; an operation that refuses must not have changed it.
CATALOG = """
select c.oid::int8, c.relname::text, c.relkind::text, c.relnamespace::int8, c.reloptions,
       c.relacl::text, c.relhastriggers
  from pg_class c where c.relnamespace <> 'pg_toast'::regnamespace and c.relnamespace::regnamespace::text !~ '^pg_temp'
 order by c.oid
"""


def fill(
    url: str, table: MonthlyTable, now: datetime, *, count: int = 600, span: timedelta | None = None, odd: bool = True
) -> None:
    """Insert `count` rows that go back from `now` over `span` (default: a little past retention), and odd clocks.

    With a `span` no clock is behind: a row from before retention makes a partition of every month since.
    Every hundredth row belongs to session `known`, which nobody touches.
    """
    reach = span or (now - RETENTION[table.name](now)) + timedelta(days=40)
    target = sql.Identifier(table.schema, table.name)
    with connect(url) as conn:
        conn.execute(ACCOUNTS, (60,))
        insert = REPLAYS if table is REPLAY else PAGE_VIEWS
        conn.execute(sql.SQL(insert).format(target), (now, reach, count, count))
        behind = CLOCKS_BEHIND if span is None else ()
        for moment in (*behind, *CLOCKS_AHEAD) if odd else ():
            insert_event(conn, table, moment)
        for month in (add_months(month_start(now), offset) for offset in (-1, 0, 1)):
            for edge in (timedelta(microseconds=-1), timedelta(0), timedelta(microseconds=1), timedelta(hours=-9)):
                insert_event(conn, table, month + edge)
        conn.execute(sql.SQL("analyze {}").format(target))


def insert_event(
    conn: Connection, table: MonthlyTable, moment: datetime | str | None = None, *, session: str = "odd"
) -> uuid.UUID:
    """Insert one row as the application does and return its id; without `moment` the column's default applies."""
    new = uuid.uuid4()
    columns: dict[str, Any] = {"id": new, "session_id": session}
    columns |= {"event_type": "input", "event_data": "{}"} if table is REPLAY else {"page_url": "/"}
    if moment is not None:
        columns[table.time_column] = moment
    conn.execute(
        sql.SQL("insert into {} ({}) values ({})").format(
            sql.Identifier(table.schema, table.name),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        ),
        list(columns.values()),
    )
    return new


def convert(url: str, table: MonthlyTable, now: datetime, *, split_now: bool = True) -> ConversionResult:
    """Convert without reporting progress."""
    return convert_table(url, table, split_now=split_now, now=now, progress=lambda _message, _fraction: None)


def at_step(words: str, work: Callable[[], object]) -> Callable[[str, float], None]:
    """A progress callback that does `work` at every message that holds `words`."""

    def progress(message: str, _fraction: float) -> None:
        if words in message:
            work()

    return progress


def fingerprint(url: str, table: MonthlyTable) -> tuple[int, int]:
    """Count and checksum of all rows that the table's name shows."""
    with connect(url) as conn:
        query = sql.SQL("select count(*), sum(hashtextextended(t::text, 0)) from {} t").format(
            sql.Identifier(table.schema, table.name)
        )
        count, checksum = conn.execute(query).fetchall()[0]
    return count, int(checksum or 0)


def leftovers(url: str) -> list[str]:
    """What a conversion left behind and should not have."""
    with connect(url) as conn:
        return [row[0] for row in rows(conn, LEFTOVERS)]


def relation_kind(url: str, name: str) -> str | None:
    """relkind of a relation, None where there is none."""
    with connect(url) as conn:
        return value(conn, "select relkind::text from pg_class where oid = to_regclass(%s)", (name,))


def places(conn: Connection, table: MonthlyTable) -> dict[uuid.UUID, str]:
    """The partition that holds each row, by id."""
    query = sql.SQL("select t.id, c.relname from {} t join pg_class c on c.oid = t.tableoid").format(
        sql.Identifier(table.schema, table.name)
    )
    return dict(conn.execute(query).fetchall())


def expected_partition(table: MonthlyTable, moment: datetime, now: datetime, oldest_kept: datetime) -> str:
    """The partition of `moment` after a conversion at `now` of a table with rows past retention.

    `oldest_kept` is any moment in the oldest month that has a partition.
    """
    first_kept = RETENTION[table.name](now)
    if moment < first_kept:
        return before_name(table.name, first_kept)
    month = month_start(moment)
    within = month_start(oldest_kept) <= month <= add_months(month_start(now), table.months_ahead)
    return partition_name(table.name, month) if within else f"{table.name}_default"


@contextmanager
def open_transaction(url: str, statement: str, *, name: str = "long transaction") -> Iterator[Connection]:
    """A session that has run `statement` and stays in its transaction until the block ends."""
    with psycopg.connect(url, application_name=name) as conn:
        conn.execute(statement.encode())
        yield conn
        if not conn.closed:
            conn.rollback()


def few_tries(monkeypatch: pytest.MonkeyPatch, tries: int = 4) -> None:
    """Let every polite transaction give up soon."""
    assert politely.__kwdefaults__ is not None
    monkeypatch.setitem(politely.__kwdefaults__, "locks", LockPolicy(tries=tries, first_pause=0.02, longest_pause=0.1))


@dataclass(frozen=True)
class Deadline:
    """Give up waiting for a condition in a test after some seconds."""

    ends: datetime

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(datetime.now(UTC) + timedelta(seconds=seconds))

    @property
    def passed(self) -> bool:
        return datetime.now(UTC) > self.ends
