"""Extensions that an index needs: found where they are, created where they are missing and this role may."""

from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, value

EXTENSIONS_SCHEMA: Final = "extensions"
SCHEMA_OF: Final = """
select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = %s
"""
# No package on the server (each version says it in its own way), no schema, no right to create.
NOT_HERE: Final = (
    psycopg.errors.UndefinedFile,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
)


class MissingExtensionError(Exception):
    """The extension is not in the database and could not be created; the message says who can enable it."""


def create_extension_statement(name: str) -> sql.Composed:
    return sql.SQL("create extension if not exists {} with schema {}").format(
        sql.Identifier(name), sql.Identifier(EXTENSIONS_SCHEMA)
    )


def extension_schema(conn: Connection, name: str) -> str | None:
    """The schema that the extension lies in; None where the database does not have it."""
    found: str | None = value(conn, SCHEMA_OF, (name,))
    return found


def require_extension(conn: Connection, name: str) -> str:
    """The schema of the extension, which is created where it is missing. Raises MissingExtensionError."""
    found = extension_schema(conn, name)
    if found is None:
        try:
            conn.execute(create_extension_statement(name))
        except NOT_HERE as error:
            raise MissingExtensionError(missing_extension(name, error.diag.message_primary)) from error
        found = extension_schema(conn, name)
    assert found is not None  # noqa: S101 - just created
    return found


def missing_extension(name: str, cause: str | None = None) -> str:
    """What is missing, why if known, who can cure it, and what comes next."""
    statement = create_extension_statement(name).as_string(None)
    return (
        f"extension {name} is not enabled{f' ({cause})' if cause else ''}. Enable it in Supabase's dashboard, "
        f"Database > Extensions, or as a role with CREATE on the database: {statement}. Then run `lifecycle migrate`, "
        "or the job build_hot_query_indexes"
    )
