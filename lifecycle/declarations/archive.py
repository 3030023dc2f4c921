"""archive.yaml: tables whose old rows move to an archive beside them, their long texts compressed."""

from pydantic import Field, RootModel, field_validator, model_validator

from lifecycle.declarations.model import Column, Declared, DeclaredObject, Interval, fixed_length
from lifecycle.names import QualifiedName


class Groups(Declared):
    """The table that the rows belong to, such as the conversations of messages: whoever sees the group may read."""

    table: QualifiedName
    id: Column = Field(description="its key, which the rows' `group` names")
    time: Column | None = Field(default=None, description="timestamptz: when the group began")
    after: Interval | None = Field(
        default=None,
        description="rows stay until their group began so long ago: longer, by more than a day, than views look back "
        "that need a compressed column",
    )

    @model_validator(mode="after")
    def _are_declared_together(self) -> "Groups":
        if (self.time is None) != (self.after is None):
            raise ValueError("`time` and `after` of groups go together: declare both or none")
        if self.after:
            fixed_length(self.after)
        return self


class ArchivedTable(DeclaredObject):
    """A table whose rows move to `archive` once they are older than `after`, each with all of its columns."""

    id: Column = Field(description="key of one row")
    group: Column = Field(description="names the group; a group is read and brought back whole")
    groups: Groups
    time: Column = Field(description="timestamptz, timestamp or date (both read as UTC); how old a row is")
    after: Interval = Field(description="days, hours or weeks, no months")
    compress: tuple[Column, ...] = Field(default=(), description="stored as gzip where that is smaller")
    archive: QualifiedName
    recent_view: QualifiedName | None = Field(default=None, description="a view of what the archive will not take")
    read_function: QualifiedName | None = Field(default=None, description="a function: the archived rows of a group")
    show: tuple[Column, ...] = Field(default=(), description="what `lifecycle chat read` prints; default: `compress`")
    job: str = Field(default="", pattern="^[a-z0-9_]*$", description="name of the job; default: archive_<table>")
    accept_changed_views: bool = Field(
        default=False,
        description="move rows although views, functions and policies that read the table would answer otherwise",
    )

    @field_validator("after")
    @classmethod
    def _has_a_fixed_length(cls, after: str) -> str:
        fixed_length(after)
        return after

    @model_validator(mode="after")
    def _keys_stay_as_they_are(self) -> "ArchivedTable":
        if wrong := sorted({self.id, self.group, self.time} & set(self.compress)):
            raise ValueError(f"compress: {wrong[0]} is searched by and stays as it is; take it out")
        return self

    @property
    def shown(self) -> tuple[str, ...]:
        return self.show or self.compress


class ArchivedTables(RootModel[dict[QualifiedName, ArchivedTable]]):
    """Archived tables by name."""

    root: dict[QualifiedName, ArchivedTable] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_used_once(self) -> "ArchivedTables":
        made: dict[QualifiedName, QualifiedName] = {}
        for source, table in self.root.items():
            for name in filter(None, (table.archive, table.recent_view)):
                if name in self.root or name in made:
                    raise ValueError(f"{source}: {name} is named twice; every archive and view needs a name of its own")
                made[name] = source
        return self
