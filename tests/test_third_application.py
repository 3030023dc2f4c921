"""Applications that nobody thought of: small schemas drawn at random go through a first day.

No step ends in anything but its result or a refusal that says why, and no row is lost or changed but by erasure.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from lifecycle.checking.check import check_declarations
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from lifecycle.erasures.queue import request
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.tables import MonthlyTable, monthly_tables
from orchestration.cli.plan_parts import collect_plan
from sandbox.application import create_supabase_database, drop_database
from sandbox.server import Server
from tests.partitioned import rotate_all

pytestmark = [pytest.mark.every_version, pytest.mark.one_server]

NAMES: Final = ("events", "PageView", "odd name", 'say "hi"', "dotted.name", "select", "ログ")
SCHEMAS: Final = ("public", "app", "My App")
KEYS: Final = {
    "uuid": "{} uuid primary key default gen_random_uuid()",
    "identity": "{} bigint generated always as identity primary key",
    "serial": "{} serial primary key",
    "text": "{} text primary key default md5(random()::text)",
    "composite": "{} uuid default gen_random_uuid(), part int default 1, primary key ({}, part)",
}
TIMES: Final = ("timestamptz", "timestamptz(3)", "timestamp", "timestamp(3)", "date")
PEOPLE: Final = {
    "uuid": "('00000000-0000-4000-8000-00000000000' || n)::uuid",
    "bigint": "n::bigint",
    "text": "'user_2NNEqL2nrIRdJ194ndJqAHwEfx' || n",
}
ODD_COLUMNS: Final = {
    "note text": "'note of person' || n || '@example.com'",
    "payload jsonb": "jsonb_build_object('n', n)",
    "tags text[]": "array['a', n::text]",
    "doubled int generated always as (part_of * 2) stored": None,
}


@dataclass(frozen=True)
class Table:
    """An event table; `nullable`: its time may be null and is so in a row; `unique`: an index without the time."""

    name: QualifiedName
    key: str
    time: str
    columns: tuple[str, ...]
    nullable: bool
    unique: bool


tables: Final = st.builds(
    Table,
    name=st.builds(QualifiedName, st.sampled_from(SCHEMAS), st.sampled_from(NAMES)),
    key=st.sampled_from(sorted(KEYS)),
    time=st.sampled_from(TIMES),
    columns=st.lists(st.sampled_from(sorted(ODD_COLUMNS)), unique=True).map(tuple),
    nullable=st.booleans(),
    unique=st.sampled_from([False, False, True]),
)


def create(conn: Connection, table: Table, person: str) -> None:
    """The table, forty rows over four months of five people, and a view of it."""
    key, name = sql.Identifier("Id").as_string(conn), str(table.name)
    zone = "" if table.time.startswith("timestamptz") else " at time zone 'UTC'"
    odd = ", ".join(("part_of int", *table.columns))
    written = [column.split()[0] for column in table.columns if ODD_COLUMNS[column]]
    values = ["n", *(ODD_COLUMNS[column] or "" for column in table.columns if ODD_COLUMNS[column])]
    conn.execute(
        f'create schema if not exists "{table.name.schema}";'
        f" create table {name} ({KEYS[table.key].format(key, key)}, who {person} references people,"
        f' "At" {table.time} {"" if table.nullable else "not null"}, {odd});'
        f' insert into {name} (who, "At", {", ".join(["part_of", *written])})'
        f" select p.id, (now() - n * interval '3 days'){zone}, {', '.join(values)}"
        f" from generate_series(1, 40) n join (select id, row_number() over (order by id) as m from people) p"
        f" on p.m = n % 5 + 1".encode()
    )
    if table.nullable:
        conn.execute(f'update {name} set "At" = null where part_of = 7'.encode())
    if table.unique:
        conn.execute(f"create unique index on {name} (part_of)".encode())
    conn.execute(
        f"create view {seen(table)} as select who, count(*) as n, max(part_of) as most"
        f" from {name} group by who".encode()
    )


def seen(table: Table) -> QualifiedName:
    return QualifiedName(table.name.schema, f"{table.name.name} seen")


def declare(drawn: list[Table], folder: Path) -> Application:
    """As a careful person would: whatever is refused is left to the machinery to say."""
    zoned = {"timestamp", "timestamp(3)"}
    events = {
        str(t.name): {"time": "At", "keep": "24 months", **({"zone": "Asia/Tokyo"} if t.time in zoned else {})}
        for t in drawn
    }
    columns = {t: [column.split()[0] for column in t.columns if "generated" not in column] for t in drawn}
    personal = {
        "version": "1",
        "person": {"table": "public.people", "key": "id"},
        "requests": {"deadline": "1 month"},
        "tables": {
            **{
                str(t.name): {"why": "theirs", "steps": [{"by": "who", "key": "person"}], "redacted": columns[t]}
                for t in drawn
            },
            "public.people": {"why": "the person", "steps": [{"by": "id", "key": "person"}]},
        },
    }
    # JSON is YAML, too.
    (folder / "database.yaml").write_text('{"managed_schemas": ["auth", "extensions"]}')
    (folder / "event_tables.yaml").write_text(json.dumps(events, ensure_ascii=False))
    (folder / "views.yaml").write_text(json.dumps({"kept": {str(seen(t)): {} for t in drawn}}, ensure_ascii=False))
    (folder / "personal_data.yaml").write_text(json.dumps(personal, ensure_ascii=False))
    return load_application(folder)


def content(conn: Connection, drawn: list[Table], but: str = "") -> list[list[str]]:
    """Every row of the tables and of their views, but those of one person."""
    return [
        sorted(row for (row,) in rows(conn, f"select t::text from {name} t where who::text <> %s", (but,)))
        for table in drawn
        for name in (table.name, seen(table))
    ]


def convert(url: str, events: MonthlyTable, table: Table) -> None:
    """Months, or a refusal that says what cannot be, and nothing else."""
    try:
        convert_table(url, events, now=datetime.now(UTC), progress=lambda _message, _fraction: None)
        told = ""
    except RefusedError as refused:
        told = str(refused)
    assert ("may be null" in told) == table.nullable, told
    assert ("cannot enforce it" in told) == table.unique, told
    assert bool(told) == (table.nullable or table.unique), told


@contextmanager
def database(server: Server) -> Iterator[str]:
    drop_database(server, "third")
    yield create_supabase_database(server, "third")
    drop_database(server, "third")


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drawn=st.lists(tables, min_size=1, max_size=3, unique_by=lambda t: t.name), person=st.sampled_from(sorted(PEOPLE))
)
def test_a_first_day(drawn: list[Table], person: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    with database(server) as url, connect(url) as conn:
        conn.execute(
            f"create table people (id {person} primary key);"
            f" insert into people select {PEOPLE[person]} from generate_series(1, 5) n".encode()
        )
        for table in drawn:
            create(conn, table, person)
        before = content(conn, drawn)
        application = declare(drawn, tmp_path_factory.mktemp("declared"))
        check_declarations(conn, application)
        collect_plan(conn, application, datetime.now(UTC))
        upgrade(url, application)
        for events, table in zip(monthly_tables(application), drawn, strict=True):
            convert(url, events, table)
        assert content(conn, drawn) == before
        rotate_all(conn)
        rows(conn, "select * from public.refresh_derived_statistics()")
        assert [error for (error,) in rows(conn, "select error from public.reconcile_statistics()") if error] == []
        assert content(conn, drawn) == before
        assert check_declarations(conn, application) == ()

        erased = value(conn, "select id::text from people order by id limit 1")
        others = content(conn, drawn, but=erased)
        assert request(conn, application, erased) == 1
        conn.execute("call public.process_deletion_jobs()")
        ended = rows(conn, "select state, last_error from lifecycle.deletion_jobs")
        assert ended == [("verified", None)], ended
        assert content(conn, drawn, but=erased) == others
        # Nobody is left of theirs, in a view that is kept neither.
        assert not any(set(now) - set(kept) for now, kept in zip(content(conn, drawn), others, strict=True))
