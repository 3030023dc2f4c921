"""A refresh by key reads the rows of its keys and not the history: key by key, or all at once where that is cheaper."""

import re

import psycopg
import pytest
from sqlglot import exp

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.views import KeptView
from lifecycle.names import QualifiedName
from lifecycle.views.tree import qualified_tree
from sandbox.server import SUPERUSER, Server
from tests.conftest import MakeApplicationDb
from tests.kept import keep

VIEWS = """
create table owners (id int primary key);
create table items (id int primary key, owner int references owners, at timestamptz not null default now());
insert into owners select generate_series(1, 5000);
insert into items select i, 1 + i % 5000, now() - interval '1 day' from generate_series(1, 50000) i;
create index on items (owner);
create view items_per_owner as
    select o.id, coalesce(i.items, 0) as items
      from owners o left join (select owner, count(*) as items from items group by owner) i on i.owner = o.id;
create view items_by_owner as select owner, count(*) as items from items group by owner;
create view owners_among_all as
    with counted as (select owner, count(*) as items from items group by owner)
    select c.owner as id, c.items, (select max(items) from counted) as most from counted c;
analyze owners; analyze items
"""
READ = "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_user_tables where relname = %s"
KEYED = (
    "select (r).* from (select lifecycle.refresh_kept_view(v) as r from lifecycle.kept_views v where view_name = %s) x"
)
QUERY = """
select lifecycle.rows_of_keys(v, lifecycle.kept_definition(to_regclass(v.view_name), v.kept_table), %s)
  from lifecycle.kept_views v where v.view_name = %s
"""


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Connection:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as made:
        made.execute(VIEWS)
    told = keep(
        url,
        items_per_owner=KeptView(key="id"),
        items_by_owner=KeptView(key="owner"),
        owners_among_all=KeptView.model_validate({"key": "id", "by": {"public.items": "owner"}, "why": "a test"}),
    )
    assert "items_per_owner answers from" in told
    assert "owners_among_all answers from" in told
    return connect(url)


def test_a_changed_key_costs_the_rows_of_that_key(conn: Connection) -> None:
    with conn, conn.transaction():
        before = value(conn, READ, ("items",))
        conn.execute("update items set at = at + interval '1 s' where id = 7")
        conn.execute("delete from items where id = 4999 + 8")
        changed = value(conn, READ, ("items",))
        ((mode, written, _),) = rows(conn, KEYED, ("items_per_owner",))
        assert (mode, written) == ("keyed", 2)
        assert value(conn, "select items from items_per_owner where id = 8") == 9
        # Ten rows of each of two owners, and not 50,000.
        assert value(conn, READ, ("items",)) - changed <= 60
        assert changed - before < 10


def test_rows_without_a_key_are_a_key_of_their_own(conn: Connection) -> None:
    of_nobody = "select items from items_by_owner where owner is null"
    with conn:
        assert value(conn, of_nobody) is None
        for change, items in (("owner = null where id <= 3", 3), ("owner = 1 where id = 1", 2)):
            conn.execute(f"update items set {change}".encode())
            ((mode, written, _),) = rows(conn, KEYED, ("items_by_owner",))
            assert mode == "keyed"
            assert written > 0
            assert value(conn, of_nobody) == items
        conn.execute("delete from items where owner is null")
        rows(conn, KEYED, ("items_by_owner",))
        assert value(conn, of_nobody) is None


def test_a_refresh_that_row_level_security_would_blind_fails_and_takes_no_row(conn: Connection, server: Server) -> None:
    with conn, connect(server.url(conn.info.dbname, user=SUPERUSER)) as admin, admin.transaction(force_rollback=True):
        conn.execute("update items set at = at - interval '3 hours' where id = 7")
        admin.execute("alter table items enable row level security, force row level security")
        # Who is not above the policies as postgres is at Supabase.
        admin.execute("create role owner_elsewhere in role postgres; set local role owner_elsewhere")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"), admin.transaction():
            rows(admin, KEYED, ("items_per_owner",))
        assert value(admin, "select sum(items) from items_per_owner") == 50_000


def text_of(conn: Connection, keys: int, view: str) -> str:
    """The rows of the first so many keys of a view, as a query's FROM."""
    return str(value(conn, QUERY, ([str(key) for key in range(1, keys + 1)], view)))


def way(conn: Connection, keys: int, view: str) -> str:
    """How these keys of a view would be read."""
    text = text_of(conn, keys, view)
    return "key by key" if re.match(r"keys cross join lateral .* offset 0\) d$", text, re.DOTALL) else "all at once"


def test_what_is_the_same_for_every_key_is_computed_once(conn: Connection) -> None:
    with conn:
        assert way(conn, 1, "items_per_owner") == "key by key"
        assert way(conn, 5, "items_per_owner") == "key by key"
        assert way(conn, 100_000, "items_per_owner") == "all at once"
        assert way(conn, 20, "owners_among_all") == "all at once"


def test_the_planner_knows_how_many_keys_there_are(conn: Connection) -> None:
    """Of keys that a sub-query finds it expects ten, and would join a thousand in a way that is good for ten."""
    with conn:
        text = text_of(conn, 2_000, "items_by_owner")
        explained = f"explain (format json) with keys as (select null::int as key) select * from {text}"
        plan = value(conn, explained)
        assert plan[0]["Plan"]["Plan Rows"] > 1_000


def test_a_key_that_was_not_known_is_read_all_the_same(conn: Connection) -> None:
    """It was found by the statement that reads, later than by the one before."""
    with conn:
        text = text_of(conn, 2_000, "items_by_owner")
        found = rows(conn, f"with keys as (select generate_series(1999, 2002) as key) select owner from {text}")
        assert {owner for (owner,) in found} == set(range(1, 2_003))


def test_the_planner_learns_what_the_log_of_changes_holds(conn: Connection) -> None:
    """Or it would read the whole log again for each row of it."""
    known = "select reltuples from pg_class where oid = 'lifecycle.changed_rows'::regclass"
    with conn:
        conn.execute("alter table lifecycle.changed_rows set (autovacuum_enabled = false)")
        conn.execute("update items set at = at - interval '3 hours' where id <= 4000")
        assert value(conn, known) < 4_000
        ((mode, _, _),) = rows(conn, KEYED, ("items_by_owner",))
        assert mode == "keyed"
        assert value(conn, known) >= 4_000
        learnt = (
            "select most_common_vals::text from pg_stats where tablename = 'changed_rows' and attname = 'source_name'"
        )
        assert "items" in value(conn, learnt)


def test_a_log_that_somebody_else_looks_at_is_not_waited_for(conn: Connection) -> None:
    with conn, psycopg.connect(conn.info.dsn, password=conn.info.password) as other:
        conn.execute("update items set at = at - interval '3 hours' where id <= 4000")
        other.execute("lock table lifecycle.changed_rows in share update exclusive mode")
        with conn.transaction():
            conn.execute("set local lock_timeout = '1s'")
            ((mode, _, _),) = rows(conn, KEYED, ("items_by_owner",))
        assert mode == "keyed"


def test_names_with_capitals_are_those_of_the_catalog() -> None:
    """Before PostgreSQL 16 a view of one table is printed with its name before its columns, since then without."""
    columns = {QualifiedName("shop", "Order"): {"userId": "text"}}
    for place in ("", '"Order".'):
        tree = qualified_tree(f'select {place}"userId", count(*) from shop."Order" group by {place}"userId"', columns)
        assert {column.table for column in tree.find_all(exp.Column)} == {"Order"}
