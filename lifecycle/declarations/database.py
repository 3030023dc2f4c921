"""database.yaml: what all capabilities ask about the application's database."""

from pydantic import Field

from lifecycle.declarations.model import Column, Declared, DeclaredObject
from lifecycle.names import QualifiedName


class Ledger(DeclaredObject):
    """The application's table of what happened, and its columns: one row per outcome of a job."""

    table: QualifiedName
    kind: Column = Field(description="holds 'job' in rows of ours")
    subject: Column = Field(description="holds the name of the job")
    event: Column = Field(description="holds 'job_success' or 'job_failure'")
    payload: Column = Field(description="json or jsonb: counts, durations, the error")
    at: Column = Field(description="timestamptz, filled by its default")


class Maintenance(DeclaredObject):
    """A function of the application that its owners want to have run once a day."""

    function: QualifiedName
    failure: str = Field(description="a word in its answer that tells of a failure it swallowed")


class Database(Declared):
    """What all capabilities ask about the application's database."""

    calendar: str = Field(default="UTC", description="time zone in which people count weeks and deadlines")
    managed_schemas: tuple[str, ...] = Field(
        default=(), description="schemas that the platform keeps; neither read nor changed"
    )
    ledger: Ledger | None = None
    maintenance: Maintenance | None = None
