"""Rows move whole: any table, any types, columns that come, go and change; equal in every column when they are back."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from lifecycle.archive.layout import Archive
from lifecycle.archive.readers import changed_readers, require_acceptance
from lifecycle.archive.restore import archived_groups
from lifecycle.archive.undo import take_archives_back
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError, VerificationError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from tests.archived import archive, layout_of, restore
from tests.conftest import MakeApplicationDb

# Names that need quotes, keys of other types, a type of every sort, several compressed columns.
SCHEMA = """
create schema "Shop";
create type "Shop".state as enum ('new', 'sent', 'Back; again');
create type "Shop".size as (width int, label text);
create domain "Shop".email as text check (value like '%@%');
create table "Shop"."Orders" (no bigint generated always as identity primary key, "owner" text);
create table "Shop"."Lines" (
    "Key" text primary key,
    order_no bigint references "Shop"."Orders" (no) on delete cascade,
    at timestamp not null,
    note text, "long note" varchar(200000), doc json, docb jsonb,
    state "Shop".state not null, states "Shop".state[], size "Shop".size, sizes "Shop".size[], mail "Shop".email,
    counter bigint generated always as identity, twice int generated always as (amount * 2) stored,
    amount int, price numeric(12, 4), ratio double precision, tags text[], grid int[][], span tstzrange, raw bytea,
    fixed char(7), bits bit(5), vbits bit varying, gap interval, ip inet, spot point, flag boolean default true,
    made timestamptz default clock_timestamp(), id uuid default gen_random_uuid()
);
create unique index on "Shop"."Lines" (order_no, counter);
"""
ROW = """
insert into "Shop"."Lines" ("Key", order_no, at, note, "long note", doc, docb, state, states, size, sizes, mail, amount,
                            price, ratio, tags, grid, span, raw, fixed, bits, vbits, gap, ip, spot, flag)
select format('key %%s ''"\\', n), %(order)s, %(at)s::timestamp + n * interval '1 hour',
       case n %% 4 when 0 then null when 1 then '' when 2 then repeat('packed 詰', 100 * n) else E'\\x7f\\n🦖' end,
       case n %% 3 when 0 then null else repeat(md5(n::text), n %% 7 * 20) end,
       case when n %% 2 = 0 then '{"b": 1,   "a": [null], "a": 2}'::json end, '{"b": 1.50, "a": "\\u00e9"}',
       (array['new', 'sent', 'Back; again'])[1 + n %% 3]::"Shop".state, array['Back; again', null]::"Shop".state[],
       case when n %% 5 <> 0 then row(n, 'a "b", c')::"Shop".size end, array[row(null, '')::"Shop".size, null],
       case when n %% 2 = 1 then 'a@example.org'::"Shop".email end, n - 5, n / 3.0, 'nan',
       array['a', null, 'b,c', '{}'], array[[1, 2], [3, null]], '[2025-01-01,infinity)', '\\x00ff', 'ab ',
       B'10101', B'', interval '1 mon -3 days 00:00:00.000001', '10.0.0.1/8', '(0.1,-1e300)',
       case n %% 3 when 0 then null else n %% 2 = 0 end
  from generate_series(1, 40) n
"""
LINES = QualifiedName("Shop", "Lines")
DECLARED: dict[str, Any] = {
    "id": "Key",
    "group": "order_no",
    "groups": {"table": '"Shop"."Orders"', "id": "no"},
    "time": "at",
    "after": "30 days",
    "compress": ["note", "long note", "docb"],
    "archive": '"Shop"."Lines kept"',
    "recent_view": '"Shop"."Lines lately"',
    "read_function": '"Shop".kept_lines',
}
EVERYTHING = 'select array_agg(l::text order by "Key") from "Shop"."Lines" l'


def application(**changes: Any) -> Application:
    return Application.model_validate({"archive": {'"Shop"."Lines"': {**DECLARED, **changes}}})


SHOP = application()
KEPT = Archive(LINES, SHOP.archived_tables[LINES])


@pytest.fixture
def shop(make_application_db: MakeApplicationDb, now: datetime) -> str:
    """Three orders: of long ago, of long ago until today, of today."""
    url = make_application_db(rows=False)
    with connect(url) as conn:
        conn.execute(SCHEMA.encode())
        for _ in range(3):
            conn.execute('insert into "Shop"."Orders" default values')
        for order, days in ((1, 90), (2, 31)):
            conn.execute(ROW.replace("'key ", f"'{order} key ").encode(), {"order": order, "at": now - timedelta(days)})
    upgrade(url, SHOP)
    return url


def kept(conn: Connection) -> int:
    return int(value(conn, 'select count(*) from "Shop"."Lines kept"'))


def bring_all_back(conn: Connection, now: datetime, which: Archive = KEPT) -> None:
    for group in archived_groups(conn, layout_of(conn, which)):
        restore(conn, group, now, which)


def test_every_type_comes_back_as_it_was(shop: str, now: datetime) -> None:
    with connect(shop) as conn:
        conn.execute("set timezone = 'UTC'")
        before = value(conn, EVERYTHING)
        run = archive(shop, now, which=KEPT)
        assert run.moved == kept(conn) == 63
        assert run.plain > 0
        held = rows(
            conn, 'select note is null and note_gzip is not null, "long note_sha256" is null from "Shop"."Lines kept"'
        )
        assert {first for first, _ in held} == {True, False}
        assert {second for _, second in held} == {True, False}
        assert value(conn, 'select count(*) from "Shop".kept_lines(1)') == 40
        assert value(conn, 'select count(*) from "Shop"."Lines lately"') == 16
        bring_all_back(conn, now)
        assert value(conn, EVERYTHING) == before
        assert kept(conn) == 0
        assert upgrade(shop, SHOP).changes == ()


ADDED = (
    "add grade int not null default 7",
    "add born timestamptz default '2025-01-01'",
    "add remark text",
    """add level "Shop".state not null default 'sent'""",
)
# The last ones write the table anew: what older rows got of a default is not to be read from the catalog any more.
CHANGED = (
    "rename ratio to share",
    "rename note to remarks",
    "drop column ip",
    "drop column twice",
    "add rank int not null default 3",
    "alter amount type numeric(20, 3)",
    "alter state type text",
    "alter mail type varchar(50)",
)


def change(conn: Connection, changes: tuple[str, ...]) -> None:
    for table in ('"Shop"."Lines"', "expected"):
        for each in changes:
            conn.execute(f"alter table {table} {each}".encode())


def test_columns_that_come_go_and_change(shop: str, now: datetime) -> None:
    """Half of the rows are archived before the table changes, the others after; then all come back."""
    with connect(shop) as conn:
        conn.execute("set timezone = 'UTC'")
        conn.execute('create table expected as select * from "Shop"."Lines"')
        archive(shop, now - timedelta(days=29), which=KEPT)
        assert 0 < kept(conn) < 63
        assert upgrade(shop, SHOP).changes == ()
        change(conn, ADDED)
        assert sum("taken up" in line for line in upgrade(shop, SHOP).changes) == 4
        conn.execute('drop view "Shop"."Lines lately"')
        change(conn, CHANGED)
        with pytest.raises(RefusedError, match=r"note: archive\.yaml declares this column"):
            archive(shop, now, which=KEPT)
        moved = kept(conn)
        declared = application(compress=["remarks", "long note", "docb"])
        which = Archive(LINES, declared.archived_tables[LINES])
        changes = upgrade(shop, declared).changes
        assert any("column note is named remarks now" in change for change in changes), changes
        assert any("column rank taken up" in change for change in changes)
        assert any("Lines lately" in change for change in changes)
        assert archive(shop, now, which=which).moved == 63 - moved
        assert value(conn, 'select count(ip) from "Shop"."Lines kept"') == moved
        assert value(conn, 'select count(*) from "Shop"."Lines kept" where grade = 7 and level = \'sent\'') == 63
        bring_all_back(conn, now, which)
        differs = """select coalesce(a."Key", b."Key") from "Shop"."Lines" a full join expected b using ("Key")
                      where to_jsonb(a) is distinct from to_jsonb(b)"""
        assert rows(conn, differs) == []
        assert value(conn, 'select count(*) from "Shop"."Lines"') == 80


def test_a_column_that_is_declared_or_no_longer_declared_to_be_compressed(shop: str, now: datetime) -> None:
    with connect(shop) as conn:
        conn.execute("set timezone = 'UTC'")
        before = value(conn, EVERYTHING)
        archive(shop, now - timedelta(days=29), which=KEPT)
        which = Archive(LINES, application(compress=["doc"]).archived_tables[LINES])
        assert archive(shop, now, which=which).moved == 23
        packed = 'select count(note_gzip) > 0, count(doc_sha256) > 0 from "Shop"."Lines kept" where order_no = %s'
        assert [rows(conn, packed, (order,)) for order in (1, 2)] == [[(True, False)], [(True, True)]]
        bring_all_back(conn, now, which)
        assert value(conn, EVERYTHING) == before


def test_what_cannot_be_taken_up_is_named_before_anything_moves(shop: str, now: datetime) -> None:
    with connect(shop) as conn:
        archive(shop, now - timedelta(days=29), which=KEPT)
        before = kept(conn)
        conn.execute('drop view "Shop"."Lines lately"')
        conn.execute("""alter table "Shop"."Lines" alter price type date using date '2025-01-01'""")
        for _ in range(2):
            with pytest.raises(RefusedError, match=r'"Lines".price: has another type'):
                archive(shop, now, which=KEPT)
        assert kept(conn) == before
        conn.execute('alter table "Shop"."Lines kept" alter price type date using null')
        conn.execute("""create table "Shop".reviews (line text references "Shop"."Lines" on delete cascade)""")
        with pytest.raises(RefusedError, match=r"reviews.* references it by a foreign key"):
            archive(shop, now, which=KEPT)
        assert kept(conn) == before


def test_a_row_that_would_come_back_different_stays(shop: str, now: datetime) -> None:
    """A trigger that changes rows, a column that refuses them, a key that somebody took."""
    with connect(shop) as conn:
        archive(shop, now, which=KEPT)
        before = kept(conn)
        conn.execute(
            "create function touch() returns trigger language plpgsql as $$ begin new.tags := null; return new; end $$"
        )
        conn.execute('create trigger touch before insert on "Shop"."Lines" for each row execute function touch()')
        with pytest.raises(VerificationError, match="other values in tags"):
            restore(conn, 1, now, KEPT)
        conn.execute('drop trigger touch on "Shop"."Lines"')
        conn.execute('alter table "Shop"."Lines" add due date')
        conn.execute('alter table "Shop"."Lines" add check (due is not null) not valid')
        with pytest.raises(RefusedError, match="does not take an archived row"):
            restore(conn, 1, now, KEPT)
        assert kept(conn) == before
        assert value(conn, "select count(*) from lifecycle.restored_groups") == 0


def test_readers_that_would_change_are_named(shop: str) -> None:
    """Views upon views, materialized ones, functions by their text, policies, triggers; not the view of recent rows."""
    with connect(shop) as conn:
        assert changed_readers(conn, KEPT) == ()
        for statement in (
            'create view totals as select order_no, count(*) from "Shop"."Lines" group by 1',
            "create materialized view of_totals as select count(*) from totals",
            'create view lately as select * from "Shop"."Lines lately"',
            """create function by_text() returns bigint language plpgsql as
               $$ begin return (select count(*) from "Shop"."Lines"); end $$""",
            'create function by_body() returns bigint return (select count(*) from "Shop"."Lines")',
            'create policy "Seen" on "Shop"."Orders" using (no in (select l.order_no from "Shop"."Lines" l))',
            "create function gone() returns trigger language plpgsql as $$ begin return null; end $$",
            'create trigger gone after delete on "Shop"."Lines" for each statement execute function gone()',
        ):
            conn.execute(statement.encode())
        assert [str(reader) for reader in changed_readers(conn, KEPT)] == [
            "function by_body()",
            "function by_text()",
            "materialized view public.of_totals",
            'policy "Seen" on "Shop"."Orders"',
            'trigger gone on "Shop"."Lines"',
            "view public.totals",
        ]
        with pytest.raises(RefusedError, match=r"4 readers would answer otherwise .*public.totals"):
            require_acceptance(conn, KEPT, accepted=False)
        require_acceptance(conn, KEPT, accepted=True)


def test_the_archive_of_another_application_can_be_taken_back(shop: str, now: datetime) -> None:
    with connect(shop) as conn:
        archive(shop, now, which=KEPT)
        with pytest.raises(RefusedError, match="holds rows, which would be lost"):
            list(take_archives_back(conn, SHOP))
        assert kept(conn) == 63
        bring_all_back(conn, now)
        told = list(take_archives_back(conn, SHOP))
        assert any("Lines kept" in line for line in told)
        left = value(conn, "select count(*) from pg_class where relname like 'Lines %%'".replace("%%", "%"))
        assert left == 0
        assert value(conn, "select count(*) from pg_trigger where tgname like 'lifecycle%'") == 0
        conn.execute('delete from "Shop"."Orders"')


def test_nothing_of_ours_depends_on_the_application_but_the_view(shop: str) -> None:
    """The view of recent rows is the exception; our triggers, policies and functions hold no column and no type."""
    pinned = """
select distinct pg_describe_object(d.classid, d.objid, 0) from pg_depend d
 where d.refclassid = 'pg_class'::regclass and d.deptype = 'n'
   and d.refobjid in ('"Shop"."Lines"'::regclass, '"Shop"."Orders"'::regclass) and d.refobjsubid > 0
   and d.classid not in ('pg_constraint'::regclass, 'pg_attrdef'::regclass) order by 1
"""
    with connect(shop) as conn:
        found = [name for (name,) in rows(conn, pinned)]
        assert found == ['rule _RETURN on view "Shop"."Lines lately"']
        types = """
select a.attname from pg_attribute a where a.attrelid = '"Shop"."Lines kept"'::regclass and a.attnum > 0
   and a.atttypid >= 16384 """
        assert rows(conn, types) == []
