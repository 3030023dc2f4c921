"""The weekly review in a migration. Whatever is declared is measured and reviewed, so it is always made."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from psycopg import sql
from pydantic import BaseModel

from lifecycle.declarations.application import Application
from lifecycle.migrating.capability import Capability, Statements
from lifecycle.names import QualifiedName

FORGET: Final = sql.SQL("delete from lifecycle.storage_schemas")
WRITE: Final = sql.SQL("insert into lifecycle.storage_schemas (schema_name) values ({})")


def declared_schemas(application: Application) -> tuple[str, ...]:
    """The schemas of all objects that the declarations name, but those that the platform keeps."""
    declared = (getattr(application, name) for name in type(application).model_fields if name != "relations")
    found = {name.schema for name in _names(declared)}
    return tuple(sorted(found - set(application.database.managed_schemas)))


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


def review_policies(application: Application) -> Statements:
    """Whose tables are measured."""
    return FORGET, *(WRITE.format(sql.Literal(schema)) for schema in declared_schemas(application))


REVIEW: Final = Capability("review", declared=lambda _: True, files=("review.sql",), policies=review_policies)
