"""What the tests of kept views share: views declared and refreshed, beside their definitions and in the catalog."""

from collections.abc import Iterable
from typing import Any

from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.views import KeptView
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from tests.declared import APPLICATION

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
# Every view as the application and its readers see it in the catalog.
CATALOG = """
select c.relname::text, c.relkind::text, pg_get_userbyid(c.relowner)::text, c.reloptions,
       -- Our line below the application's comment aside.
       split_part(obj_description(c.oid, 'pg_class'), E'\nlifecycle: answers from a table', 1),
       array(select row (a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, a.attacl,
                         col_description(c.oid, a.attnum))::text
               from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum),
       array(select a::text from unnest(c.relacl) a order by 1)
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('v', 'm') order by 1
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


def keep(url: str, **views: KeptView) -> str:
    """Declare these views of schema public beside the shipped ones, and migrate; what that said."""
    kept = {**APPLICATION.views.kept, **{QualifiedName("public", name): view for name, view in views.items()}}
    declared = APPLICATION.model_copy(update={"views": APPLICATION.views.model_copy(update={"kept": kept})})
    return "\n".join(upgrade(url, declared).changes)


def migrate(url: str) -> str:
    """Migrate with the shipped declarations; what that said."""
    with connect(url) as conn:  # as a release does whose declarations are others
        conn.execute("delete from lifecycle.migrated_declarations")
    return "\n".join(upgrade(url, APPLICATION).changes)


def kept_names(conn: Connection) -> set[str]:
    """The views that answer from a table."""
    return {name for (name,) in rows(conn, "select view_name from lifecycle.kept_views")}


def definition_of(conn: Connection, view: str) -> str:
    """The view's text as PostgreSQL prints it."""
    return str(value(conn, "select pg_get_viewdef(to_regclass(%s))", (view,)))


def old_session(conn: Connection) -> tuple[object, object]:
    """A session with messages, none of them recent, and its account."""
    return rows(
        conn,
        "select s.id, s.account_id from chat_sessions s join chat_messages m on m.session_id = s.id"
        " where s.started_at between now() - interval '80 days' and now() - interval '2 days'"
        " group by 1 having count(*) > 2 order by 1 limit 1",
    )[0]
