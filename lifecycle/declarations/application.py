"""All declarations of one application, and which file holds which."""

from functools import cached_property
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from lifecycle.declarations.access import AccessDeclarations
from lifecycle.declarations.archive import ArchivedTable, ArchivedTables
from lifecycle.declarations.consent import Consent
from lifecycle.declarations.database import Database
from lifecycle.declarations.event_tables import EventTable, EventTables
from lifecycle.declarations.expiry import ExpiringRows, Expiry
from lifecycle.declarations.indexes import IndexDeclarations
from lifecycle.declarations.operations import Operations
from lifecycle.declarations.person_export import Explanations
from lifecycle.declarations.personal_data import PersonalData
from lifecycle.declarations.relations import Relation
from lifecycle.declarations.segments import Segments
from lifecycle.declarations.views import Views
from lifecycle.names import QualifiedName


class SqlFile(BaseModel):
    """A file of the application's folder with database functions of its own: an algorithm that is no fact."""

    model_config = ConfigDict(frozen=True)

    name: str
    text: str


class Application(BaseModel):
    """One field per file `<field>.yaml`; a file that is missing declares nothing.

    `functions` are the files `*.sql`, in order of their names; `relations` is schema.json, which a command writes.
    """

    model_config = ConfigDict(frozen=True, ignored_types=(cached_property,))

    database: Database = Field(default_factory=Database)
    event_table_file: EventTables = Field(default_factory=EventTables, alias="event_tables")
    personal_data: PersonalData | None = None
    person_export: Explanations = Field(default_factory=Explanations)
    consent: Consent | None = None
    archive: ArchivedTables = Field(default_factory=ArchivedTables)
    expiry: Expiry = Field(default_factory=Expiry)
    views: Views = Field(default_factory=Views)
    segments: Segments = Field(default_factory=Segments)
    access: AccessDeclarations = Field(default_factory=AccessDeclarations)
    indexes: IndexDeclarations = Field(default_factory=IndexDeclarations)
    operations: Operations = Field(default_factory=Operations)
    functions: tuple[SqlFile, ...] = ()
    relations: tuple[Relation, ...] = ()

    @property
    def event_tables(self) -> dict[QualifiedName, EventTable]:
        """Event tables by name."""
        return self.event_table_file.root

    @property
    def archived_tables(self) -> dict[QualifiedName, ArchivedTable]:
        """Tables whose old rows move to an archive, by name."""
        return self.archive.root

    @property
    def expiring_rows(self) -> dict[str, ExpiringRows]:
        """Jobs that delete rows past their time, by name."""
        return self.expiry.root


NOT_YAML: Final = ("functions", "relations")
# The files of the folder, by name without `.yaml`, with the model of each.
FILES: Final = {
    (field.alias or name): field.annotation for name, field in Application.model_fields.items() if name not in NOT_YAML
}
