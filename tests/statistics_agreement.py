"""Whether the tables say what the application's own views would say, compared in one transaction."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from lifecycle.statistics import STATISTICS

Connection = psycopg.Connection[tuple[Any, ...]]

COMPARED = ("account_function_usage", *(statistic.name for statistic in STATISTICS))
ROLL_UP_TABLES = (
    "chat_session_hours",
    "function_usage_hourly",
    "chat_performance_history",
    "account_session_days",
    "data_quality_hourly",
    "function_usage_totals",
)


def differences(conn: Connection, name: str) -> list[tuple[Any, ...]]:
    """Rows that only one of the two has; needs a transaction, so that both read the same clock."""
    query = sql.SQL(
        "(select 'missing', q.* from (select * from {original} except all select * from {view}) q) union all "
        "(select 'surplus', q.* from (select * from {view} except all select * from {original}) q)"
    ).format(original=sql.Identifier("lifecycle", f"original_{name}"), view=sql.Identifier("public", name))
    return conn.execute(query).fetchall()


def refresh(conn: Connection) -> list[tuple[Any, ...]]:
    found = conn.execute("select name, outcome, error from public.refresh_derived_statistics()").fetchall()
    return [row for row in found if row[1] != "success"]


def disagreements(conn: Connection, names: Sequence[str] = COMPARED) -> dict[str, list[tuple[Any, ...]]]:
    """Refresh and compare in one transaction; empty when every view agrees row by row."""
    with conn.transaction():
        conn.execute("set local timezone = 'UTC'")
        failed = refresh(conn)
        assert not failed, failed
        return {name: found for name in names if (found := differences(conn, name))}


def contents(conn: Connection, tables: Sequence[str] = ROLL_UP_TABLES) -> dict[str, list[str]]:
    """All rows of the roll-ups as text, sorted."""
    found = {}
    for table in tables:
        query = sql.SQL("select t::text from {} t order by 1").format(sql.Identifier("lifecycle", table))
        found[table] = [row[0] for row in conn.execute(query).fetchall()]
    return found
