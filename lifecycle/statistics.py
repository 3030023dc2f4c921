"""The derived statistics: which roll-ups and tables there are, and the calls that bring them up to date.

The SQL stands in migrations/versions (roll-ups and statistics); docs/explanation/statistics.md says how it works.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value, without_statement_timeout
from lifecycle.views.refreshing import RefreshOutcome, lock_analytics

JOB: Final = "refresh_derived_statistics"
REFRESH_ROLL_UPS: Final = """
select name, outcome, duration_ms, rows, error from lifecycle.refresh_roll_ups(%s, %s, %s)
"""
REFRESH_STATISTICS: Final = """
select name, outcome, duration_ms, rows, error from lifecycle.refresh_statistics(%s::text[])
"""
AGES: Final = "select name, now() - refreshed_at from lifecycle.refresh_states"
# The hour in which we are, and the one before, may still be under way.
HOURS_BEHIND: Final = {
    "chat_session_hours": """
        select distinct date_trunc('hour', m.created_at, 'UTC') as hour from lifecycle.chat_message_facts m
         where m.created_at >= date_trunc('hour', now(), 'UTC') - interval '24 hours'
           and m.created_at < date_trunc('hour', now(), 'UTC') - interval '1 hour'
        except select hour from lifecycle.chat_session_hours
         where hour >= date_trunc('hour', now(), 'UTC') - interval '24 hours' order by 1""",
    "data_quality_hourly": """
        select distinct date_trunc('hour', e.event_timestamp, 'UTC') as hour from public.user_behavior_events e
         where e.event_timestamp >= date_trunc('hour', now(), 'UTC') - interval '24 hours'
           and e.event_timestamp < date_trunc('hour', now(), 'UTC') - interval '1 hour'
        except select hour from lifecycle.data_quality_hourly
         where hour >= date_trunc('hour', now(), 'UTC') - interval '24 hours' order by 1""",
}
WARNINGS: Final = """
select metric_name, metric_value, threshold from lifecycle.data_quality_metrics where status <> 'healthy' order by 1
"""
LAST_RECONCILIATION: Final = "select rows from lifecycle.refresh_states where name = 'reconcile_statistics'"
RELATION: Final = """
select greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid) from pg_class c where c.oid = %s::regclass
"""
COLUMNS: Final = """
select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a
 where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
# Tables up to this size are counted for the metadata of a run; larger ones would be read for nothing else.
COUNTED: Final = 20_000_000
RECONCILE: Final = "select name, checked, repaired from lifecycle.reconcile_statistics(%s, %s)"


@dataclass(frozen=True)
class RollUp:
    """A table of schema lifecycle that holds one row per bucket of `time_column` and subject."""

    name: str
    time_column: str
    sources: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class Statistic:
    """A view of schema public that answers from the table of the same name in schema lifecycle."""

    name: str
    sources: tuple[str, ...]
    description: str


ROLL_UPS: Final = (
    RollUp(
        "chat_session_hours",
        "hour",
        ("chat_messages", "chat_sessions"),
        "Chat messages per session and UTC hour. Outlives the messages.",
    ),
    RollUp(
        "function_usage_hourly",
        "hour",
        ("chat_messages", "chat_sessions"),
        "Calls of each tool per account and UTC hour, with the first and last one. Outlives the messages.",
    ),
    RollUp(
        "chat_performance_history",
        "hour",
        ("chat_messages",),
        "Latency of assistant messages per UTC hour: mean, percentiles (interpolated) and maximum, in milliseconds.",
    ),
    RollUp(
        "account_session_days",
        "day",
        ("user_behavior_events", "chat_sessions"),
        "Which account was seen in which session on which UTC day.",
    ),
    RollUp(
        "data_quality_hourly",
        "hour",
        ("user_behavior_events", "chat_sessions", "chat_messages"),
        "What the data quality metrics count, per UTC hour; `lifecycle.data_quality_history` shows the trend.",
    ),
)

STATISTICS: Final = (
    Statistic(
        "chat_performance_metrics",
        ("chat_performance_history",),
        "Latency of assistant messages per hour of the last 7 days.",
    ),
    Statistic(
        "data_quality_metrics",
        ("data_quality_hourly",),
        "Four figures of the last 24 hours, each against its threshold.",
    ),
    Statistic("daily_active_users", ("account_session_days",), "Accounts seen per day of the last 90 days."),
    Statistic(
        "weekly_monthly_active_users",
        ("account_session_days",),
        "Accounts seen in the 1, 7 and 30 days up to each of the last 91 days, and the ratios.",
    ),
    Statistic(
        "user_engagement_scores",
        ("account_session_days", "chat_session_hours"),
        "Days, sessions, messages and a score per account, as far back as the events reach.",
    ),
    Statistic("feature_usage_summary", ("function_usage_hourly",), "Uses of each tool: all time, 7 and 30 days."),
    Statistic("chat_usage_by_account", ("chat_session_hours",), "Chat sessions and messages per account, all time."),
    Statistic(
        "hourly_usage_patterns",
        ("chat_session_hours",),
        "Messages, sessions and accounts per day of the week (0 is Sunday) and hour (UTC) of the last 30 days.",
    ),
)


@dataclass(frozen=True)
class DataQualityWarning:
    """A metric on the wrong side of its threshold; both in the metric's own unit."""

    metric_name: str
    value: Decimal
    threshold: Decimal


@dataclass(frozen=True)
class Reconciliation:
    """What a comparison with the source looked at (days, accounts or rows) and how many rows it had to repair."""

    name: str
    checked: int
    repaired: int


@dataclass(frozen=True)
class RelationFacts:
    """Size and columns (name, type) of a table. `rows` is counted up to COUNTED bytes, beyond that an estimate."""

    rows: int
    bytes: int
    columns: tuple[tuple[str, str], ...]


def relation_facts(conn: Connection, schema: str, name: str) -> RelationFacts:
    """Look a table up; UndefinedTable when it does not exist."""
    relation = f"{schema}.{name}"
    estimate, size = rows(conn, RELATION, (relation,))[0]
    count = estimate
    if size <= COUNTED:
        found = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name))).fetchone()
        count = found[0] if found else 0
    return RelationFacts(count, size, tuple((column, kind) for column, kind in rows(conn, COLUMNS, (relation,))))


def refresh_roll_ups(conn: Connection, window: tuple[datetime, datetime] | None = None) -> tuple[RefreshOutcome, ...]:
    """Roll up everything that can have changed; with a window also every bucket of its UTC days.

    One transaction; a failure is a row with outcome `failure`, already written to audit_events. Raises
    AlreadyRunningError while another session refreshes.
    """
    from_time, to_time = window or (None, None)
    with without_statement_timeout(conn):
        lock_analytics(conn)
        return tuple(RefreshOutcome(*row) for row in rows(conn, REFRESH_ROLL_UPS, (from_time, to_time, JOB)))


def refresh_statistics(conn: Connection, names: list[str]) -> tuple[RefreshOutcome, ...]:
    """Bring the named statistics up to what the roll-ups hold, in one transaction; outcomes as in refresh_roll_ups."""
    with without_statement_timeout(conn):
        lock_analytics(conn)
        return tuple(RefreshOutcome(*row) for row in rows(conn, REFRESH_STATISTICS, (names,)))


def reconcile_statistics(conn: Connection, *, days: int = 10, accounts: int = 1000) -> tuple[Reconciliation, ...]:
    """Recompute a sample of days and accounts from the source, and every sum over roll-ups; repair what differs.

    Raises psycopg's LockNotAvailable while another session refreshes.
    """
    with without_statement_timeout(conn):
        return tuple(Reconciliation(*row) for row in rows(conn, RECONCILE, (days, accounts)))


def refresh_ages(conn: Connection) -> dict[str, timedelta]:
    """How long ago each statistic and view was brought up to date; absent if never."""
    return dict(rows(conn, AGES))


def hours_behind(conn: Connection, roll_up: str) -> tuple[datetime, ...]:
    """Whole hours of the last day in which the source has rows and the roll-up has none."""
    return tuple(hour for (hour,) in rows(conn, HOURS_BEHIND[roll_up]))


def data_quality_warnings(conn: Connection) -> tuple[DataQualityWarning, ...]:
    """The metrics that are not healthy, as of the last refresh."""
    return tuple(DataQualityWarning(*row) for row in rows(conn, WARNINGS))


def last_reconciliation(conn: Connection) -> int | None:
    """How many rows the last comparison with the sources repaired; None if there was none yet."""
    repaired = value(conn, LAST_RECONCILIATION)
    return None if repaired is None else int(repaired)
