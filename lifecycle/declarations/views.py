"""views.yaml: what the application computes on every read or on demand, and how fresh it has to be."""

from pydantic import Field

from lifecycle.declarations.model import Column, Declared, DeclaredObject, Interval
from lifecycle.names import QualifiedName


class MaterializedView(DeclaredObject):
    """A materialized view of the application. What it reads is asked of the catalog, not declared."""

    max_age: Interval = Field(
        default="1 day", description="refreshed at this age even though no table that it reads has changed"
    )


class KeptView(DeclaredObject):
    """A view of the application that answers from a table of ours, refreshed by the view's own definition."""

    every: Interval = Field(default="1 hour", description="how old a figure may get")
    key: Column | None = Field(
        default=None, description="refreshed by the changed values of this column; derived where it is left out"
    )
    history: Interval | None = Field(default=None, description="keep what the view said at each refresh for so long")


class Views(Declared):
    """Views by name."""

    time_zone: str = Field(default="UTC", description="in which a definition reads current_date; the database's own")
    times: dict[QualifiedName, Column] = Field(
        default_factory=dict,
        description="tables whose new rows carry the present time in this column, with an index on it: only late and "
        "corrected rows are noted. Of other tables every change is",
    )
    most_share: float = Field(
        default=0.02, gt=0, le=1, description="part of the time that computing a view whole may take; a dearer one is "
        "refreshed less often"
    )
    kept: dict[QualifiedName, KeptView] = Field(default_factory=dict)
    materialized: dict[QualifiedName, MaterializedView] = Field(default_factory=dict)
