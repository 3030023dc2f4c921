"""views.yaml: what the application computes on every read or on demand, and how fresh it has to be."""

from pydantic import Field

from lifecycle.declarations.model import Declared, DeclaredObject, Interval
from lifecycle.names import QualifiedName


class MaterializedView(DeclaredObject):
    """A materialized view of the application. What it reads is asked of the catalog, not declared."""

    max_age: Interval = Field(
        default="1 day", description="refreshed at this age even though no table that it reads has changed"
    )


class Views(Declared):
    """Views by name."""

    materialized: dict[QualifiedName, MaterializedView] = Field(default_factory=dict)
