"""views.yaml against the database."""

from collections.abc import Iterator
from typing import Final

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.declarations.application import Application

FILE: Final = "views.yaml"
CAPABILITY: Final = "views"


def needed_views(application: Application) -> Iterator[Needed]:
    """Materialized views that are refreshed."""
    for name, view in application.views.materialized.items():
        yield Needed(CAPABILITY, FILE, name, optional=view.optional)


def unfit_views(application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """What cannot be refreshed, and materialized views that nobody refreshes."""
    if not application.views.materialized:
        return
    for name in application.views.materialized:
        live = catalog.relations.get(name)
        if live is not None and live.kind != "m":
            yield Mismatch(CAPABILITY, str(name), f"is no materialized view: take its entry out of {FILE}", FILE)
    for name, live in catalog.relations.items():
        known = name in application.views.materialized or name.schema in application.database.managed_schemas
        if live.kind == "m" and not known:
            lines = f"materialized:\n  {name}: {{max_age: 1 day}}"
            yield Mismatch(CAPABILITY, str(name), "is a materialized view that nothing refreshes", FILE, lines)
