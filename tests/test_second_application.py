"""Another application, adopted by its declarations alone: every capability that it declares, on its own rows."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dagster as dg
import psycopg
import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.event_tables import EventTable
from lifecycle.names import QualifiedName
from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.tables import monthly_table
from sandbox.application import clone_database, drop_database
from sandbox.second.database import DECLARATIONS, create_second_database
from sandbox.server import Server
from tests.partitioned import rotate_all
from tests.second import FIRST_DAY, call, everything_moved, run_jobs
from tests.templates import close_to_sessions

pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

MOST_LINES: Final = 60
# The others are no business of the declarations.
PRIVILEGES: Final = "select oid::regclass::text, relacl::text from pg_class where oid = any (%s::regclass[]) order by 1"
FOREIGN: Final = ["public.audit_events", "public.data_deletion_requests", 'shop."User"', "telemetry.login"]
PARTITIONS: Final = """
select c.relname::text, pg_get_expr(c.relpartbound, c.oid) from pg_inherits h join pg_class c on c.oid = h.inhrelid
 where h.inhparent = %s::regclass
"""
PLACE: Final = 'select tableoid::regclass::text from shop."PageView" where "path" = %s'
VIEW: Final = 'insert into shop."PageView" ("path", "referrer", "viewedAt") values (%s, %s, %s) returning "id"'


@pytest.fixture(scope="module")
def adopted(server: Server) -> Iterator[str]:
    """Name of the database after its first day; tests change copies of it."""
    name = "second_application"
    drop_database(server, name)
    url = create_second_database(server, name)
    with connect(url) as conn:
        before, privileges = everything_moved(conn), rows(conn, PRIVILEGES, (FOREIGN,))
    told = call(url, "check", code=1)
    assert "the database (migrating): has nothing of the declared: run `lifecycle migrate`" in told
    assert 'shop."PointBalance" (access): is not as declared' in told
    assert "2 differences" in told
    planned = call(url, "plan")
    assert 'shop."DailyViews", shop."OrdersOfUser": would be kept' in planned
    assert 'shop."OrderNote": take about' in planned
    call(url, "migrate")
    assert "agree" in call(url, "check")
    assert "Nothing to change" in call(url, "migrate")
    with dg.DagsterInstance.ephemeral() as instance:
        run_jobs(url, instance, *FIRST_DAY)
    assert "agree" in call(url, "check")
    with connect(url) as conn:
        assert everything_moved(conn) == before
        assert rows(conn, PRIVILEGES, (FOREIGN,)) == privileges
        assert rows(conn, "select cause, error from lifecycle.open_problems") == []
    close_to_sessions(server, name)
    yield name
    drop_database(server, name)


@pytest.fixture
def url(server: Server, adopted: str) -> Iterator[str]:
    yield clone_database(server, adopted, "second_copy")
    drop_database(server, "second_copy")


def test_it_is_adopted_by_few_lines() -> None:
    lines = [line for file in DECLARATIONS.glob("*.yaml") for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) <= MOST_LINES


def test_two_tables_of_one_name_have_months_of_their_own(conn: Connection) -> None:
    shop, till = (dict(rows(conn, PARTITIONS, (f'{schema}."PageView"',))) for schema in ("shop", "telemetry"))
    assert {name.rpartition("_2")[0] for name in shop if not name.endswith("_default")} == {"shop.PageView"}
    assert {name.rpartition("_2")[0] for name in till if not name.endswith("_default")} == {"telemetry.PageView"}
    # A time without zone has bounds without one, a date has days.
    assert all("+00" not in bounds for bounds in shop.values())
    assert any("+00" in bounds for bounds in till.values())
    assert all(":" not in bounds for _, bounds in rows(conn, PARTITIONS, ("telemetry.reading",)))


def test_months_of_a_time_without_zone_are_those_of_its_clock(conn: Connection) -> None:
    """Half an hour into a month in Tokyo it is the month before in UTC."""
    next_month = value(conn, "select date_trunc('month', now() at time zone 'Asia/Tokyo') + interval '1 month'")
    conn.execute(VIEW, ("/first", None, next_month.replace(minute=30)))
    assert value(conn, PLACE, ("/first",)) == f'event_partitions."shop.PageView_{next_month:%Y_%m}"'
    made = [
        (done.table_name, done.partition)
        for done in rotate_all(conn, f"{next_month:%Y-%m-%d} 00:30:00+09")
        if done.partition
    ]
    # Of the till, by UTC, it is still the month before: the month ahead is made for the shop alone.
    assert [table for table, _ in made] == ['shop."PageView"']


def test_a_time_that_may_be_null_is_refused_with_what_cures_it(conn: Connection, url: str, tmp_path: Path) -> None:
    shutil.copytree(DECLARATIONS, tmp_path / "declarations")
    entry = "telemetry.login: {time: at, keep: 12 months}\n"
    with (tmp_path / "declarations" / "event_tables.yaml").open("a") as file:
        file.write(entry)
    # A key of text, and a time with a precision.
    conn.execute("alter table telemetry.login alter id drop identity")
    conn.execute("alter table telemetry.login alter id type text, alter at type timestamptz(3)")
    refused = call(url, "plan partitions", declarations=tmp_path / "declarations")
    cure = re.search(r"UPDATE telemetry.login .* IS NULL\)?, then run (ALTER .* SET NOT NULL)", _unbroken(refused))
    assert cure, refused
    conn.execute("update telemetry.login set at = now() where at is null")
    conn.execute(cure[1].encode())
    call(url, "migrate", declarations=tmp_path / "declarations")
    before = rows(conn, "select * from telemetry.login order by id")
    login = monthly_table(QualifiedName("telemetry", "login"), EventTable(time="at", keep="12 months"))
    convert_table(url, login, now=datetime.now(UTC), progress=lambda _message, _fraction: None)
    assert rows(conn, "select * from telemetry.login order by id") == before


def _unbroken(told: str) -> str:
    """A cell of a table in one line."""
    return " ".join(told.replace("│", " ").split())


def test_numbers_go_on(conn: Connection) -> None:
    last = value(conn, 'select last_value from shop."PageView_id_seq"')
    highest = value(conn, "select last_value from telemetry.reading_id_seq")
    assert conn.execute(VIEW, ("/next", None, datetime(2999, 1, 1))).fetchall() == [(last + 1,)]
    assert value(conn, "insert into telemetry.reading (device_id, day) values (1, now()) returning id") == highest + 1
    with pytest.raises(psycopg.errors.GeneratedAlways):
        conn.execute('insert into shop."PageView" ("id", "path") values (1, \'/\')')


def test_views_answer_from_tables_and_follow(conn: Connection, url: str, instance: dg.DagsterInstance) -> None:
    assert "lifecycle." in value(conn, "select pg_get_viewdef('shop.\"DailyViews\"'::regclass)")
    spent = 'select "spentYen" from shop."OrdersOfUser" where "userId" = %s'
    somebody, before = rows(conn, 'select "userId", "spentYen" from shop."OrdersOfUser" order by 1 limit 1')[0]
    conn.execute('insert into shop."Order" ("userId", "totalYen") values (%s, 7)', (somebody,))
    conn.execute(VIEW, ("/new", None, datetime.now()))
    assert value(conn, spent, (somebody,)) == before
    unknown = 'select "views" from shop."ViewsByReferrer" where "referrer" is null'
    shown = value(conn, unknown)
    run_jobs(url, instance, "refresh_derived_statistics", "refresh_analytics_hourly")
    assert value(conn, spent, (somebody,)) == before + 7
    # The group without a referrer is one row, before and after.
    assert rows(conn, unknown) == [(shown + 1,)]


def test_an_archived_group_comes_back(conn: Connection, url: str) -> None:
    order = value(conn, 'select min("orderId") from shop."OrderNoteArchive"')
    body = f"Leave order {order} at the door. " * 10
    assert "Leave order" in call(url, f"chat read {order}")
    call(url, f"chat restore {order}")
    assert rows(conn, 'select "body" from shop."OrderNote" where "orderId" = %s', (order,)) == [(body,)]


def test_the_api_keeps_what_is_declared(conn: Connection) -> None:
    asked = "select has_table_privilege(%s, 'shop.\"PointBalance\"', %s)"
    assert [value(conn, asked, (role, "SELECT")) for role in ("anon", "authenticated")] == [False, True]
    assert value(conn, asked, ("authenticated", "INSERT")) is False
    assert value(conn, "select indisvalid from pg_index where indexrelid = 'shop.order_by_user_idx'::regclass")


def test_people_are_erased_with_receipts(conn: Connection, url: str, tmp_path: Path) -> None:
    first, second, other = (person for (person,) in rows(conn, 'select "id" from shop."User" order by 1 limit 3'))
    conn.execute('update shop."PageView" set "path" = %s where "userId" = %s', (f"/hello/{first}/x", other))
    conn.execute("update public.audit_events set finding = %s", (f"looked at {first}.",))
    conn.execute('update shop."User" set "fullName" = \'Aoi Mori\' where "id" = %s', (first,))
    folder = tmp_path / "export"
    call(url, f"person export {first} --to {folder}")
    assert "Aoi Mori" in "".join(file.read_text() for file in folder.glob("*User*.json"))
    asked = [
        value(conn, 'insert into shop."DataRequest" ("userId") values (%s) returning "id"', (p,))
        for p in (first, second)
    ]
    others = rows(conn, 'select * from shop."PointBalance" where "userId" <> all (%s)', ([first, second],))
    sums = value(conn, 'select sum("totalYen") from shop."Order"')

    told = call(url, "erasure run")
    assert "2 of 2 requests erased and proved" in told

    assert "whole" in call(url, f"erasure receipt {asked[0]}")
    assert rows(conn, 'select "state", "doneAt" is not null from shop."DataRequest"') == [("DONE", True)] * 2
    people = rows(conn, 'select "email", "fullName" from shop."User" where "id" = any (%s)', ([first, second],))
    assert [name for _, name in people] == ["gone"] * 2
    # The column is unique: each has an address of its own, which tells nothing.
    assert len({address for address, _ in people}) == 2
    assert all(address.endswith("@gone.invalid") and len(address) == 45 for address, _ in people)
    assert value(conn, 'select count(*) from shop."Order" where "userId" = any (%s)', ([first, second],)) == 0
    assert value(conn, 'select sum("totalYen") from shop."Order"') == sums
    assert rows(conn, 'select * from shop."PointBalance"') == others
    notes = 'select count(*) from {} n join shop."Order" o on o."id" = n."orderId" where o."userId" is null'
    for table in ('shop."OrderNote"', 'shop."OrderNoteArchive"'):
        assert value(conn, notes.format(table)) == 0
    # A long id is found in others' texts, too.
    assert rows(conn, 'select distinct "path" from shop."PageView" where "userId" = %s', (other,)) == [
        ("/hello/erased/x",)
    ]
    assert value(conn, "select finding from public.audit_events") == "looked at erased."
    assert value(conn, "select ticket from public.data_deletion_requests") == "OPS-7"
    assert value(conn, "select count(*) from lifecycle.broken_receipts()") == 0


def test_the_week_is_told_of_what_is_declared(conn: Connection) -> None:
    """Without a table of its own for what jobs did, ours remembers."""
    done = {job for job, _, _, _ in rows(conn, "select * from lifecycle.ledger_entries('-infinity')")}
    assert {"rotate_event_partitions", "refresh_derived_statistics", "reconcile_statistics"} <= done
    measured = {
        schema
        for (schema,) in rows(conn, "select distinct split_part(relation, '.', 1) from lifecycle.storage_history")
    }
    assert {"shop", "telemetry"} <= measured
    report = value(conn, "select content from lifecycle.notifications where kind = 'report'")
    assert "PageView" in str(report)
    assert "chat" not in str(report)
    conn.execute(
        "update lifecycle.job_history set at = now() - interval '14 months' where subject = 'reconcile_statistics'"
    )
    conn.execute("select lifecycle.record_storage()")
    assert rows(conn, "select from lifecycle.job_history where subject = 'reconcile_statistics'") == []
