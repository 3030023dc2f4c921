"""segments.yaml: what each person likes; where that is said, and where the application reads it."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lifecycle.declarations.model import Column, Declared, DeclaredObject, Interval
from lifecycle.names import QualifiedName

# One query, or one condition, that is put into parentheses.
Sql = Annotated[str, AfterValidator(lambda text: text.strip().removesuffix(";").rstrip())]
Event = Literal["insert", "update", "delete"]


class Through(Declared):
    """The account of a row by way of another table: `account` of the row whose `id` stands in our column `by`."""

    by: Column
    table: QualifiedName
    id: Column
    account: Column


class Watch(Declared):
    """A table whose changes ask for somebody's segments: of the account in a column, of one found through another
    table, or of everybody. An update counts when one of `columns` changed, or any, if none is named."""

    account: Column | None = None
    through: Through | None = None
    everybody: bool = False
    columns: tuple[Column, ...] = ()
    on: tuple[Event, ...] = ("insert", "update", "delete")

    @model_validator(mode="after")
    def _one_way_to_the_account(self) -> "Watch":
        if sum((self.account is not None, self.through is not None, self.everybody)) != 1:
            raise ValueError("say whose segments a change asks for: account, through, or everybody: true")
        return self


class Source(DeclaredObject):
    """A query; and the tables whose changes change its rows. A source that is gone clears nothing.

    `optional` ones are not missed as long as they were never there, `gone` ones never.
    """

    sql: Sql
    gone: bool = Field(default=False, description="known to be gone: what came from it stays, and nobody is told")
    watches: dict[QualifiedName, Watch] = Field(default_factory=dict)


class Interactions(Source):
    """What people did, as `account, item, kind, at`; each kind counts its weight, halved after each `half_life`."""

    weights: dict[str, float]
    half_life: Interval


class Target(Declared):
    """A jsonb column with a row per account, and the path of the segments in it.

    `consent` is a condition over a row of it, called `target`: whoever does not meet it has no segments.
    """

    table: QualifiedName
    key: Column
    column: Column
    path: tuple[str, ...] = Field(min_length=1)
    consent: Sql


class Accounts(Declared):
    """The table of accounts: one that is being deleted is not noted, since its key would outlive it."""

    table: QualifiedName
    key: Column


class Segments(Declared):
    """How tastes and interactions become the tags that an account likes.

    A tag's score is `taste_weight` when somebody chose it, plus up to `interaction_weight` for what they did.
    `version` is that of the stored document: raise it when the application must read it differently. Of `targets` the
    first that exists is used.
    """

    version: int = 1
    accounts: Accounts | None = None
    targets: tuple[Target, ...] = ()
    tags: Source | None = Field(default=None, description="the catalogue of tags in use, as `tag`")
    tastes: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], Source] = Field(
        default_factory=dict,
        description="what people say they like, as `account, question, answer, answered_at`; the newest answer to a "
        "question counts, of two at once the one of the source that stands first",
    )
    interactions: Interactions | None = None
    items: Source | None = Field(default=None, description="which item has which tags, as `item, tag`")
    taste_weight: Annotated[float, Field(ge=0)] = 0.6
    interaction_weight: Annotated[float, Field(ge=0)] = 0.4
    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 1000

    @model_validator(mode="after")
    def _complete(self) -> "Segments":
        if self.targets and (self.tags is None or self.accounts is None):
            raise ValueError("segments with targets need accounts and tags, too")
        if (self.interactions is None) != (self.items is None):
            raise ValueError("interactions and items are declared together: an interaction counts for its item's tags")
        if self.targets and not self.tastes and self.interactions is None:
            raise ValueError("segments need tastes or interactions")
        return self

    def sources(self) -> Iterator[tuple[str, str, Source]]:
        """Name, kind and declaration of each source, in their order."""
        if self.tags is not None:
            yield "tags", "tags", self.tags
        for name, taste in self.tastes.items():
            yield name, "taste", taste
        if self.interactions is not None and self.items is not None:
            yield "interactions", "interactions", self.interactions
            yield "items", "items", self.items
