"""Helpers for tests that read cold months: a table with a column of every kind, and a store that tells what is read."""

from collections.abc import Callable
from typing import Any, Final

import duckdb

from lifecycle.cold.storage import ColdStorage
from lifecycle.cold.tables import ColdTable, named_cold_table
from lifecycle.database import connect
from lifecycle.declarations.application import Application
from lifecycle.declarations.event_tables import EventTable, EventTables
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.tables import monthly_tables, named_table
from tests.cold import COLD, COLD_AFTER, month, now

ODD: Final = QualifiedName.parse('public."Odd Events"')
ODD_TABLE: Final = """
create type mood as enum ('glad', 'it''s "odd"', 'sad');
create type place as (street text, number int);
create domain short as text check (length(value) < 10);
create table public."Odd Events" (
    id uuid primary key default gen_random_uuid(),
    "when" timestamptz not null,
    local timestamp,
    day date,
    clock time,
    lasts interval,
    whole smallint, number integer, big bigint,
    flag boolean,
    single real, "double precision" double precision,
    price numeric(12,2), ratio numeric(38,10), free numeric,
    words text, code char(4), name varchar(20), called short,
    raw bytea,
    document json, "Document B" jsonb,
    feeling mood,
    tags text[], numbers double precision[], moods mood[], grid int[],
    address inet, lives place, during int4range, bits bit(3),
    doubled bigint generated always as (big / 2) stored
)
"""
ODD_ROW: Final = """
insert into public."Odd Events" values (
    %(id)s, %(moment)s, '1999-12-31 23:59:59.999999', '0001-02-03', '24:00:00', '-1 year 2 mons -3 days 04:05:06.789',
    -32768, -2147483648, -9223372036854775808, true, '-0', 'NaN', -1234567890.12, 1234567890123456789.0123456789,
    '0.1000000000000000055511151231257827',
    E'quote '' " \\\\ tab\\t line\\n comma, \\x1f bell\\x07 漢字 🙂', 'ab', 'name  ', 'short',
    '\\x00ff5c27', '{"b":  1, "a": [1, 2.50], "a": null}', '{"b":  1, "a": [1, 2.50]}', 'it''s "odd"',
    '{a,NULL,"NULL","b c","d\\"e",""}', '{0.1,NaN,-0,Infinity,1e300}', '{glad,"it''s \\"odd\\""}', '{{1,2},{3,4}}',
    '10.0.0.1', '("Main, \"\"Street\"\"\",7)', '[1,5)', '101')
"""
BARE_ROW: Final = 'insert into public."Odd Events" (id, "when", words, flag) values (%s, %s, \'\', false)'
FLOATS_ROW: Final = """
insert into public."Odd Events" (id, "when", single, "double precision", free, price)
values (%s, %s, '1e-45', '-Infinity', 'NaN', 0)
"""


def odd_application() -> Application:
    """COLD with the odd table, too."""
    declared = EventTable(time="when", keep="24 months", cold_after=COLD_AFTER, why="a column of every kind")
    return COLD.model_copy(update={"event_table_file": EventTables({**COLD.event_tables, ODD: declared})})


def odd_table(application: Application) -> ColdTable:
    return named_cold_table(application, str(ODD))


def make_odd_table(url: str, application: Application) -> None:
    """The table with rows of six months, partitioned."""
    with connect(url) as conn:
        conn.execute(ODD_TABLE.encode())
        for back in range(5, -1, -1):
            moment = month(back).replace(day=2, microsecond=1)
            ids = [f"{number:08d}-0000-4000-8000-{back:012d}" for number in range(3)]
            conn.execute(ODD_ROW.encode(), {"id": ids[0], "moment": moment})
            conn.execute(BARE_ROW.encode(), (ids[1], moment))
            conn.execute(FLOATS_ROW.encode(), (ids[2], moment))
    upgrade(url, application)
    convert_table(
        url, named_table(monthly_tables(application), str(ODD)), now=now(), progress=lambda _message, _fraction: None
    )


def exact(rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows as text in which 0 differs from -0, NaN equals NaN, and 1 differs from 1.0."""
    return [repr(row) for row in rows]


class WatchedStorage:
    """A store of which is known what DuckDB reads. `before_reading` is called once, when the manifest has been read."""

    def __init__(self, storage: ColdStorage, before_reading: Callable[[], None] = lambda: None) -> None:
        self._storage, self._before = storage, [before_reading]
        self.located: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def prepare_duckdb(self, conn: duckdb.DuckDBPyConnection) -> None:
        while self._before:
            self._before.pop()()
        self._storage.prepare_duckdb(conn)

    def location(self, key: str) -> str:
        self.located.append(key)
        return self._storage.location(key)
