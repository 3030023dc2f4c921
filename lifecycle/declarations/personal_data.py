"""personal_data.yaml: who a person is, where their data stands, and what becomes of it when they ask to be erased."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, WithJsonSchema, field_validator, model_validator

from lifecycle.declarations.model import Column, Declared, DeclaredObject
from lifecycle.declarations.people import Kind, Person, Requests
from lifecycle.names import QualifiedName

# The key that every person has: the one in `person.table`.
PERSON: Final = "person"
Treatment = Literal["deleted", "cleared", "redacted", "refreshed", "exempt", "clean", "chosen"]


class Source(DeclaredObject):
    """Where keys of a kind come from: `take` of the rows of `table` whose `by` is a key of a kind found before. Without
    a table: the keys of those kinds, as they are."""

    table: QualifiedName | None = None
    by: Column | None = None
    key: Annotated[
        tuple[Kind, ...],
        Field(description="kinds of keys that `by` is compared with, or one"),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ]
    take: Column | None = None
    given: Column | None = Field(default=None, description="only rows in which this column is not null")
    unowned: Column | None = Field(default=None, description="only rows in which this column is null")
    any_case: bool = Field(default=False, description="capitals, and blanks around it, make no difference")
    bound: bool = Field(default=True, description="the database or the back end vouches for it; no client typed it")

    @model_validator(mode="before")
    @classmethod
    def _one_key(cls, declared: Any) -> Any:
        if isinstance(declared, dict) and isinstance(declared.get("key"), str):
            return {**declared, "key": (declared["key"],)}
        return declared

    @model_validator(mode="after")
    def _whole(self) -> "Source":
        if len({self.table is None, self.by is None, self.take is None}) > 1:
            raise ValueError("table, by and take belong together: give all three, or none of them")
        return self


class Limit(DeclaredObject):
    """Keys that are not followed: those in rows of `table` whose `owner` is a person who stays. With `more_than`: those
    that more different owners have, whether they stay or not. Or those that a function of the application returns
    (`function(keys text[]) returns setof text`)."""

    table: QualifiedName | None = None
    column: Column | None = None
    owner: Column | None = None
    more_than: Annotated[int, Field(ge=1)] | None = None
    function: QualifiedName | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Limit":
        parts = (self.table, self.column, self.owner)
        if (self.function is None) != all(part is not None for part in parts):
            raise ValueError("give either table, column and owner, or a function")
        return self


# What anybody types somewhere: a form that one of these has would reach other people's rows and texts.
TYPED: Final = ("", "a", "@", "%", ".*", "https://", "1700000000000", "refresh_all_views", "some words")


class Key(Declared):
    """A kind of key by which rows of a person are found. `form` says what it looks like, `search` whether texts are
    searched for it after an erasure. One that is `remembered` is known for so long as a hash, to find late rows.

    A key from a source that is not `bound` was typed by a client. A name is followed only when the whole of it
    `matches`; an id is looked for in texts only when nothing else has it; an address is no evidence at all.
    """

    form: Literal["id", "address", "name", "machine"] = "id"
    matches: str | None = Field(
        default=None,
        description="regular expression of the whole of a name that a client typed: so long and random that it can be "
        "nothing else's",
    )
    search: bool = False
    sources: tuple[Source, ...] = Field(alias="from", min_length=1)
    unless: tuple[Limit, ...] = ()
    remembered: bool = False

    @model_validator(mode="after")
    def _vouched_for(self) -> "Key":
        typed = any(source.table is not None and not source.bound for source in self.sources)
        if typed and self.form == "address":
            raise ValueError(
                "an address that a client typed is no evidence: take confirmed ones, and `bound` ones only"
            )
        if typed and self.form == "name" and self.matches is None:
            raise ValueError("a name that a client typed needs `matches`: the form that makes it nobody else's")
        return self

    @field_validator("matches")
    @classmethod
    def _narrow(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                wide = [word for word in TYPED if re.fullmatch(pattern, word)]
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
            if wide:
                raise ValueError(f"{pattern!r} also fits {wide[0]!r}, which anybody may type somewhere")
        return pattern


class Replacement(Declared):
    """What a column gets: the same value for everybody, one that no other row has, or of a JSON object only these keys,
    redacted."""

    value: str | None = None
    unique: str | None = Field(
        default=None,
        description="for a column that must not hold a value twice; * stands for letters and digits that no other row "
        "has, such as *@erased.invalid. Of a uuid it is just *",
    )
    allowed: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Replacement":
        if sum(given is not None for given in (self.value, self.unique, self.allowed)) != 1:
            raise ValueError("give one of value, unique and allowed")
        if self.unique is not None and self.unique.count("*") != 1:
            raise ValueError(f"unique: {self.unique!r} needs one *, which stands for what no other row has")
        return self

    def rule(self) -> dict[str, Any]:
        """As the database functions read it."""
        if self.allowed is not None:
            return {"with": "allowed", "keys": list(self.allowed)}
        if self.unique is not None:
            return {"with": "unique", "value": self.unique}
        return {"with": "value", "value": self.value}


Word = Literal["null", "redacted", "location"]


class Step(Declared):
    """What is done to the rows of a table whose `by` is a key of this kind. `unowned` names a column that must be null:
    rows without an owner, in a visit that was the person's alone."""

    by: Column
    key: Kind
    do: Literal["delete", "scrub"] = "delete"
    unowned: Column | None = None
    set: dict[Column, Word | Replacement | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _set_or_delete(self) -> "Step":
        if (self.do == "scrub") != bool(self.set):
            raise ValueError("a scrub needs `set`, a delete has none")
        return self

    def replacements(self) -> dict[str, dict[str, Any]]:
        """Column to rule, as the database functions read it. `null` in YAML is null."""
        return {
            column: held.rule() if isinstance(held, Replacement) else {"with": held or "null"}
            for column, held in self.set.items()
        }


class PersonalTable(DeclaredObject):
    """One table of the map: steps in their order, and what its columns mean where a row stays.

    `redacted`: free form of others' rows, of which exactly the person's ids and addresses give way to a word. `exempt`:
    may name the person, for the reason given. `clean`: holds nothing of a person, so that a find is a fault;
    `clean_why` says why where that is not the table's own reason. `chosen`: others choose the value, so a find that is
    none of the person's rows is told and fails nobody; keys of a table are by themselves. `time`: when a row came, to
    look for late ones.
    """

    why: str = Field(min_length=3)
    time: Column | None = None
    steps: tuple[Step, ...] = ()
    redacted: tuple[Column, ...] = ()
    exempt: dict[Column, Annotated[str, StringConstraints(min_length=10)]] = Field(default_factory=dict)
    clean: tuple[Column, ...] = ()
    clean_why: str = ""
    chosen: tuple[Column, ...] = ()
    optional_columns: tuple[Column, ...] = Field(default=(), description="columns that the table may lack")

    def treatments(self) -> dict[str, tuple[Treatment, str]]:
        """Every declared column with its treatment and reason; * stands for all others."""
        found: dict[str, tuple[Treatment, str]] = {
            column: ("cleared", self.why) for step in self.steps for column in step.set
        }
        if self.steps and all(step.do == "delete" for step in self.steps):
            found["*"] = ("deleted", self.why)
        found |= dict.fromkeys(self.redacted, ("redacted", OTHERS_FREE_FORM))
        found |= dict.fromkeys(self.clean, ("clean", self.clean_why or self.why))
        found |= dict.fromkeys(self.chosen, ("chosen", OTHERS_CHOICE))
        found |= {column: ("exempt", reason) for column, reason in self.exempt.items()}
        return found


OTHERS_CHOICE: Final = "others choose what stands there, so a person's id or address in it is their doing"
# Residues in them must not fail a job: whoever wrote somebody's address into their own form could hold up that
# person's erasure for ever.
OTHERS_FREE_FORM: Final = "free form of others' rows, in which somebody's address may have been written down"


class PersonalData(Declared):
    """The whole map. `default: search` says that a column that nobody named is searched, too, and that a find in it
    fails the request."""

    version: str = Field(description="named in each receipt; change it with the map")
    person: Person
    requests: Requests
    keys: dict[Kind, Key] = Field(default_factory=dict)
    tables: dict[QualifiedName, PersonalTable] = Field(default_factory=dict)
    default: Literal["search"] = "search"

    @model_validator(mode="after")
    def _kinds_are_known(self) -> "PersonalData":
        known = {PERSON}
        for kind, key in self.keys.items():
            for wanted in (wanted for source in key.sources for wanted in source.key if wanted not in known):
                raise ValueError(f"keys -> {kind}: {wanted!r} is no kind that stands before it ({_listed(known)})")
            known.add(kind)
        for name, wanted in self._wanted():
            if wanted not in known:
                raise ValueError(f"{name}: {wanted!r} is no kind of key ({_listed(known)})")
        return self

    def _wanted(self) -> Iterator[tuple[str, str]]:
        for name, table in self.tables.items():
            yield from ((f"tables -> {name}", step.key) for step in table.steps)
        if self.person.sign_in is not None:
            yield "person -> sign_in", self.person.sign_in.key


def _listed(kinds: set[str]) -> str:
    return "known: " + ", ".join(sorted(kinds))
