"""access.yaml: who may do what with which rows of the tables, views and functions that the API reaches."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from lifecycle.declarations.model import Declared, DeclaredObject
from lifecycle.names import QualifiedName

Verb = Literal["SELECT", "INSERT", "UPDATE", "DELETE"]
Role = Annotated[str, StringConstraints(min_length=1, max_length=63)]
EVERY_ROW: Final = "every row"
BY_ITS_POLICIES: Final = "by the application's policies"
# What a policy of ours is named after, as part of its name.
Words = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[ -~]+$")]
# Rows that need no policy of ours.
WITHOUT_POLICY: Final = (EVERY_ROW, BY_ITS_POLICIES)


class Rule(Declared):
    """What some roles may do, with which rows."""

    roles: tuple[Role, ...] = Field(min_length=1)
    verbs: tuple[Verb, ...] = Field(min_length=1)
    rows: str = Field(description=f"one of the file's `rows`, or '{EVERY_ROW}', or '{BY_ITS_POLICIES}'")
    granted: bool = Field(default=False, description="give the privilege where it is missing; others are only taken")


class Kind(Declared):
    """How a table or view is reached. Whoever is not named in `access` may do nothing."""

    access: tuple[Rule, ...] = ()
    row_security: bool = Field(default=False, description="row-level security has to be on")
    reads_as_caller: bool = Field(default=False, description="of a view: it has to be security_invoker")
    narrowed: bool = Field(
        default=False,
        description="policies of the application that ask nothing but `back_end` are made for service_role alone, and "
        "policies of ours stand beside the application's",
    )


class RelationAccess(Kind, DeclaredObject):
    """One table or view: a kind of the file, or what a kind would say."""

    kind: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        said = self.model_fields_set & set(Kind.model_fields) - {"why"}
        if self.kind is not None and said:
            raise ValueError(f"says {sorted(said)[0]} beside its kind {self.kind!r}; say one of both")
        if self.kind is None and "access" not in said:
            raise ValueError("says neither kind nor access; `access: []` closes it")
        return self


class RoutineAccess(DeclaredObject):
    """Who may execute the functions of this name; whoever is not named may not."""

    roles: tuple[Role, ...] = ()
    granted: bool = Field(default=False, description="give EXECUTE where it is missing")


class AccessDeclarations(Declared):
    """Who may do what. What is not named here is left alone, and reported when the API reaches it."""

    back_end: QualifiedName | None = Field(
        default=None, description="a function of the application that is true for service_role alone; see `narrowed`"
    )
    rows: dict[Words, str] = Field(
        default_factory=dict, description="conditions of policies of ours, by words for them"
    )
    kinds: dict[str, Kind] = Field(default_factory=dict, description="how several tables or views are reached alike")
    relations: dict[QualifiedName, RelationAccess] = Field(default_factory=dict)
    routines: dict[QualifiedName, RoutineAccess] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if taken := sorted(set(self.rows) & set(WITHOUT_POLICY)):
            raise ValueError(f"rows: {taken[0]!r} needs no condition; choose another name")
        for name, relation in self.relations.items():
            if relation.kind is not None and relation.kind not in self.kinds:
                raise ValueError(f"relations: {name}: kind {relation.kind!r} is none of {', '.join(self.kinds)}")
        places = {f"kinds: {name}": kind for name, kind in self.kinds.items()}
        places |= {f"relations: {name}": relation for name, relation in self.relations.items()}
        for place, kind in places.items():
            for rule in kind.access:
                if rule.rows not in (*self.rows, *WITHOUT_POLICY):
                    known = ", ".join((*self.rows, *WITHOUT_POLICY))
                    raise ValueError(f"{place}: rows {rule.rows!r} are none of {known}")
        return self

    def kind_of(self, name: QualifiedName) -> Kind:
        """How a declared table or view is reached."""
        relation = self.relations[name]
        return relation if relation.kind is None else self.kinds[relation.kind]
