"""Which keys a changed row leads to: read from a definition, and never too few of them."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from lifecycle.views.catalog import Source
from lifecycle.views.keys import RefreshKey, change_query
from lifecycle.views.ties import ties_of
from sandbox.application import drop_database
from sandbox.server import SUPERUSER, Server
from tests.random_queries import CHANGES, COLUMNS, ROWS, SCHEMA, TABLES, queries

TYPES = dict.fromkeys(("id", *COLUMNS), "integer")
SOURCES = [Source(QualifiedName("kt", table), "r", TYPES) for table in TABLES]
SAME = {source.name: source.columns for source in SOURCES}


def told(definition: str, key: str = "k") -> list[str]:
    """The ties as `table.column`, with each hop as ` > table.column.next`; a hop that follows NULLs ends with `?`."""
    return [
        f"{tie.table.name}.{tie.column}"
        + "".join(f" > {hop.table.name}.{hop.column}.{hop.next}{'?' if hop.nulls else ''}" for hop in tie.hops)
        for tie in ties_of(definition, SAME, key)
    ]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("SELECT a.k, a.x FROM kt.a", ["a.k"]),
        ("SELECT a.k, b.x FROM kt.a JOIN kt.b ON a.k = b.x", ["a.k", "b.x"]),
        ("SELECT a.k, b.x FROM kt.a JOIN kt.b ON a.x = b.y", ["a.k", "b.y > a.x.k"]),
        ("SELECT a.k, b.x FROM kt.a, kt.b WHERE a.k = b.k AND a.x > b.x", ["a.k", "b.k"]),
        ("SELECT a.k, b.x FROM kt.a JOIN kt.b USING (k)", ["a.k", "b.k"]),
        ("SELECT a.k, count(b.id) AS n FROM kt.a LEFT JOIN kt.b ON b.x = a.id GROUP BY a.k", ["a.k", "b.x > a.id.k"]),
        (
            "SELECT a.k FROM kt.a LEFT JOIN kt.b ON b.x = a.x LEFT JOIN kt.c ON c.y = b.y",
            ["a.k", "b.x > a.x.k", "c.y > b.y.x > a.x.k"],
        ),
        ("SELECT k, count(*) AS n FROM kt.a GROUP BY k, x", ["a.k"]),
        ("SELECT a.k, a.x, count(*) AS n FROM kt.a GROUP BY a.k, GROUPING SETS ((a.x), ())", ["a.k"]),
        ("SELECT a.k, rank() OVER (PARTITION BY a.k ORDER BY a.x) AS r FROM kt.a", ["a.k"]),
        # A row that leaves a part: the others of its part by the hop, its own key directly.
        ("SELECT a.k, rank() OVER (PARTITION BY a.x ORDER BY a.y) AS r FROM kt.a", ["a.k", "a.x > a.x.k?"]),
        ("SELECT a.k FROM kt.a UNION ALL SELECT b.x AS k FROM kt.b", ["a.k", "b.x"]),
        ("SELECT a.k FROM kt.a UNION SELECT b.k FROM kt.b UNION SELECT a.x FROM kt.a", ["a.k", "a.x", "b.k"]),
        ("WITH w AS (SELECT a.k, a.x FROM kt.a) SELECT w.k, b.y FROM w JOIN kt.b ON b.y = w.x", ["a.k", "b.y > a.x.k"]),
        ("SELECT a.k, l.n FROM kt.a LEFT JOIN LATERAL (SELECT count(*) AS n FROM kt.b WHERE b.k = a.k) l ON true",
         ["a.k", "b.k"]),
        ("SELECT a.k, (SELECT max(b.y) FROM kt.b WHERE b.x = a.x LIMIT 1) AS n FROM kt.a", ["a.k", "b.x > a.x.k"]),
        ("SELECT a.k FROM kt.a WHERE NOT (EXISTS (SELECT 1 FROM kt.b WHERE b.k = a.k))", ["a.k", "b.k"]),
        ("SELECT DISTINCT a.k, a.x FROM kt.a", ["a.k"]),
        ("SELECT a.k, g.g FROM kt.a CROSS JOIN generate_series(1, 3) g(g)", ["a.k"]),
        ("SELECT a.k, b.x FROM kt.a RIGHT JOIN kt.b ON a.k = b.k WHERE a.k = b.k", "null for rows"),
        ("SELECT b.k FROM kt.a LEFT JOIN kt.b ON a.k = b.k", "null for rows that an outer join did not match"),
        ("SELECT a.k FROM kt.a FULL JOIN kt.b ON a.k = b.k", "null for rows that an outer join did not match"),
        ("SELECT b.k, g.n FROM generate_series(1, 3) g(n) FULL JOIN kt.b ON b.k = g.n", "null for rows"),
        ("SELECT a.k FROM kt.a LEFT JOIN (kt.b JOIN kt.c ON b.x = c.x) ON a.k = b.k", "join in parentheses"),
        ("SELECT a.k, b.x FROM kt.a JOIN kt.b ON a.k = b.k OR a.x = b.x", "kt.b is tied by nothing"),
        ("SELECT a.k, b.x FROM kt.a JOIN kt.b ON a.k < b.k", "kt.b is tied by nothing"),
        ("SELECT a.x AS k, count(*) AS n FROM kt.a GROUP BY a.y, a.k", "is not grouped by"),
        ("SELECT a.k, count(*) AS n FROM kt.a GROUP BY ROLLUP (a.k)", "is not grouped by"),
        ("SELECT a.k, count(*) AS n FROM kt.a GROUP BY GROUPING SETS ((a.k), ())", "is not grouped by"),
        ("SELECT a.k, count(*) AS n FROM kt.a GROUP BY CUBE (a.k, a.x)", "is not grouped by"),
        ("SELECT max(a.k) AS k FROM kt.a", "is computed"),
        ("SELECT a.k, rank() OVER (ORDER BY a.x) AS r FROM kt.a", "looks at rows of other keys"),
        ("SELECT a.k, rank() OVER (PARTITION BY b.k ORDER BY a.x) AS r FROM kt.a LEFT JOIN kt.b ON a.k = b.k",
         "looks at rows of other keys"),
        ("SELECT a.k, rank() OVER w AS r FROM kt.a WINDOW w AS (PARTITION BY a.k)", "looks at rows of other keys"),
        ("SELECT a.k FROM kt.a EXCEPT SELECT b.k FROM kt.b", "EXCEPT"),
        ("SELECT a.k FROM kt.a UNION ALL SELECT b.k FROM kt.b ORDER BY 1 LIMIT 3", "only the first rows"),
        ("SELECT a.k FROM kt.a ORDER BY a.k OFFSET 1", "only the first rows"),
        ("WITH w AS (SELECT a.k FROM kt.a ORDER BY a.x LIMIT 3) SELECT w.k FROM w", "only the first rows"),
        ("SELECT DISTINCT ON (a.x) a.k FROM kt.a ORDER BY a.x", "DISTINCT ON"),
        ("SELECT a.k, (SELECT count(*) FROM kt.b) AS n FROM kt.a", "kt.b is tied by nothing"),
        ("SELECT a.k FROM kt.a WHERE a.x IN (SELECT b.x FROM kt.b)", "kt.b is tied by nothing"),
        ("SELECT a.k, (SELECT count(*) FROM kt.a a_1) AS n FROM kt.a", "kt.a is tied by nothing"),
        ("SELECT a.k, (SELECT count(*) FROM kt.a WHERE a.x = 3) AS n FROM kt.a", "tied by nothing"),
        ("SELECT a.k, l.n FROM kt.a CROSS JOIN LATERAL (SELECT b.y AS n FROM kt.b WHERE b.k > a.k) l",
         "kt.b is tied by nothing"),
        ("SELECT a.k, g.g FROM kt.a CROSS JOIN generate_series(1, (SELECT max(b.x) FROM kt.b)) g(g)",
         "kt.b is tied by nothing"),
        # Two rows of one table in a sub-query: no row of it holds both columns.
        ("SELECT s.k, c.y FROM (SELECT p.x, q.k FROM kt.a p JOIN kt.a q ON p.y = q.id) s JOIN kt.c ON c.x = s.x",
         "kt.c is tied by nothing"),
        ("SELECT s.x AS k FROM kt.a s(id, x, k, y)", "other column names"),
        ("WITH RECURSIVE r AS (SELECT a.k FROM kt.a UNION ALL SELECT b.x FROM r JOIN kt.b ON b.k = r.k)"
         " SELECT r.k FROM r", "recursive"),
        ("SELECT a.k FROM kt.a TABLESAMPLE system (10)", "sample"),
        ("SELECT a.k, c.relname FROM kt.a JOIN pg_class c ON a.k = c.relpages", "tables that it reads"),
    ],
)  # fmt: skip
def test_ties(definition: str, expected: list[str] | str) -> None:
    if isinstance(expected, list):
        assert told(definition) == expected
    else:
        with pytest.raises(RefusedError, match=expected):
            told(definition)


@pytest.fixture(scope="module")
def small(server: Server) -> Iterator[Connection]:
    """Three small tables, and the notes of changed rows without anything else of ours."""
    name = "view_ties"
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
        admin.execute(f"create database {name} owner postgres template template0")
    with connect(server.url(name)) as conn:
        conn.execute(f"create schema kt; create schema lifecycle; {SCHEMA}".encode())
        conn.execute(
            "create table lifecycle.changed_rows (source_schema text, source_name text, held jsonb,"
            " written_by xid8 default pg_current_xact_id())"
        )
        conn.execute("set search_path = ''")
        yield conn
    drop_database(server, name)


def said(conn: Connection, key: str) -> dict[Any, list[tuple[Any, ...]]]:
    """The rows of the view by key."""
    found: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    for row in rows(conn, "select k, x, y from kt.v order by 1, 2, 3"):
        found[row[COLUMNS.index(key)]].append(row)
    return found


def tied_columns(definition: str) -> Iterator[tuple[str, RefreshKey]]:
    for key in COLUMNS:
        try:
            yield key, RefreshKey(key, ties_of(definition, SAME, key))
        except RefusedError:
            continue


def change(conn: Connection, table: str, verb: str, number: int, row: tuple[int | None, ...]) -> None:
    """Change one row as the application does, and note it as the triggers do."""
    held = f"select to_jsonb(t) from kt.{table} t where t.id = %s"
    before = rows(conn, held, (number,))
    if (verb == "insert") == bool(before):
        return
    if verb == "insert":
        conn.execute(f"insert into kt.{table} values (%s, %s, %s, %s)".encode(), (number, *row))
    elif verb == "update":
        conn.execute(f"update kt.{table} set (k, x, y) = row (%s, %s, %s) where id = %s".encode(), (*row, number))
    else:
        conn.execute(f"delete from kt.{table} where id = %s".encode(), (number,))
    for (found,) in (*before, *rows(conn, held, (number,))):
        conn.execute("insert into lifecycle.changed_rows values ('kt', %s, %s)", (table, Jsonb(found)))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    query=queries(),
    filled=st.tuples(*[st.lists(ROWS, max_size=4)] * 3),
    changes=st.lists(CHANGES, min_size=1, max_size=3),
)
# Rows whose part of a window is NULL are a part together.
@example(
    query="select a.k, rank() over (partition by a.x order by a.y) as x, a.y from kt.a",
    filled=([(1, None, 1), (2, None, 2)], [], []),
    changes=[("a", "update", 1, (2, None, 0))],
)
def test_every_key_whose_rows_differ_is_named(
    small: Connection, query: str, filled: tuple[list[Any], ...], changes: list[Any]
) -> None:
    conn = small
    with conn.transaction(force_rollback=True):
        conn.execute(f"create view kt.v as {query}".encode())
        keys = dict(tied_columns(value(conn, "select pg_get_viewdef('kt.v', true)")))
        if not keys:
            return
        for table, found in zip(TABLES, filled, strict=True):
            for number, row in enumerate(found):
                conn.execute(f"insert into kt.{table} values (%s, %s, %s, %s)".encode(), (number, *row))
        before = {key: said(conn, key) for key in keys}
        for each in changes:
            change(conn, *each)
        for key, how in keys.items():
            after = said(conn, key)
            differ = {held for held in {*before[key], *after} if before[key].get(held) != after.get(held)}
            text = change_query(how, SOURCES, {}).replace("$1", "'1:1:'::pg_catalog.pg_snapshot")
            assert differ <= {held for (held,) in rows(conn, text)}, (key, how)
