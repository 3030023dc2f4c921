"""The weekly review in a migration. Whatever is declared is measured and reviewed, so it is always made."""

from typing import Final

from psycopg import sql

from lifecycle.declarations.application import Application
from lifecycle.declarations.named import declared_names
from lifecycle.migrating.capability import Capability, Statements

FORGET: Final = sql.SQL("delete from lifecycle.storage_schemas")
WRITE: Final = sql.SQL("insert into lifecycle.storage_schemas (schema_name) values ({})")


def declared_schemas(application: Application) -> tuple[str, ...]:
    """The schemas of all objects that the declarations name, but those that the platform keeps."""
    return tuple(sorted({name.schema for name in declared_names(application)}))


def review_policies(application: Application) -> Statements:
    """Whose tables are measured."""
    return FORGET, *(WRITE.format(sql.Literal(schema)) for schema in declared_schemas(application))


REVIEW: Final = Capability("review", declared=lambda _: True, files=("review.sql",), policies=review_policies)
