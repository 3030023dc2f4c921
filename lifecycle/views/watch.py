"""Triggers on tables that keyed views read: they note late, corrected and deleted rows, and cost new rows nothing.

A table whose new rows carry the present time in a declared column is looked at again from the last refresh on, two
hours of overlap included; only a row that is outside of these two hours then, one whose key changes and one that goes
fires a trigger. Of a table without such a column every change is noted. A trigger names key and time columns and no
others.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.names import QualifiedName

# As much as a refresh looks back: lifecycle.refresh_kept_view.
RECENT: Final = "pg_catalog.now() - interval '2 hours'"
LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
# A row that goes to the archive or comes back changes no figure.
NO_MOVE: Final = "pg_catalog.current_setting('lifecycle.moves_rows', true) is distinct from 'yes'"
WATCHED: Final = "select source_schema, source_name, column_names, made_by from lifecycle.watched_tables"
COLUMNS: Final = """
select attname::text, format_type(atttypid, null) from pg_attribute
 where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
"""
TRIGGERS: Final = """
select count(*) from pg_trigger
 where tgrelid = to_regclass(%s) and tgname like 'lifecycle\\_changed\\_%%' and tgparentid = 0
"""
WRITE: Final = """
insert into lifecycle.watched_tables as w values (%s, %s, %s, %s, %s)
on conflict (source_schema, source_name) do update
   set time_column = excluded.time_column, column_names = excluded.column_names, made_by = excluded.made_by
"""
UNREAD: Final = """
select w.source_schema, w.source_name from lifecycle.watched_tables w
 where not exists (select from lifecycle.kept_view_sources s
                    where (s.source_schema, s.source_name) = (w.source_schema, w.source_name)) order by 1, 2
"""
FORGET: Final = "delete from lifecycle.watched_tables where (source_schema, source_name) = (%s, %s)"
NAMES: Final = ("insert", "update", "delete", "truncate")


def watch_tables(
    conn: Connection, watched: Mapping[QualifiedName, Set[str]], times: Mapping[QualifiedName, str]
) -> Iterator[str]:
    """Make the triggers that are missing or differ on each table, to note these columns; a line per table.

    Waits for nobody longer than the lock timeout.
    """
    known = {QualifiedName(schema, name): (columns, made_by) for schema, name, columns, made_by in rows(conn, WATCHED)}
    for table in sorted({*known, *watched}):
        noted, made_by = known.get(table, ((), None))
        if not value(conn, "select to_regclass(%s) is not null", (str(table),)):
            continue
        # The application may have renamed one since.
        there = dict(rows(conn, COLUMNS, (str(table),)))
        columns, time = tuple(sorted({*watched.get(table, ()), *noted} & set(there))), times_of(times, table, there)
        statements = sql.SQL("; ").join(trigger_statements(table, columns, time)).as_string(conn)
        if statements == made_by and value(conn, TRIGGERS, (str(table),)) == len(NAMES):
            continue
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            conn.execute(statements.encode())
            conn.execute(WRITE.encode(), (table.schema, table.name, time, list(columns), statements))
        yield f"table {table}: changed rows are noted"


def times_of(times: Mapping[QualifiedName, str], table: QualifiedName, columns: Mapping[str, str]) -> str | None:
    """The declared time column of a table that has it as a timestamptz; without it every change of the table is noted.

    Any other type is compared with the present by the zone of whoever writes.
    """
    declared = times.get(table)
    known = declared is not None and columns.get(declared, "").endswith(" with time zone")
    return declared if known else None


def trigger_statements(table: QualifiedName, columns: Sequence[str], time: str | None) -> Iterator[sql.Composed]:
    """The four triggers of a table."""
    recent = sql.SQL(RECENT)
    # The shorter a condition, the cheaper each statement of the application.
    conditions: dict[str, sql.Composable] = {
        "insert": sql.SQL(NO_MOVE), "update": sql.SQL("true"), "delete": sql.SQL(NO_MOVE)
    }  # fmt: skip
    if time is not None:
        late = sql.SQL("(new.{} >= {}) is not true").format(sql.Identifier(time), recent)
        moved = [sql.SQL("old.{c} is distinct from new.{c}").format(c=sql.Identifier(c)) for c in columns]
        conditions["insert"] = sql.SQL("{} and {}").format(late, conditions["insert"])
        # What was late and is recent now is found as a recent row, where its key is still the same.
        conditions["update"] = sql.SQL(" or ").join([late, *moved])
    arguments = sql.SQL(", ").join(map(sql.Literal, (table.schema, table.name, *columns)))
    for verb in ("insert", "update", "delete"):
        yield sql.SQL(
            "create or replace trigger {name} after {verb} on {table} for each row {condition}"
            " execute function lifecycle.note_changed_rows({arguments})"
        ).format(
            name=sql.Identifier(f"lifecycle_changed_{verb}"),
            verb=sql.SQL(verb),
            table=table.identifier,
            condition=sql.SQL("when ({})").format(conditions[verb]),
            arguments=arguments,
        )
    yield sql.SQL(
        "create or replace trigger lifecycle_changed_truncate after truncate on {} for each statement"
        " execute function lifecycle.note_truncated_table({})"
    ).format(table.identifier, sql.SQL(", ").join(map(sql.Literal, (table.schema, table.name))))


def unwatch_tables(conn: Connection) -> Iterator[str]:
    """Drop the triggers from tables that no kept view reads any more; a line per table."""
    for schema, name in rows(conn, UNREAD):
        table = QualifiedName(schema, name)
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            if value(conn, "select to_regclass(%s) is not null", (str(table),)):
                for verb in NAMES:
                    conn.execute(
                        sql.SQL("drop trigger if exists {} on {}").format(
                            sql.Identifier(f"lifecycle_changed_{verb}"), table.identifier
                        )
                    )
            conn.execute(FORGET.encode(), (schema, name))
        yield f"table {table}: changed rows are no longer noted"
