"""expiry.yaml: rows that are kept for a declared time and then deleted."""

from typing import Annotated

from pydantic import Field, RootModel, StringConstraints, model_validator

from lifecycle.declarations.model import Column, Declared, DeclaredObject, Interval
from lifecycle.names import QualifiedName

JobName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class ExpiringTable(DeclaredObject):
    """A table of a job. A row goes once every one of its moments is past; a moment that is null does not count."""

    time: tuple[Column, ...] = Field(min_length=1, description="moments of a row; the first must not be null")
    unless_referenced_by: dict[QualifiedName, Column] = Field(
        default_factory=dict, description="a row stays while this column of that table names its primary key"
    )


class ExpiringRows(Declared):
    """One job: its tables lose what is older than `keep`, in the order in which they are written."""

    keep: Interval
    batch: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    tables: dict[QualifiedName, ExpiringTable] = Field(min_length=1)


class Expiry(RootModel[dict[JobName, ExpiringRows]]):
    """Jobs by name."""

    root: dict[JobName, ExpiringRows] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts_have_names(self) -> "Expiry":
        for job, rows in self.root.items():
            names = [table.name for table in rows.tables]
            if len(set(names)) < len(names):
                raise ValueError(f"{job}: two tables of the same name; give each a job of its own")
        return self
