"""views.yaml: what the application computes on every read or on demand, how fresh it has to be, and who reads it."""

import re
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

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
    by: dict[QualifiedName, Column] = Field(
        default_factory=dict,
        description="for a key that cannot be derived: of each table that is read, the column that names the key; a "
        "time names its day",
    )
    touches: Annotated[int, Field(ge=0, le=366)] = Field(
        default=0, description="with a key that is a date: so many days after a changed row may differ, too"
    )
    history: Interval | None = Field(default=None, description="keep what the view said at each refresh for so long")

    @model_validator(mode="after")
    def _has_a_key_to_name(self) -> "KeptView":
        if (self.by or self.touches) and self.key is None:
            raise ValueError("`by` and `touches` say how rows name a key: declare the key, too")
        if self.touches and not self.by:
            raise ValueError("`touches` counts from the days that `by` names: declare them, too")
        return self


class Dashboard(DeclaredObject):
    """Something outside of the database that people read: where it is, whose it is, what it shows."""

    url: Annotated[str, StringConstraints(pattern="^https?://")] = Field(description="where people open it")
    owner: str = Field(min_length=1, description="who answers for it: an e-mail address, or `team:` and a name")
    views: tuple[QualifiedName, ...] = Field(min_length=1, description="the views and tables that it reads")

    @field_validator("owner")
    @classmethod
    def _names_somebody(cls, owner: str) -> str:
        if "@" not in owner and not re.fullmatch("team:.+", owner):
            raise ValueError(f"{owner!r} is nobody: write an e-mail address, or `team:` and a name")
        return owner


class Views(Declared):
    """Views by name."""

    time_zone: str = Field(default="UTC", description="in which a definition reads current_date; the database's own")
    times: dict[QualifiedName, Column] = Field(
        default_factory=dict,
        description="tables whose new rows carry the present time in this timestamptz, with an index on it: only late "
        "and "
        "corrected rows are noted. Of other tables every change is",
    )
    most_share: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="part of the time that computing a view whole may take; a dearer one is refreshed less often",
    )
    kept: dict[QualifiedName, KeptView] = Field(default_factory=dict)
    materialized: dict[QualifiedName, MaterializedView] = Field(default_factory=dict)
    dashboards: dict[str, Dashboard] = Field(
        default_factory=dict, description="what reads the views, for the lineage in Dagster; nothing is done with them"
    )
