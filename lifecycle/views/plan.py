"""What the next refresh would do. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.views import MaterializedView
from lifecycle.names import QualifiedName

# The condition of lifecycle.has_refresh_key, which is not there before `lifecycle migrate`.
VIEW: Final = """
select c.relkind::text, c.relispopulated, exists (
           select from pg_index i
            where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
              and i.indpred is null and i.indexprs is null)
  from pg_class c where c.oid = to_regclass(%s)
"""
MIGRATED: Final = "select to_regclass('lifecycle.refresh_states') is not null"
STATE: Final = """
select s.refreshed_at, lifecycle.source_changes(to_regclass(s.name)) - s.source_changes,
       s.refreshed_at > now() - %(max_age)s::interval
  from lifecycle.refresh_states s where s.name = %(name)s
"""
AGES: Final = "select name, now() - refreshed_at from lifecycle.refresh_states"


@dataclass(frozen=True)
class RefreshPlan:
    """What the next refresh would do to one view.

    `refreshed_at` is when we last did, None if never; `waiting` counts changes of what it reads since then.
    """

    name: str
    refreshed_at: datetime | None
    waiting: int
    would: str


def plan_refreshes(conn: Connection, views: Mapping[QualifiedName, MaterializedView]) -> tuple[RefreshPlan, ...]:
    """Every declared materialized view, in the order of the declarations."""
    migrated = value(conn, MIGRATED)
    return tuple(_view(conn, name, view, migrated=migrated) for name, view in views.items())


def _view(conn: Connection, name: QualifiedName, view: MaterializedView, *, migrated: bool) -> RefreshPlan:
    found = rows(conn, VIEW, (str(name),))
    known = rows(conn, STATE, {"name": str(name), "max_age": view.max_age}) if migrated else []
    refreshed_at, changes, young = known[0] if known else (None, None, False)
    kind, populated, key = found[0] if found else (None, False, False)
    if kind is None:
        would = "nothing: the application does not have it" if view.optional else "refuse: it is missing"
    elif kind != "m":
        would = "refuse: it is no materialized view"
    elif not populated:
        would = "populate it; nobody can read it until then"
    elif changes == 0 and young:
        would = "skip: nothing that it reads has changed"
    else:
        why = f"{abs(changes):,} changes of what it reads" if changes else "never refreshed by this project"
        if changes == 0:
            why = f"older than {view.max_age}"
        would = f"refresh: {why}"
        if not key:
            would += "; readers wait meanwhile, since it has no unique index over plain columns"
    at = refreshed_at and refreshed_at.astimezone(UTC)
    return RefreshPlan(str(name), at, int(abs(changes or 0)), would)
