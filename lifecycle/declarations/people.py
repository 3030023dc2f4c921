"""Who a person is, and where they ask to be erased: the first part of personal_data.yaml."""

from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, model_validator

from lifecycle.declarations.model import Column, Declared, DeclaredObject, Interval
from lifecycle.names import QualifiedName

# The name of a kind of keys.
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=63)]


class Tombstone(Declared):
    """What a person's own row says once the person is gone. Whoever has it counts as erased."""

    column: Column
    value: str


class SignIn(DeclaredObject):
    """The platform's table of people who sign in. Its rows are deleted by id, last, unless somebody still uses them."""

    table: QualifiedName
    id: Column
    key: Kind = Field(description="the kind of key that holds the id")
    still_used: tuple[QualifiedName, Column] | None = Field(
        default=None,
        description="table and column that name the user of an account that stays; none where a user is a person",
    )


class Person(Declared):
    """The table of persons. `hold` is a function of the application: of some persons it returns those who must not be
    erased yet, with the reason (`function(people text[]) returns table (person text, reason text)`)."""

    table: QualifiedName
    key: Column
    tombstone: Tombstone | None = None
    hold: QualifiedName | None = None
    sign_in: SignIn | None = None


class StatusWords(Declared):
    """What a request's status says."""

    pending: str = "pending"
    processing: str = "processing"
    completed: str = "completed"
    failed: str = "failed"


# Where requests stand when the application has no table of its own for them.
OUR_REQUEST_TABLE: Final = QualifiedName("lifecycle", "deletion_requests")
OUR_REQUESTS: Final = {
    "table": OUR_REQUEST_TABLE,
    "id": "id",
    "person": "person",
    "status": "status",
    "requested_at": "requested_at",
    "processed_at": "processed_at",
    "completed_at": "completed_at",
    "processed_by": "processed_by",
    "notes": "notes",
    "reason": "reason",
}


class Requests(Declared):
    """The application's table of deletion requests; columns that it lacks are left out. Without `table` it is one of
    ours, which `lifecycle erasure request` and the function `request_erasure()` write.

    A request is carried out `grace` after it was made, until then it may be cancelled, and `deadline` after it at the
    latest, by the calendar of database.yaml. Browsers and tokens hold data back for no longer than `late_window`.
    """

    table: QualifiedName
    id: Column
    person: Column
    status: Column
    words: StatusWords = StatusWords()
    requested_at: Column
    processed_at: Column | None = None
    completed_at: Column | None = None
    processed_by: Column | None = None
    notes: Column | None = None
    reason: Column | None = None
    deadline: Interval
    grace: Interval | None = None
    late_window: Interval = "7 days"

    @model_validator(mode="before")
    @classmethod
    def _ours_without_a_table(cls, declared: Any) -> Any:
        if not isinstance(declared, dict) or "table" in declared:
            return declared
        if said := sorted({*OUR_REQUESTS, "words"} & set(declared)):
            raise ValueError(f"{said[0]} is a column or word of a table of requests: name the table, too")
        return {**OUR_REQUESTS, **declared}

    @property
    def are_ours(self) -> bool:
        return self.table == OUR_REQUEST_TABLE
