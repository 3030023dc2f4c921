"""The declaration of one application, resolved: kinds and conditions in place, and functions of ours beside its own.

Schemas of ours are not declared: their owner alone may touch what is in them.
"""

import re
from collections.abc import Mapping
from typing import Final

from lifecycle.access.model import OPS, Access, Declared, Relation, Routine, Rows
from lifecycle.declarations.access import AccessDeclarations, Kind
from lifecycle.declarations.application import Application
from lifecycle.names import QualifiedName

# What the machinery's policies for ops ask; made by helpers.sql.
EXECUTORS: Final[Mapping[str, tuple[str, ...]]] = {"private.claims()": (), "public.is_ops_role()": (OPS,)}
HELPERS: Final = tuple(
    Routine(
        QualifiedName.parse(signature.removesuffix("()")),
        roles,
        "policies for ops ask it" if roles else "helpers of policies ask it",
        granted=roles,
    )
    for signature, roles in EXECUTORS.items()
)


def declared_access(application: Application) -> Declared:
    """Everything that access.yaml says, and the functions of ours that policies ask."""
    file = application.access
    relations = tuple(
        _relation(name, file.kind_of(name), said.why, file, optional=said.optional)
        for name, said in file.relations.items()
    )
    routines = tuple(
        Routine(
            name,
            said.roles,
            said.why,
            granted=said.roles if said.granted else (),
            optional=said.optional,
        )
        for name, said in file.routines.items()
    )
    return Declared(relations, (*routines, *HELPERS), _service_only(file.back_end))


def _service_only(function: QualifiedName | None) -> str | None:
    """However it is printed: with or without its schema, wrapped in a SELECT or not."""
    if function is None:
        return None
    schema, name = (re.escape(part) for part in str(function).split(".", 1))
    return rf"^\(?\s*(select )?({schema}\.)?{name}\(\)( as {name})?\)?$"


def _relation(name: QualifiedName, kind: Kind, why: str, file: AccessDeclarations, *, optional: bool) -> Relation:
    return Relation(
        name,
        tuple(
            Access(rule.roles, rule.verbs, Rows(rule.rows, file.rows.get(rule.rows)), rule.granted)
            for rule in kind.access
        ),
        why or kind.why,
        row_security=kind.row_security,
        reads_as_caller=kind.reads_as_caller,
        narrowed=kind.narrowed,
        optional=optional,
    )
