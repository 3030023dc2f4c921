"""Every object that the declarations name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from lifecycle.declarations.application import Application
from lifecycle.names import QualifiedName


def declared_names(application: Application) -> frozenset[QualifiedName]:
    """Relations and functions that any file names, but those of schemas that the platform keeps."""
    declared = (getattr(application, name) for name in type(application).model_fields if name != "relations")
    managed = application.database.managed_schemas
    return frozenset(name for name in _names(declared) if name.schema not in managed)


def _names(declared: Any) -> Iterator[QualifiedName]:
    if isinstance(declared, QualifiedName):
        yield declared
    elif isinstance(declared, BaseModel):
        yield from _names(getattr(declared, name) for name in type(declared).model_fields)
    elif isinstance(declared, Mapping):
        yield from _names((*declared, *declared.values()))
    elif isinstance(declared, Iterable) and not isinstance(declared, str):
        for part in declared:
            yield from _names(part)
