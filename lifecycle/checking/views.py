"""views.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.migrating.names_only import is_names_only
from lifecycle.migrating.state import installed
from lifecycle.views.archived import blind_views, rows_elsewhere
from lifecycle.views.kept_plan import KeptPlan, plan_kept
from lifecycle.views.statistics import statistics_status

FILE: Final = "views.yaml"
CAPABILITY: Final = "views"
MATERIALIZED: Final = "m"


def needed_views(application: Application) -> Iterator[Needed]:
    """The declared views, kept and materialized."""
    for name, kept in application.views.kept.items():
        yield Needed(CAPABILITY, FILE, name, (), kept.optional, ("kept", str(name)))
    for name, view in application.views.materialized.items():
        yield Needed(CAPABILITY, FILE, name, (), view.optional, ("materialized", str(name)))


def view_mismatches(application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """Declared ones that are no materialized views, and materialized views that nobody declared."""
    declared = application.views.materialized
    if not declared:
        return
    for name, live in catalog.relations.items():
        if name in declared and live.kind != MATERIALIZED:
            yield Mismatch(CAPABILITY, str(name), f"is no materialized view: take its entry out of {FILE}", FILE)
        elif name not in declared and live.kind == MATERIALIZED and name.schema not in _not_asked(application):
            yield Mismatch(
                CAPABILITY,
                str(name),
                "is a materialized view that nobody refreshes here",
                FILE,
                ("materialized",),
                f"{name}: {{max_age: 1 day}}",
            )


def kept_mismatches(conn: Connection, application: Application) -> Iterator[Mismatch]:
    """Declared views that do not answer from their table, and views that miss what is archived.

    None is meant to in a database of names only.
    """
    if CAPABILITY not in installed(conn) or is_names_only(conn):
        return
    for plan in plan_kept(conn, application):
        if told := _told(plan, optional=application.views.kept[plan.name].optional):
            yield Mismatch(CAPABILITY, str(plan.name), told, FILE)
    for status in statistics_status(conn):
        if status.name not in application.views.kept:
            told = "is kept and declared no more: `lifecycle migrate` gives it back"
            yield Mismatch(CAPABILITY, str(status.name), told)
    for blind in blind_views(conn, rows_elsewhere(conn, application)):
        told = f"{blind.told}: run `lifecycle migrate`, which lets it read both or says why not"
        yield Mismatch(CAPABILITY, str(blind.view), told)


def _told(plan: KeptPlan, *, optional: bool) -> str | None:
    if plan.state == "stays":
        return f"{plan.told}. Take its entry out of {FILE}, or change what stands in the way"
    # One that may not be missing is missed by `needed_views`.
    return plan.told if plan.state == "to be kept" or (plan.state == "absent" and plan.seen and optional) else None


def _not_asked(application: Application) -> tuple[str, ...]:
    return (*application.database.managed_schemas, "lifecycle")
