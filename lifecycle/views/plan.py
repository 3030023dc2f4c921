"""What the next refresh would do, and which views `lifecycle migrate` would change over. Reads only."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from lifecycle.database import Connection, rows, value
from lifecycle.policy import MATERIALIZED_VIEWS, MaterializedView

# What was never rolled up begins at the beginning of time, which Python's datetime does not know.
ROLL_UPS: Final = """
select w.name, case when isfinite(w.safe_until) then w.safe_until end,
       case w.name when 'chat' then (select count(*) from lifecycle.changed_chat_hours)
                                  + (select count(*) from lifecycle.changed_chat_sessions)
                   else (select count(*) from lifecycle.changed_activity) end,
       case w.name when 'chat' then (select count(distinct date_trunc('hour', c.changed_at, 'UTC'))
                                       from lifecycle.changed_chat_hours c
                                      where isfinite(c.changed_at) and c.changed_at < now())
                   else (select count(distinct date_trunc('hour', c.happened_at, 'UTC'))
                           from lifecycle.changed_activity c
                          where isfinite(c.happened_at) and c.happened_at < now()) end
  from lifecycle.roll_up_watermarks w order by w.name desc
"""
STATISTICS: Final = """
select n.name, s.refreshed_at, (select count(*) from lifecycle.pending_recounts p where p.statistic = n.name)
  from unnest(lifecycle.statistic_names()) with ordinality n(name, position)
  left join lifecycle.refresh_states s on s.name = n.name order by n.position
"""
POLICIES: Final = """
select view_name, sources, max_age::text, schema_name from lifecycle.materialized_view_policies order by view_name
"""
# The condition of lifecycle.refresh_materialized_view.
VIEW: Final = """
select c.relkind::text, c.relispopulated, exists (
           select from pg_index i
            where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
              and i.indpred is null and i.indexprs is null)
  from pg_class c where c.oid = to_regclass(%s)
"""
VIEW_STATE: Final = """
select s.refreshed_at, lifecycle.source_changes(%(sources)s) - s.source_changes,
       s.refreshed_at > now() - %(max_age)s::interval
  from lifecycle.refresh_states s where s.name = %(name)s
"""


@dataclass(frozen=True)
class RefreshPlan:
    """What the next refresh would do to one roll-up, statistic or view.

    `refreshed_at` is up to when it is right now, None if it never was; `waiting` counts rows of its change log.
    """

    name: str
    kind: Literal["roll-ups", "statistic", "materialized view"]
    refreshed_at: datetime | None
    waiting: int
    would: str


def plan_refreshes(conn: Connection) -> tuple[RefreshPlan, ...]:
    """All that the hourly jobs bring up to date, in their order; before `lifecycle migrate` the materialized views."""
    if value(conn, "select to_regclass('lifecycle.original_relations')") is None:
        return tuple(_view(conn, view, migrated=False) for view in MATERIALIZED_VIEWS)
    views = [MaterializedView(n, tuple(sources), age, "", schema) for n, sources, age, schema in rows(conn, POLICIES)]
    return (
        *(_roll_ups(*row) for row in rows(conn, ROLL_UPS)),
        *(_statistic(*row) for row in rows(conn, STATISTICS)),
        *(_view(conn, view, migrated=True) for view in views),
    )


def _roll_ups(name: str, safe_until: datetime | None, waiting: int, late_hours: int) -> RefreshPlan:
    if safe_until is None:
        return RefreshPlan(f"roll-ups of {name}", "roll-ups", None, waiting, "roll up the whole history")
    late = f", and {late_hours:,} late hours" if late_hours else ""
    would = f"roll up from two hours before that{late}"
    return RefreshPlan(f"roll-ups of {name}", "roll-ups", safe_until.astimezone(UTC), waiting, would)


def _statistic(name: str, refreshed_at: datetime | None, waiting: int) -> RefreshPlan:
    would = f"take up {waiting:,} changes that were rolled up" if waiting else "take up what is rolled up before it"
    return RefreshPlan(name, "statistic", refreshed_at and refreshed_at.astimezone(UTC), waiting, would)


def _view(conn: Connection, view: MaterializedView, *, migrated: bool) -> RefreshPlan:
    relation = f"{view.schema}.{view.name}"
    found = rows(conn, VIEW, (relation,))
    state = {"name": view.name, "sources": list(view.sources), "max_age": view.max_age}
    known = rows(conn, VIEW_STATE, state) if migrated else []
    refreshed_at, changes, young = known[0] if known else (None, None, False)
    kind, populated, unique = found[0] if found else (None, False, False)
    if kind is None:
        would = "refuse: it is missing"
    elif kind != "m":
        would = "refuse: it is no materialized view"
    elif not populated:
        would = "populate it; nobody can read it until then"
    elif not unique:
        would = "refuse: it has no unique index over plain columns, so its readers would be blocked"
    elif changes == 0 and young:
        would = "skip: its sources did not change"
    elif changes:
        would = f"refresh: {abs(changes):,} changes of its sources"
    else:
        would = f"refresh: older than {view.max_age}" if known else "refresh: never refreshed by this project"
    at = refreshed_at and refreshed_at.astimezone(UTC)
    return RefreshPlan(view.name, "materialized view", at, int(abs(changes or 0)), would)
