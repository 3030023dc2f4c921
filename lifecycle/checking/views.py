"""views.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "views.yaml"
CAPABILITY: Final = "views"
MATERIALIZED: Final = "m"


def needed_views(application: Application) -> Iterator[Needed]:
    """The declared materialized views."""
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


def _not_asked(application: Application) -> tuple[str, ...]:
    return (*application.database.managed_schemas, "lifecycle")
