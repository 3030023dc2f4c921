"""indexes.yaml: indexes that are kept on the application's tables."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lifecycle.declarations.model import Column, Declared, DeclaredObject
from lifecycle.names import QualifiedName


class HotQuery(Declared):
    """A statement of the application that an index is for."""

    purpose: str
    text: str = Field(
        description="stands for it when the planner is asked: {table} is the table; values are made up, so that no "
        "plan tells of a person. Braces of a literal are doubled"
    )


class DeclaredIndex(DeclaredObject):
    """An index, by its name. None is unique, so none refuses a row."""

    table: QualifiedName
    keys: str = Field(description="SQL between the parentheses; {extension} is the extension's schema")
    method: str = "btree"
    predicate: str | None = None
    extension: Column | None = None
    query: HotQuery | None = None
    why: Annotated[str, Field(min_length=1, description="what would be slow without it")]


class IndexDeclarations(Declared):
    """Indexes by name; built where no index does what they are for, without stopping writers."""

    indexes: dict[Column, DeclaredIndex] = Field(default_factory=dict)
    unused_after_days: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=35, description="a report that runs once a month would be missed by anything shorter"
    )

    @model_validator(mode="after")
    def _extension_is_named(self) -> Self:
        for name, index in self.indexes.items():
            if "{extension}" in index.keys and index.extension is None:
                raise ValueError(f"indexes: {name}: keys name an extension's schema, and extension names none")
        return self
