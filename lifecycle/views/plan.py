"""What the next refresh would do. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.views import MaterializedView
from lifecycle.language import Phrase, translatable
from lifecycle.names import QualifiedName

# The condition of lifecycle.refresh_key, which is not there before `lifecycle migrate`.
VIEW: Final = """
select c.relkind::text, c.relispopulated, exists (
           select from pg_index i
            where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
              and i.indpred is null and i.indexprs is null)
  from pg_class c where c.oid = to_regclass(%s)
"""
MIGRATED: Final = "select to_regclass('lifecycle.refresh_states') is not null"
# An older release kept no statement of the index.
STATE: Final = """
select s.refreshed_at, lifecycle.source_changes(to_regclass(s.name)) - s.source_changes,
       s.refreshed_at > now() - %(max_age)s::interval, to_jsonb(s) ->> 'refresh_key'
  from lifecycle.refresh_states s where s.name = %(name)s
"""
# When each view was found to be right, by a refresh or because nothing that it reads had changed.
AGES: Final = """
select format('%I.%I', p.schema_name, p.view_name), now() - s.right_at, v.view is null and p.optional
  from lifecycle.materialized_view_policies p
 cross join lateral (select to_regclass(format('%I.%I', p.schema_name, p.view_name)) as view) v
  left join lifecycle.refresh_states s on s.name = format('%I.%I', p.schema_name, p.view_name)
"""


@dataclass(frozen=True)
class RefreshPlan:
    """What the next refresh would do to one view.

    `refreshed_at` is when we last did, None if never; `waiting` counts changes of what it reads since then.
    """

    name: str
    refreshed_at: datetime | None
    waiting: int
    would: str


@dataclass(frozen=True)
class ViewAge:
    """How long ago a view was found to be right, None if never. `absent`: the application does not have it."""

    age: timedelta | None
    absent: bool


def view_ages(conn: Connection) -> dict[str, ViewAge]:
    """Every declared view by name."""
    return {name: ViewAge(age, absent) for name, age, absent in rows(conn, AGES)}


def plan_refreshes(conn: Connection, views: Mapping[QualifiedName, MaterializedView]) -> tuple[RefreshPlan, ...]:
    """Every declared materialized view, in the order of the declarations."""
    migrated = value(conn, MIGRATED)
    return tuple(_view(conn, name, view, migrated=migrated) for name, view in views.items())


def _view(conn: Connection, name: QualifiedName, view: MaterializedView, *, migrated: bool) -> RefreshPlan:
    found = rows(conn, VIEW, (str(name),))
    known = rows(conn, STATE, {"name": str(name), "max_age": view.max_age}) if migrated else []
    refreshed_at, changes, young, index = known[0] if known else (None, None, False, None)
    kind, populated, key = found[0] if found else (None, False, False)
    if kind is None:
        would = (
            translatable("nothing: the application does not have it")
            if view.optional
            else translatable("refuse: it is missing")
        )
    elif kind != "m":
        would = translatable("refuse: it is no materialized view")
    elif not populated:
        would = translatable("populate it; nobody can read it until then")
    elif changes == 0 and young:
        would = translatable("skip: nothing that it reads has changed")
    else:
        would = _refresh(changes, view) if key else _keeps_readers_waiting(_refresh(changes, view), index)
    at = refreshed_at and refreshed_at.astimezone(UTC)
    return RefreshPlan(str(name), at, int(abs(changes or 0)), would)


def _refresh(changes: int | None, view: MaterializedView) -> Phrase:
    if changes is None:
        return Phrase("refresh: never refreshed by this project")
    if changes:
        return Phrase("refresh: {count:,} changes of what it reads", count=abs(changes))
    return Phrase("refresh: older than {age}", age=view.max_age)


def _keeps_readers_waiting(would: Phrase, index: str | None) -> Phrase:
    if not index:
        return Phrase(
            "{would}; readers wait meanwhile, since it has no unique index over plain columns",
            would=would,
        )
    return Phrase(
        "{would}; readers wait meanwhile, since it has no unique index over plain columns any more. To build it again:"
        " {index}",
        would=would,
        index=index,
    )
