"""After an erasure kept views follow the rows that went, by key, and nothing that is noted names anybody any more."""

import threading
import time
from collections.abc import Iterator

import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.views import KeptView
from tests.conftest import MakeApplicationDb
from tests.kept import keep

VIEWS = """
create table owners (id uuid primary key, name text);
create table items (id int primary key, owner uuid references owners, at timestamptz not null default now(), day int);
create index on items (owner);
insert into owners select lpad(i::text, 32, '0')::uuid, 'owner ' || i from generate_series(1, 2000) i;
insert into items
    select i, lpad((1 + i % 2000)::text, 32, '0')::uuid, now(), i % 10 from generate_series(1, 20000) i;
insert into search_queries (session_id, search_query, searched_at)
    select 'visit ' || i, 'temples', now() - interval '2 days' from generate_series(1, 9) i;
create view items_per_owner as
    select o.id, o.name, coalesce(i.items, 0) as items
      from owners o left join (select owner, count(*) as items from items group by owner) i on i.owner = o.id;
create view items_per_owner_now as select owner, count(*) as items, now() as at from items group by owner;
create view items_per_day as select day, count(*) as items from items group by day;
create view items_by_name as
    select o.name, count(*) as items from owners o join items i on i.owner = o.id group by o.name;
create view searches_per_visit as select session_id, count(*) as searches from search_queries group by session_id;
analyze owners; analyze items
"""
OF_OWNERS = ["items_per_owner", "items_per_owner_now", "items_by_name"]
FOLLOW = "select lifecycle.refresh_kept_after_erasure()"
SEEN = "select view_name, seen::text, refreshed_at, whole_due from lifecycle.kept_views order by 1"
WAITS = "select count(*) from pg_locks where not granted and relation = to_regclass(%s)"
NAMED = "select count(*) from lifecycle.changed_rows where held not in ('{}', 'null')"


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute(VIEWS)
    told = keep(
        url,
        items_per_owner=KeptView(key="id"),
        items_per_owner_now=KeptView(key="owner"),
        items_per_day=KeptView(key="day"),
        items_by_name=KeptView(key="name"),
        searches_per_visit=KeptView(key="session_id"),
    )
    assert told.count("answers from") >= 5
    return url


@pytest.fixture
def conn(url: str) -> Iterator[Connection]:
    with connect(url) as conn:
        yield conn


def owners_from_to(first: int, last: int) -> str:
    return f"(select lpad(i::text, 32, '0')::uuid from generate_series({first}, {last}) i)"


def erase_owners(conn: Connection, first: int, last: int) -> None:
    conn.execute(f"delete from items where owner in {owners_from_to(first, last)}".encode())
    conn.execute(f"delete from owners where id in {owners_from_to(first, last)}".encode())


def states(conn: Connection) -> dict[str, tuple[object, ...]]:
    return {name: tuple(rest) for name, *rest in rows(conn, SEEN)}


@pytest.mark.parametrize("definition_ms", [0, 1_000_000], ids=["at once", "key by key"])
def test_keyed_views_follow_and_what_is_noted_names_nobody(conn: Connection, definition_ms: int) -> None:
    conn.execute("update lifecycle.kept_views set definition_ms = %s", (definition_ms,))
    before = states(conn)
    erase_owners(conn, 1, 50)
    conn.execute("update items set owner = null where id = 19999")
    assert value(conn, NAMED) > 500
    assert value(conn, FOLLOW)
    assert value(conn, NAMED) == 0
    # Of each statement one note a table is left.
    assert value(conn, "select count(*) from lifecycle.changed_rows") <= 4
    for view, of in (("items_per_owner", "id, name, items"), ("items_per_owner_now", "owner, items"),
                     ("items_by_name", "name, items")):  # fmt: skip
        definition = f"lifecycle.kept_definition('{view}', v.kept_table)"
        text = value(conn, f"select {definition} from lifecycle.kept_views v where view_name = %s", (view,))
        assert sorted(rows(conn, f"select {of} from {view}"), key=str) == sorted(
            rows(conn, f"select {of} from ({text}) d"), key=str
        )
    after = states(conn)
    assert {name: after[name][:2] for name in after} == {name: before[name][:2] for name in before}
    # Figures can wait, and have no key left that says which: all are computed anew.
    assert {name for name, state in after.items() if state[2]} == {"items_per_day"}
    assert value(conn, "select sum(items) from items_per_day") == 20_000
    conn.execute("select from public.refresh_derived_statistics()")
    assert value(conn, "select sum(items) from items_per_day") == value(conn, "select count(*) from items")


def test_what_time_brings_waits_for_the_next_refresh(conn: Connection) -> None:
    conn.execute(
        "insert into search_queries (session_id, search_query) values ('visit 7', 'gardens'), ('visit 8', 'tea')"
    )
    conn.execute("delete from search_queries where session_id in ('visit 1', 'visit 8')")
    assert value(conn, FOLLOW)
    searches = (
        "select session_id, searches from searches_per_visit where session_id = any ('{visit 1,visit 7,visit 8}')"
    )
    assert rows(conn, searches) == [("visit 7", 1)]
    rows(conn, "select lifecycle.refresh_kept_view(v) from lifecycle.kept_views v")
    assert rows(conn, searches) == [("visit 7", 2)]
    assert rows(conn, "select name, outcome from public.reconcile_statistics() where outcome <> 'equal'") == []


def test_a_new_day_does_not_make_an_erasure_compute_everything(conn: Connection) -> None:
    conn.execute("update lifecycle.kept_views set moves = 'daily', refreshed_at = refreshed_at - interval '1 day'")
    before = states(conn)
    erase_owners(conn, 1, 1)
    assert value(conn, FOLLOW)
    assert value(conn, f"select count(*) from items_per_owner where id in {owners_from_to(1, 1)}") == 0
    assert states(conn)["items_per_owner"] == before["items_per_owner"]


def test_a_view_whose_notes_say_nothing_is_computed_whole(conn: Connection) -> None:
    conn.execute("update lifecycle.kept_views set whole_due = 'a test' where view_name = 'items_per_owner'")
    conn.execute("alter table owners disable trigger user")
    conn.execute(f"update owners set name = 'nobody knew' where id in {owners_from_to(9, 9)}".encode())
    conn.execute("alter table owners enable trigger user")
    erase_owners(conn, 1, 1)
    assert value(conn, FOLLOW)
    assert value(conn, f"select name from items_per_owner where id in {owners_from_to(9, 9)}") == "nobody knew"
    assert states(conn)["items_per_owner"][2] is None


def test_a_view_upon_one_that_waits_is_computed_after_it(url: str, conn: Connection) -> None:
    conn.execute("create view told_per_day as select 'day ' || day as told, day, items from items_per_day")
    told = KeptView.model_validate({"key": "day", "by": {"public.items": "day"}, "why": "a test"})
    views = {"items_per_day": KeptView(key="day"), "told_per_day": told}
    assert "told_per_day answers from" in keep(url, **views)
    erase_owners(conn, 1, 50)
    assert value(conn, FOLLOW)
    conn.execute("select from public.refresh_derived_statistics()")
    left = value(conn, "select count(*) from items")
    assert [value(conn, f"select sum(items) from {view}") for view in views] == [left, left]


def test_what_is_noted_meanwhile_is_kept_for_the_next_refresh(url: str, conn: Connection) -> None:
    """A change that commits between the refreshes of two views was seen by one of them alone."""
    erase_owners(conn, 1, 1)
    *_, (last,) = rows(
        conn, "select kept_table from lifecycle.kept_views where view_name = any (%s) order by place", (OF_OWNERS,)
    )
    with connect(url) as writer, connect(url) as holder:
        writer.execute("begin")
        erase_owners(writer, 2, 2)
        holder.execute("begin")
        holder.execute(f"lock table lifecycle.{last} in share row exclusive mode".encode())
        follows = threading.Thread(target=lambda: value(conn, FOLLOW))
        follows.start()
        while not value(holder, WAITS, (f"lifecycle.{last}",)):
            assert follows.is_alive()
            time.sleep(0.02)
        writer.execute("commit")
        holder.execute("commit")
        follows.join()
    assert value(conn, NAMED) > 0
    assert value(conn, FOLLOW)
    assert value(conn, NAMED) == 0
    for view, key in (("items_per_owner", "id"), ("items_per_owner_now", "owner")):
        assert value(conn, f"select count(*) from {view} where {key} in {owners_from_to(1, 2)}") == 0
