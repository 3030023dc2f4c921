"""schema.json: the application's tables and views with their columns as last seen, written by `lifecycle schema`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from lifecycle.names import QualifiedName


class RelationColumn(BaseModel):
    """One column. `constraints` are words such as `primary key` and `references public.accounts`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    not_null: bool = False
    unique: bool = False
    constraints: tuple[str, ...] = ()
    comment: str = ""


class Relation(BaseModel):
    """One table or view; `reads` are the relations that a view reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: QualifiedName
    kind: Literal["table", "view", "materialized_view"]
    comment: str = ""
    reads: tuple[QualifiedName, ...] = ()
    columns: tuple[RelationColumn, ...] = ()
