"""Names that a lazy quote would break, and names that two tables share: schemas, capitals, lengths."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.loader import load_application
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import KEYWORDS, QualifiedName, quoted
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.plan import plan_conversion, plan_rotation
from lifecycle.partitions.rotate import rotate
from lifecycle.partitions.split import _build_indexes
from lifecycle.partitions.status import partition_status
from lifecycle.partitions.tables import LONGEST_STEM, MonthlyTable, monthly_tables, named_table, stem
from tests.conftest import MakeApplicationDb

# What Python decides and in which order; the statements run on both versions in the other files.
pytestmark = pytest.mark.one_server
LONG = "a_table_of_visits_" * 3
TABLES = {
    "public.visits": "at",
    "app.visits": "at",
    'app."documentTransaction"': "createdAt",
    '"Odd Schema"."Odd.name"': "the time",
    f"public.{LONG}_one": "at",
    f"public.{LONG}_two": "at",
    "app.user": "at",
}
CREATE = """
create table {table} (id uuid primary key default gen_random_uuid(), {time} timestamptz not null, note text);
create index on {table} (note);
insert into {table} ({time}, note) select now() - n * interval '20 days', 'row ' || n from generate_series(0, 4) n;
create view {view} as select note, count(*) from {table} group by 1
"""


def declared(folder: Path, *names: str) -> Application:
    folder.mkdir(exist_ok=True)
    lines = [f"'{name}': {{time: {TABLES[name]}, keep: 3 months}}" for name in names]
    (folder / "event_tables.yaml").write_text("\n".join(lines), encoding="utf-8")
    return load_application(folder)


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    made = make_application_db(rows=False)
    with connect(made) as conn:
        conn.execute('create schema app; create schema "Odd Schema"')
        for number, (name, time) in enumerate(TABLES.items()):
            names = {
                "table": QualifiedName.parse(name).identifier,
                "time": sql.Identifier(time),
                "view": sql.Identifier("app", f"view_{number}"),
            }
            conn.execute(sql.SQL(CREATE).format(**names))
    return made


def convert(url: str, table: MonthlyTable, now: datetime, *, split_now: bool = True) -> None:
    convert_table(url, table, split_now=split_now, now=now, progress=lambda _message, _fraction: None)


def notes(conn: Connection, table: MonthlyTable) -> list[str]:
    query = sql.SQL("select note from {} order by 1").format(table.relation.identifier)
    return [row[0] for row in conn.execute(query).fetchall()]


def test_all_of_them_are_converted_and_rotated(url: str, now: datetime, tmp_path: Path) -> None:
    application = declared(tmp_path, *TABLES)
    upgrade(url, application)
    tables = monthly_tables(application)
    with connect(url) as conn:
        before = {table: notes(conn, table) for table in tables}
        for table in tables:
            assert plan_conversion(conn, table, now).refusals == ()
            convert(url, table, now)
        assert {table: notes(conn, table) for table in tables} == before
        for number, table in enumerate(tables):
            assert plan_conversion(conn, table, now).state == "done"
            assert plan_rotation(conn, table, now).create == ()
            (action,) = rotate(conn, table)
            assert (action.action, action.table_name) == ("unchanged", value(conn, SHOWN, (str(table.relation),)))
            made = {action.action for action in rotate(conn, table, now + timedelta(days=62))}
            assert made == {"create"}
            status = partition_status(conn, table, now)
            assert (status.exposed, status.stale_dependents, status.default_rows) == ((), (), 0)
            mark = f"lifecycle:(month|default|before) of {value(conn, SHOWN, (str(table.relation),))}"
            held = sql.SQL("select count(*) from {}").format(sql.Identifier("app", f"view_{number}"))
            assert conn.execute(held).fetchone() == (5,)
            assert {bool(found) for (found,) in rows(conn, MARKED, {"table": str(table.relation), "mark": mark})} == {
                True
            }
        assert value(conn, CUT_OFF) == []


# PostgreSQL cuts longer names off without a word.
CUT_OFF = """
select coalesce(array_agg(relname::text), '{}') from pg_class
 where relnamespace = 'event_partitions'::regnamespace and relkind = 'r' and relname !~ '(_[0-9]{4}_[0-9]{2}|_default)$'
"""
SHOWN = "select to_regclass(%s)::oid::regclass::text from (select set_config('search_path', '', false)) s"
MARKED = """
select obj_description(inhrelid, 'pg_class') ~ replace(replace(%(mark)s, '.', '[.]'), '"', '"?') from pg_inherits
 where inhparent = to_regclass(%(table)s)
"""


def test_what_left_the_declarations_is_never_touched_again(url: str, now: datetime, tmp_path: Path) -> None:
    application = declared(tmp_path, "public.visits", "app.visits")
    upgrade(url, application)
    tables = monthly_tables(application)
    for table in tables:
        convert(url, table, now)
    with connect(url) as conn:
        before = rows(conn, "select count(*) from pg_inherits where inhparent = 'app.visits'::regclass")
        upgrade(url, declared(tmp_path, "public.visits"))
        # Everything of the table is past retention by then.
        conn.execute("update lifecycle.event_table_policies set retention = '1 month'")
        told = rows(conn, "select table_name, action from rotate_event_partitions()")
        assert {name for name, _ in told} == {"public.visits"}
        assert ("public.visits", "drop") in told
        with pytest.raises(Exception, match="no event table named"):
            rotate(conn, tables[1])
        assert len(notes(conn, tables[1])) == 5
        assert rows(conn, "select count(*) from pg_inherits where inhparent = 'app.visits'::regclass") == before
        (tmp_path / "event_tables.yaml").write_text("", encoding="utf-8")
        upgrade(url, load_application(tmp_path))
        with pytest.raises(Exception, match="no event table"):
            conn.execute("select * from rotate_event_partitions()")


def test_what_stands_in_the_way_stays(url: str, now: datetime, tmp_path: Path) -> None:
    """Tables and indexes of the application under names of ours: gone around, or named before anything is touched."""
    application = declared(tmp_path, "public.visits", "app.visits")
    upgrade(url, application)
    ours, other = monthly_tables(application)
    with connect(url) as conn:
        conn.execute("create table visits_legacy (note text)")
        conn.execute("create index visits_note_idx_legacy on visits (at)")
        conn.execute("create index visits_legacy_pkey on visits (note)")
        with pytest.raises(RefusedError, match="visits_legacy_pkey already exists"):
            convert(url, ours, now)
        assert value(conn, "select to_regclass('public.visits_legacy_pkey') is not null")
        conn.execute("alter index visits_legacy_pkey rename to mine")
        convert(url, ours, now)
        names = {name for (name,) in rows(conn, "select relname::text from pg_class where relkind in ('i', 'I')")}
        assert {"visits_note_idx", "visits_note_idx_legacy", "mine"} <= names
        assert value(conn, "select relkind::text from pg_class where oid = 'public.visits_legacy'::regclass") == "r"
        assert len(notes(conn, ours)) == 5
        conn.execute("create table event_partitions.visits (note text)")
        with pytest.raises(RefusedError, match=r"event_partitions\.visits already exists"):
            convert(url, other, now)


def test_stems_do_not_clash() -> None:
    names = [QualifiedName.parse(name) for name in TABLES]
    names += [QualifiedName("public", "app.visits"), QualifiedName("app.visits", "x"), QualifiedName("app", "visits.x")]
    names += [
        QualifiedName("public", "visits_before"),
        QualifiedName("a" * 63, "b" * 63),
        QualifiedName("a" * 63, "c" * 63),
    ]
    names += [QualifiedName("public", "観" * 21), QualifiedName("public", "観" * 20 + "光")]
    stems = [stem(name) for name in names]
    assert len(set(stems)) == len(names)
    assert max(len(text.encode()) for text in stems) <= LONGEST_STEM
    assert stem(QualifiedName("public", "visits")) == "visits"
    assert stem(QualifiedName("app", "visits")) == "app.visits"


def test_a_bare_name_means_one_table(tmp_path: Path) -> None:
    tables = monthly_tables(declared(tmp_path, "public.visits", "app.visits", "app.user"))
    assert named_table(tables, "user").schema == "app"
    assert named_table(tables, "app.visits").schema == "app"
    with pytest.raises(KeyError, match="can be any of several"):
        named_table(tables, "visits")
    with pytest.raises(KeyError, match=r"no event table named .*orders"):
        named_table(tables, "orders")


def test_two_builders_that_would_give_an_index_the_same_name(url: str) -> None:
    """What PostgreSQL makes of long names is the same; it looks which name is free, and another may look just then."""
    named = "create index if not exists alike on {} (note)"
    waits = "select count(*) from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    with connect(url) as first, connect(url) as second, connect(url) as watcher, ThreadPoolExecutor(1) as pool:
        first.execute("create table one (note text); create table other (note text)")
        first.execute(f"begin; {named.format('one')}".encode())
        with second.transaction():
            built = pool.submit(_build_indexes, second, [named.format("other")])
            deadline = time.monotonic() + 30
            while not value(watcher, waits, (second.info.backend_pid,)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            first.execute("commit")
            built.result(30)
        assert value(first, "select tablename from pg_indexes where indexname = 'alike'") == "one"


def test_names_are_quoted_as_the_server_quotes_them(empty_application_db: str) -> None:
    names = [*sorted(KEYWORDS), "orders", "a1_", "a$b", "1a", "Order", 'say "hi"', "ログ"]
    with connect(empty_application_db) as conn:
        assert [quoted(name) for name in names] == value(
            conn,
            "select array_agg(quote_ident(n) order by o) from unnest(%s::text[]) with ordinality u(n, o)",
            (names,),
        )
        words = {word for (word,) in rows(conn, "select word::text from pg_get_keywords() where catcode <> 'U'")}
    # Those that came with later versions are not quoted by all of them.
    assert all(word.startswith(("json", "merge", "system")) for word in words - KEYWORDS)
