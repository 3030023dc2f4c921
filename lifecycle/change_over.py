"""Which of the application's views `lifecycle migrate` would change over to tables, and what would stop it. Reads only.

The migration itself refuses by the same conditions (migrations/versions/0006_dashboard_views.sql).
"""

from dataclasses import dataclass
from typing import Final, Literal

from lifecycle.database import Connection, rows, value

# Tables that the statistics are made of; the first three get triggers, so they must be ours.
TRIGGERED: Final = ("chat_messages", "chat_sessions", "user_behavior_events")
SOURCES: Final = (*TRIGGERED, "accounts", "audit_events", "search_queries")
# The materialized view that becomes a view; the others are views already.
MATERIALIZED: Final = "account_function_usage"
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    MATERIALIZED: ("account_id", "function_name", "usage_count", "first_used_at", "last_used_at"),
    "chat_performance_metrics": (
        *("hour", "total_messages", "avg_latency_ms", "median_latency_ms"),
        *("p95_latency_ms", "p99_latency_ms", "max_latency_ms"),
    ),
    "data_quality_metrics": ("metric_name", "metric_value", "threshold", "status", "last_checked"),
    "daily_active_users": ("date", "dau", "new_users", "returning_users"),
    "weekly_monthly_active_users": ("date", "dau", "wau", "mau", "dau_wau_ratio", "dau_mau_ratio", "wau_mau_ratio"),
    "user_engagement_scores": (
        *("account_id", "total_days_active", "total_sessions", "total_messages", "last_activity_date"),
        *("days_since_last_activity", "engagement_level", "engagement_score"),
    ),
    "feature_usage_summary": (
        *("feature_name", "total_uses", "unique_users", "last_used_at", "uses_last_7_days", "uses_last_30_days"),
    ),
    "chat_usage_by_account": (
        *("account_id", "total_sessions", "total_messages"),
        *("avg_messages_per_session", "first_activity_at", "last_activity_at"),
    ),
    "hourly_usage_patterns": ("day_of_week", "hour_of_day", "message_count", "session_count", "unique_users"),
}
RELATION: Final = """
select c.relkind::text, array(select a.attname::text from pg_attribute a
                               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum),
       exists (select from unnest(c.reloptions) o
                where o like 'security_invoker=%%'
                  and o not in ('security_invoker=false', 'security_invoker=off', 'security_invoker=0')),
       array(select distinct r.ev_class::regclass::text
               from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
              where d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and r.ev_class <> c.oid order by 1)
  from pg_class c where c.oid = to_regclass(%s)
"""
OWNER: Final = """
select pg_get_userbyid(c.relowner) from pg_class c
 where c.oid = to_regclass(%s) and not pg_has_role(c.relowner, 'usage')
"""


@dataclass(frozen=True)
class ChangeOver:
    """What becomes of one view. `refusals` say what would stop the migration, and what to do about it."""

    name: str
    state: Literal["ready", "missing", "refused"]
    refusals: tuple[str, ...] = ()


def plan_change_overs(conn: Connection) -> tuple[ChangeOver, ...]:
    """One entry per view; none once the views have changed over."""
    if value(conn, "select to_regclass('lifecycle.original_relations')") is not None:
        return ()
    shared = [reason for source in SOURCES for reason in _source(conn, source)]
    return tuple(_change_over(conn, name, shared) for name in COLUMNS)


def _source(conn: Connection, source: str) -> list[str]:
    if value(conn, "select to_regclass(%s)", (f"public.{source}",)) is None:
        return [f"table public.{source}, which statistics are made of, is missing"]
    return _not_owned(conn, f"public.{source}") if source in TRIGGERED else []


def _not_owned(conn: Connection, relation: str) -> list[str]:
    return [
        f"{relation} belongs to {owner}: connect as a member of that role"
        for (owner,) in rows(conn, OWNER, (relation,))
    ]


def _change_over(conn: Connection, name: str, shared: list[str]) -> ChangeOver:
    found = rows(conn, RELATION, (f"public.{name}",))
    if not found:
        return ChangeOver(name, "refused" if shared else "missing", tuple(shared))
    kind, columns, invoker, readers = found[0]
    reasons = [*shared, *_not_owned(conn, f"public.{name}")]
    if kind not in ("v", "m" if name == MATERIALIZED else "v"):
        reasons.append("it is not the view that this project knows: rename yours")
    elif tuple(columns) != COLUMNS[name]:
        reasons.append(f"it has the columns {', '.join(columns)}; expected {', '.join(COLUMNS[name])}: rename yours")
    if invoker:
        reasons.append(
            "it is a security_invoker view, so each reader sees other rows, which one table cannot hold: revoke it "
            "from the API roles and reset the option"
        )
    if kind == "m" and name == MATERIALIZED and readers:
        reasons.append(f"{', '.join(readers)} read it: drop them, migrate, create them again")
    return ChangeOver(name, "refused" if reasons else "ready", tuple(reasons))
