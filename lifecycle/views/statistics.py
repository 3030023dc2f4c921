"""Kept views from Python: refresh one, compare all with their definitions, say how each stands. Counts only."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from psycopg import sql

from lifecycle.database import Connection, rows, without_statement_timeout
from lifecycle.errors import BusyError, LifecycleError, RefusedError
from lifecycle.names import QualifiedName

REFRESH: Final = """
select name, outcome, duration_ms, rows, error from public.refresh_derived_statistics(%s)
"""
COMPARE: Final = "select name, outcome, duration_ms, differing, error from public.reconcile_statistics(%s)"
STATUS: Final = """
select v.schema_name, v.view_name, v.kept_table, v.key_column, v.moves, v.refreshed_at, now() - v.refreshed_at,
       lifecycle.kept_view_due(v) + interval '30 minutes' < now(),
       lifecycle.kept_view_due(v) <= now() + interval '5 minutes',
       v.refresh_ms, v.definition_ms, v.rows_written, v.differing, v.compared_at, v.unstable,
       case when r.view is null then 'gone'
            when lifecycle.kept_definition(r.view, v.kept_table) is null then 'changed by the application'
            else 'kept' end
  from lifecycle.kept_views v
 cross join lateral (select to_regclass(format('%%I.%%I', v.schema_name, v.view_name))) r(view)
 where %(schema)s::text is null or (v.schema_name, v.view_name) = (%(schema)s, %(name)s)
 order by v.place
"""
INSTALLED: Final = "select to_regclass('lifecycle.kept_views') is not null"


@dataclass(frozen=True)
class StatisticOutcome:
    """What a refresh of one view came to: `rows` were written.

    `missing`: it is not kept. `gone`, `changed`: the application dropped or replaced it.
    """

    name: str
    outcome: Literal["whole", "keyed", "skipped", "missing", "gone", "changed"]
    duration_ms: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Comparison:
    """One view against its definition: `differing` rows were a fault, and were repaired."""

    name: str
    outcome: Literal["equal", "repaired", "busy", "failure", "gone", "changed"]
    duration_ms: int
    differing: int
    error: str | None


@dataclass(frozen=True)
class StatisticStatus:
    """How a kept view stands.

    `late`: half an hour past its time. Durations are milliseconds of the last refresh, and of the last time that its
    definition was computed whole.
    """

    name: QualifiedName
    table: QualifiedName
    key: str | None
    moves: str
    refreshed_at: datetime | None
    age: timedelta | None
    late: bool
    due: bool
    refresh_ms: int | None
    definition_ms: int | None
    rows_written: int | None
    differing: int | None
    compared_at: datetime | None
    unstable: tuple[str, ...]
    state: Literal["kept", "changed by the application", "gone"]


def refresh_statistic(conn: Connection, name: QualifiedName) -> StatisticOutcome:
    """Bring one kept view up to its definition, now; `missing` when it is not kept.

    Raises BusyError while another session refreshes, and LifecycleError when PostgreSQL refused; that is in the ledger
    by then.
    """
    if not statistics_status(conn, name):
        return StatisticOutcome(str(name), "missing")
    with without_statement_timeout(conn):
        ((told, outcome, duration_ms, written, error),) = rows(conn, REFRESH, (str(name),))
    if outcome == "busy":
        raise BusyError(f"{name}: {error}")
    if outcome == "failure":
        raise LifecycleError(f"{name}: {error}")
    return StatisticOutcome(told, outcome, duration_ms, written)


def compare_statistics(conn: Connection, name: QualifiedName | None = None) -> tuple[Comparison, ...]:
    """Compare every kept view, or one, with its definition as of one moment, and repair what differs."""
    with without_statement_timeout(conn):
        return tuple(Comparison(*row) for row in rows(conn, COMPARE, (name and str(name),)))


def statistics_status(conn: Connection, name: QualifiedName | None = None) -> tuple[StatisticStatus, ...]:
    """Every kept view, or the named one, in the order in which they are refreshed; none before `lifecycle migrate`."""
    if rows(conn, INSTALLED) != [(True,)]:
        return ()
    values = {"schema": name and name.schema, "name": name and name.name}
    return tuple(
        StatisticStatus(
            QualifiedName(schema, view), QualifiedName("lifecycle", table), key, moves, at, age, late, due, ms,
            definition_ms, written, differing, compared_at, tuple(unstable), state,
        )
        for (
            schema, view, table, key, moves, at, age, late, due, ms, definition_ms, written, differing, compared_at,
            unstable, state,
        ) in rows(conn, STATUS, values)
    )  # fmt: skip


def named_statistic(conn: Connection, text: str) -> QualifiedName:
    """The kept view of this name, with or without its schema; RefusedError says which there are."""
    known = [status.name for status in statistics_status(conn)]
    found = [name for name in known if text in (str(name), name.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RefusedError(f"{text!r} is the name of {', '.join(map(str, found))}; say which")
    near = difflib.get_close_matches(text, [name.name for name in known], n=1)
    raise RefusedError(
        f"no view named {text!r} is kept{f' (there is {near[0]})' if near else ''}; `lifecycle plan views` says which "
        "are, and why others are not"
    )


def figures(conn: Connection, table: QualifiedName, columns: Sequence[str], most: int) -> list[tuple[object, ...]]:
    """Some columns of a kept view's rows, ordered by the first of them, the last `most` of them."""
    query = sql.SQL("select * from (select {} from {} order by 1 desc nulls last limit {}) r order by 1").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), table.identifier, sql.Literal(most)
    )
    return conn.execute(query).fetchall()
