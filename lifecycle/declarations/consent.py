"""consent.yaml: where the application records what people consent to, and what it means when they take it back."""

from typing import Any, Literal

from pydantic import Field, model_validator

from lifecycle.declarations.model import Column, Declared, DeclaredObject
from lifecycle.declarations.people import Kind
from lifecycle.declarations.personal_data import Replacement, Word
from lifecycle.declarations.segments import Sql
from lifecycle.names import QualifiedName

Withdrawal = Literal["stop", "scrub from then on", "scrub all"]


class ConsentRecord(Declared):
    """The application's table of decisions, each a row that is never changed. The latest by `at`, then by `id`,
    counts."""

    table: QualifiedName
    id: Column
    person: Column
    at: Column


class ConsentedTable(DeclaredObject):
    """A table whose rows are held for a purpose: `by` is the person, `time` when a row was written, by a clock of the
    database. `set` says what its columns get, in the words of personal_data.yaml."""

    by: Column
    time: Column | None = None
    set: dict[Column, Word | Replacement | None] = Field(min_length=1)
    optional_columns: tuple[Column, ...] = Field(default=(), description="columns that the table may lack")

    def replacements(self) -> dict[str, dict[str, Any]]:
        """Column to rule, as the database functions read it. `null` in YAML is null."""
        return {
            column: held.rule() if isinstance(held, Replacement) else {"with": held or "null"}
            for column, held in self.set.items()
        }


class Purpose(Declared):
    """What people consent to. `given` is a condition over a row of the record, called `record`: true and false are
    decisions, null says nothing of this purpose.

    A withdrawal stops processing and changes no row (`stop`: whoever processes asks `lifecycle.has_withdrawn()`),
    clears columns of rows that were written while it stood (`scrub from then on`), or of all rows of the person as
    long as it stands (`scrub all`).
    """

    given: Sql
    withdrawal: Withdrawal
    tables: dict[QualifiedName, ConsentedTable] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tables_fit(self) -> "Purpose":
        if (self.withdrawal == "stop") == bool(self.tables):
            raise ValueError("`stop` changes no row and has no tables; a scrub needs some")
        for name, table in self.tables.items():
            if self.withdrawal == "scrub from then on" and table.time is None:
                raise ValueError(f"{name}: `scrub from then on` needs `time`, when a row was written")
        return self


class Consent(Declared):
    """The record, and what is consented to, by name. Needs personal_data.yaml, which says who a person is."""

    record: ConsentRecord
    purposes: dict[Kind, Purpose] = Field(min_length=1)
