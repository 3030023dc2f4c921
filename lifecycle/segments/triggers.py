"""The triggers that note whose segments have to be computed again. They name no column of the application's tables."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.names import QualifiedName

LOCK_TIMEOUT: Final = "set local lock_timeout = '200ms'"
CHANGED: Final = "lifecycle_segments_changed"
TRUNCATED: Final = "lifecycle_segments_truncated"
# As PostgreSQL prints them, so that what is there can be compared.
EVENTS: Final = {"insert": "INSERT", "delete": "DELETE", "update": "UPDATE"}
TRIGGERS: Final = """
select n.nspname::text, c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid), t.tgenabled = 'O'
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
 where t.tgname in ('lifecycle_segments_changed', 'lifecycle_segments_truncated') and t.tgparentid = 0
"""
KIND: Final = """
select c.relkind in ('r', 'p') from pg_class c where c.oid = to_regclass(%s)
"""


def _events(application: Application) -> dict[QualifiedName, set[str]]:
    found: dict[QualifiedName, set[str]] = defaultdict(set)
    for target in application.segments.targets:
        found[target.table] |= {"insert", "update"}
    for _, _, source in application.segments.sources():
        for table, watch in source.watches.items():
            found[table] |= set(watch.on)
    return found


def _definitions(table: QualifiedName, events: set[str]) -> dict[str, str]:
    call = sql.SQL("EXECUTE FUNCTION lifecycle.note_segment_change({}, {})").format(table.schema, table.name)
    each = " OR ".join(word for event, word in EVENTS.items() if event in events)
    return {
        CHANGED: f"CREATE TRIGGER {CHANGED} AFTER {each} ON {table} FOR EACH ROW {call.as_string(None)}",
        TRUNCATED: f"CREATE TRIGGER {TRUNCATED} AFTER TRUNCATE ON {table} FOR EACH STATEMENT {call.as_string(None)}",
    }


def make_triggers(conn: Connection, application: Application) -> Iterator[str]:
    """Make what is missing or different, drop what is no longer declared; a line per trigger.

    Each is a short transaction of its own. Raises psycopg's LockNotAvailable while the application holds a table.
    """
    found = {
        (QualifiedName(schema, name), trigger): (definition, enabled)
        for schema, name, trigger, definition, enabled in rows(conn, TRIGGERS)
    }
    wanted: set[tuple[QualifiedName, str]] = set()
    for table, events in _events(application).items():
        if not value(conn, KIND, (str(table),)):
            continue
        for trigger, definition in _definitions(table, events).items():
            wanted.add((table, trigger))
            if found.get((table, trigger)) != (definition, True):
                _run(conn, definition.replace("CREATE TRIGGER", "create or replace trigger", 1))
                yield f"trigger {trigger} on {table}: {'changed' if (table, trigger) in found else 'made'}"
    yield from _drop(conn, set(found) - wanted)


def drop_triggers(conn: Connection, _application: Application) -> Iterator[str]:
    """Drop all of them; raises as `make_triggers`."""
    yield from _drop(
        conn, {(QualifiedName(schema, name), trigger) for schema, name, trigger, *_ in rows(conn, TRIGGERS)}
    )


def _drop(conn: Connection, triggers: set[tuple[QualifiedName, str]]) -> Iterator[str]:
    for table, trigger in sorted(triggers):
        _run(conn, f"drop trigger {trigger} on {table}")
        yield f"trigger {trigger} on {table}: dropped"


def _run(conn: Connection, statement: str) -> None:
    with conn.transaction():
        conn.execute(LOCK_TIMEOUT)
        conn.execute(statement.encode())
