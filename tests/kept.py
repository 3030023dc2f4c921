"""What the tests of kept views share: a refresh of all, and every view beside its own definition."""

from collections.abc import Iterable
from typing import Any

from lifecycle.database import Connection, rows, value

REFRESH = """
select v.view_name, r.mode, r.written, r.note
  from (select k.* from lifecycle.kept_views k order by k.place) v cross join lateral lifecycle.refresh_kept_view(v) r
"""
KEPT = """
select v.schema_name, v.view_name, v.column_names, v.unstable,
       lifecycle.kept_definition(to_regclass(format('%I.%I', v.schema_name, v.view_name)), v.kept_table)
  from lifecycle.kept_views v order by v.place
"""
A_MESSAGE = """
insert into chat_messages (session_id, role, content, created_at, sequence, latency_ms, tool_calls)
select s.id, 'tool', 'x', %s::timestamptz,
       1 + (select coalesce(max(sequence), 0) from chat_messages m where m.session_id = s.id), 70,
       '[{"tool": "new_tool"}]'
  from chat_sessions s where s.id = %s
"""


def refresh(conn: Connection) -> dict[str, tuple[str, int, str | None]]:
    """Refresh every kept view, due or not: how, rows written, why whole."""
    return {name: (mode, written, note) for name, mode, written, note in rows(conn, REFRESH)}


def definition(conn: Connection, view: str) -> str:
    """The definition inside a kept view, which names everything with its schema."""
    found: str = value(
        conn,
        "select lifecycle.kept_definition(to_regclass(%s), v.kept_table) from lifecycle.kept_views v"
        " where v.view_name = %s",
        (view, view),
    )
    return found


def differences(conn: Connection) -> dict[str, int]:
    """Kept views whose rows are not those of their definition, and by how many rows; a transaction's now() is one."""
    found = {}
    conn.execute("set local search_path = ''")
    for schema, view, columns, unstable, text in rows(conn, KEPT):
        shown = ", ".join(f'd."{column}"::text' for column in columns if column not in unstable)
        fresh, kept = f"select {shown} from ({text}) d", f'select {shown} from {schema}."{view}" d'
        count = value(
            conn,
            f"select count(*) from (({fresh} except all {kept}) union all ({kept} except all {fresh})) x",
        )
        if count:
            found[view] = count
    conn.execute('set local search_path = "$user", public, extensions')
    return found


def refresh_and_compare(conn: Connection) -> dict[str, tuple[str, int, str | None]]:
    """Refresh every view; each must then say what its definition says."""
    with conn.transaction():
        conn.execute("set local timezone = 'UTC'")
        done = refresh(conn)
        assert differences(conn) == {}
    return done


def modes(done: dict[str, tuple[str, int, str | None]], views: Iterable[str]) -> set[str]:
    """How these views were refreshed."""
    return {done[view][0] for view in views}


def one(conn: Connection, query: str, *parameters: Any) -> Any:
    """The only value of a query."""
    return value(conn, query, parameters)
