"""What an application observes: the same statements on a plain table and on a converted one, compared one by one."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.names import QualifiedName
from lifecycle.partitions.observed import OBSERVED
from lifecycle.partitions.plan import plan_conversion
from lifecycle.partitions.tables import MonthlyTable
from tests.conftest import MakeApplicationDb
from tests.conversion_load import convert

CONVERTED, PLAIN = "turned", "simple"
TABLE = MonthlyTable(QualifiedName(CONVERTED, "events"), "at", "24 months")
EVENTS = ("insert", "update", "delete")
CREATE = """
create schema {s};
create table {s}.people (id int primary key);
insert into {s}.people values (1), (2);
create table {s}.seen (place int generated always as identity, name text, at text, level text, op text, arguments text,
                       schema_name text, table_name text, relation text, relation_name text, changed int);
create table {s}.events (id int constraint events_pkey primary key, at timestamptz not null,
                         note text not null, person int constraint known references {s}.people (id),
                         number int generated always as identity,
                         constraint good check (note <> 'bad'));
create unique index both_parts on {s}.events (id, at);
create function {s}.look() returns trigger language plpgsql as $$
begin
    insert into {s}.seen (name, at, level, op, arguments, schema_name, table_name, relation, relation_name)
    values (tg_name, tg_when, tg_level, tg_op, tg_argv[0], tg_table_schema, tg_table_name, tg_relid::regclass::text,
            tg_relname);
    return case when tg_op = 'DELETE' then old else new end;
end $$;
create function {s}.count_changed() returns trigger language plpgsql as $$
begin
    insert into {s}.seen (name, op, changed) select tg_name, tg_op, count(*) from changed;
    return null;
end $$;
create trigger moved_to after update on {s}.events referencing new table as changed
    for each statement execute function {s}.count_changed();
create trigger emptied before truncate on {s}.events for each statement execute function {s}.look('all');
create trigger of_note after update of note on {s}.events for each row execute function {s}.look('of');
create trigger loud before insert on {s}.events for each row when (new.note like 'loud%')
    execute function {s}.look('w');
create constraint trigger late after insert or update on {s}.events deferrable initially deferred
    for each row execute function {s}.look('late');
{triggers}
insert into {s}.events (id, at, note)
select n, date_trunc('month', now()) - interval '10 days' + n * interval '1 day', 'first' from generate_series(1, 20) n;
"""
EACH = "create trigger {w}_{e}_{l} {w} {e} on {{s}}.events for each {l} execute function {{s}}.look('{w}')"
FIRED = (
    "select name, at, level, op, arguments, changed, count(*) from {s}.seen group by 1, 2, 3, 4, 5, 6 order by 1, 4, 5"
)
NAMES = "select distinct schema_name, table_name, relation, relation_name from {s}.seen where level = %s order by 1, 2"
# What is done, as one statement; what comes back and which triggers fire are compared.
STATEMENTS = {
    "INSERT": "insert into {s}.events (id, at, note) values (101, now(), 'x'), (102, now(), 'loud')"
    " returning id, note, number > 0",
    "INSERT far ahead": "insert into {s}.events (id, at, note) values (103, 'infinity', 'x'), (104, '2001-01-01', 'x')",
    "INSERT ON CONFLICT DO NOTHING": "insert into {s}.events (id, at, note) select id, at, 'again' from {s}.events"
    " on conflict do nothing returning id",
    "INSERT ON CONFLICT DO UPDATE": "insert into {s}.events (id, at, note) select id, at, 'again' from {s}.events"
    " where id < 4 on conflict (id, at) do update set note = excluded.note || events.note returning id, note",
    "INSERT ON CONFLICT ON CONSTRAINT": "insert into {s}.events (id, at, note) select id, at, 'again' from {s}.events"
    " where id < 4 on conflict on constraint events_pkey do update set note = 'put' returning id, note",
    "MERGE": "merge into {s}.events e using (select * from {s}.events where id < 3) n on e.id = n.id and e.at = n.at"
    " when matched then update set note = 'merged'",
    "UPDATE": "update {s}.events set note = 'y', person = 1 where id < 15 returning id, note",
    "UPDATE FROM": "update {s}.events e set person = p.id from {s}.people p where e.id = p.id returning e.id, p.id",
    "UPDATE of the time in its month": "update {s}.events set at = at + interval '1 minute' where id < 5 returning id",
    "DELETE": "delete from {s}.events where id in (1, 15) returning id, note",
    "DELETE of a person": "delete from {s}.people where id = 2",
    "TRUNCATE": "truncate {s}.events",
    "TRUNCATE of what keys point at": "truncate {s}.people",
    "FOR UPDATE": "select id from {s}.events where id < 4 order by id for update skip locked",
    "FOR NO KEY UPDATE OF": "select e.id from {s}.events e join {s}.people p on p.id = e.id order by 1"
    " for no key update of e",
    "ORDER BY time": "select id from {s}.events order by at desc limit 3",
    "TABLESAMPLE": "select count(*) from {s}.events tablesample system (100)",
    "xmin": "select count(*) from {s}.events where xmin::text <> '0'",
    "unknown column": "select nothing from {s}.events",
    "LOCK": "lock table {s}.events in share mode",
    "GENERATED ALWAYS": "insert into {s}.events (id, at, note, number) values (105, now(), 'x', 1)",
    "a time that is none": "insert into {s}.events (id, at, note) values (106, 'yesterdayish', 'x')",
}
# What is told of an error besides its SQLSTATE.
ERRORS = {
    "names in the error of a broken unique key": "insert into {s}.events (id, at, note)"
    " select id, at, '' from {s}.events",
    "names in the error of a broken check": "insert into {s}.events (id, at, note) values (107, now(), 'bad')",
    "names in the error of a missing value": "insert into {s}.events (id, at) values (108, now())",
    "names in the error of a broken foreign key": "update {s}.events set person = 77 where id = 1",
}
QUERIES = {
    "tableoid": "select distinct tableoid::regclass::text from {s}.events",
    "ONLY before the table's name": "select count(*) > 0 from only {s}.events",
    "ctid": "select count(*) = count(distinct ctid) from {s}.events",
    "pg_relation_size() of the table": "select pg_relation_size('{s}.events') > 0",
}
Look = Callable[[Connection, str], object]


def neutral(found: object, schema: str) -> str:
    return repr(found).replace(schema, "S")


def attempt(conn: Connection, statement: str, schema: str) -> object:
    """What comes back, or the SQLSTATE and the words of the error."""
    try:
        with conn.transaction():
            done = conn.execute(statement.format(s=schema).encode())
            found = (done.rowcount, sorted(done.fetchall(), key=repr) if done.description else None)
            # What is deferred fires now, as at the end of a transaction.
            conn.execute("set constraints all immediate")
            return found
    except psycopg.Error as error:
        return error.sqlstate, error.diag.constraint_name


def fired(conn: Connection, schema: str) -> object:
    return rows(conn, FIRED.format(s=schema))


def named(conn: Connection, statement: str, schema: str) -> tuple[str | None, object]:
    """The SQLSTATE, and what the error's fields name."""
    try:
        with conn.transaction():
            conn.execute(statement.format(s=schema).encode())
    except psycopg.Error as error:
        diag = error.diag
        return error.sqlstate, (diag.schema_name, diag.table_name, diag.column_name, diag.constraint_name)
    return None, None


def copied(conn: Connection, schema: str) -> object:
    with conn.cursor().copy(f"copy {schema}.events (id, at, note) from stdin".encode()) as target:
        for number in range(3):
            target.write_row((200 + number, datetime(2026, 1, 1 + number), "copied"))
    return fired(conn, schema)


def cursor(conn: Connection, schema: str) -> object:
    with conn.transaction():
        conn.execute(f"declare c cursor for select * from {schema}.events order by id for update".encode())
        conn.execute("move 3 in c")
        changed = conn.execute(f"update {schema}.events set note = 'here' where current of c".encode()).rowcount
        gone = conn.execute(f"delete from {schema}.events where current of c returning id".encode()).fetchall()
    return changed, gone


def moved(conn: Connection, schema: str) -> object:
    conn.execute(f"update {schema}.events set at = at - interval '40 days' where id in (1, 2)".encode())
    return fired(conn, schema)


def told(conn: Connection, level: str, schema: str) -> object:
    conn.execute(f"insert into {schema}.events (id, at, note) values (301, now(), 'x')".encode())
    conn.execute(f"update {schema}.events set note = 'z' where id = 301".encode())
    return rows(conn, NAMES.format(s=schema), (level,))


def observe(conn: Connection, schema: str) -> dict[str, str]:
    """Every observation of one table, each undone, by name."""
    found: dict[str, object] = {}

    def look(name: str, work: Callable[[], object]) -> None:
        with conn.transaction(force_rollback=True):
            conn.execute(f"truncate {schema}.seen".encode())
            found[name] = work()

    for name, statement in STATEMENTS.items():
        look(name, lambda statement=statement: attempt(conn, statement, schema))  # type: ignore[misc]
        look(f"triggers of {name}", lambda statement=statement: (attempt(conn, statement, schema), fired(conn, schema)))  # type: ignore[misc]
    for name, statement in ERRORS.items():
        look(f"SQLSTATE: {name}", lambda statement=statement: named(conn, statement, schema)[0])  # type: ignore[misc]
        look(name, lambda statement=statement: named(conn, statement, schema)[1])  # type: ignore[misc]
    for name, query in QUERIES.items():
        look(name, lambda query=query: rows(conn, query.format(s=schema)))  # type: ignore[misc]
    look("COPY FROM", lambda: copied(conn, schema))
    look("WHERE CURRENT OF", lambda: cursor(conn, schema))
    look("triggers of an UPDATE that moves rows to another month", lambda: moved(conn, schema))
    look("TG_TABLE_NAME, TG_TABLE_SCHEMA, TG_RELID in a row trigger", lambda: told(conn, "ROW", schema))
    look("TG_TABLE_NAME, TG_TABLE_SCHEMA, TG_RELID in a statement trigger", lambda: told(conn, "STATEMENT", schema))
    return {name: neutral(each, schema) for name, each in found.items()}


def updated_meanwhile(url: str, schema: str) -> str | None:
    """The SQLSTATE of an UPDATE that waited for another session's, which moves the row to another month."""
    move = f"update {schema}.events set at = at - interval '40 days' where id = 5".encode()
    waits = "select count(*) from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    with connect(url) as first, connect(url) as second, connect(url) as watcher, ThreadPoolExecutor(1) as pool:
        change = f"update {schema}.events set note = 'mine' where id = 5"
        with first.transaction(), second.transaction(force_rollback=True):
            first.execute(move)
            changed = pool.submit(named, second, change, schema)
            deadline = time.monotonic() + 30
            while not value(watcher, waits, (second.info.backend_pid,)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            first.execute("commit")
            first.execute("begin")
            return changed.result(30)[0]


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    made = make_application_db(rows=False, migrated=True)
    each = [
        EACH.format(w=when, e=event, l=level)
        for when in ("before", "after")
        for event in EVENTS
        for level in ("row", "statement")
    ]
    with connect(made) as conn:
        for schema in (PLAIN, CONVERTED):
            conn.execute(CREATE.format(s=schema, triggers=";".join(each).format(s=schema) + ";").encode())
        conn.execute(
            "insert into lifecycle.event_table_policies select %s, %s, 'turned.events', 'at', '24 months', 3, 50, 30",
            (TABLE.schema, TABLE.name),
        )
    return made


def test_what_differs_is_the_documented_list(url: str, now: datetime) -> None:
    with connect(url) as conn:
        warned = "\n".join(plan_conversion(conn, TABLE, now).warnings)
        for words in (
            "row trigger after_insert_row looks at TG_RELID, TG_RELNAME, TG_TABLE_NAME, TG_TABLE_SCHEMA",
            "fires no AFTER UPDATE row trigger (after_update_row, late, of_note)",
        ):
            assert words in warned
        assert not [word for word in ("moved_to looks", "statement looks") if word in warned]
        convert(url, TABLE, now)
        plain, converted = observe(conn, PLAIN), observe(conn, CONVERTED)
    for observed, schema in ((plain, PLAIN), (converted, CONVERTED)):
        observed["an UPDATE of a row that somebody else moves to another month"] = str(updated_meanwhile(url, schema))
    differing = {name: (plain[name], converted[name]) for name in plain if plain[name] != converted[name]}
    assert {name: both for name, both in differing.items() if name not in OBSERVED} == {}
    assert set(OBSERVED) - set(differing) == set()
    assert differing["an UPDATE of a row that somebody else moves to another month"] == ("None", "40001")
