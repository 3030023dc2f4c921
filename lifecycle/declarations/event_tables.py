"""event_tables.yaml: tables that are partitioned by month, and how long their months stay."""

from typing import Annotated

from pydantic import Field, RootModel, model_validator

from lifecycle.declarations.model import Column, DeclaredObject, Interval, TimeZone
from lifecycle.names import QualifiedName


class EventTable(DeclaredObject):
    """A table that grows with time. A month goes once all of it is older than `keep`."""

    time: Column = Field(
        description="timestamptz, timestamp or date, NOT NULL; says to which month a row belongs: of UTC where it is a "
        "timestamptz, else as it stands there"
    )
    zone: TimeZone | None = Field(
        default=None,
        description="of a time without time zone: the zone of the clock that wrote it, by which months begin and end; "
        "a date may go without, and is one of UTC then",
    )
    keep: Interval
    cold_after: Interval | None = Field(
        default=None,
        description="a month leaves the database for files in object storage once all of it is older than this; it "
        "stays queryable and erasable there until `keep` ends",
    )
    months_ahead: Annotated[int, Field(ge=1, le=24)] = 3
    accept_changed_views: bool = Field(
        default=False,
        description="let months go cold although views and policies that read the table would answer otherwise",
    )
    accept_no_realtime: bool = Field(
        default=False,
        description="convert it although Supabase's Realtime publishes it and delivers none of its changes afterwards: "
        "a trigger that calls `realtime.broadcast_changes()` takes its place",
    )

    @model_validator(mode="after")
    def _files_have_instants(self) -> "EventTable":
        if self.zone and self.cold_after:
            raise ValueError(
                "cold_after needs a timestamptz, and `zone` says that the time is none; take one of them out"
            )
        return self


class EventTables(RootModel[dict[QualifiedName, EventTable]]):
    """Event tables by name."""

    root: dict[QualifiedName, EventTable] = Field(default_factory=dict)
