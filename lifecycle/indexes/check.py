"""Declarations against the catalog: declared indexes that are not there, and why."""

from dataclasses import dataclass
from typing import Final

import psycopg

from lifecycle.database import Connection
from lifecycle.declarations.application import Application
from lifecycle.errors import BusyError
from lifecycle.indexes.catalog import UnfitError, on_empty_copy, require_table, serving
from lifecycle.indexes.extensions import EXTENSIONS_SCHEMA, extension_schema, missing_extension
from lifecycle.indexes.model import Index, declared_indexes

LOCK_TIMEOUT: Final = "set local lock_timeout = '5s'"


@dataclass(frozen=True)
class IndexFinding:
    """An index that indexes.yaml and the catalog do not agree about."""

    name: str
    table: str
    told: str


def index_differences(conn: Connection, application: Application) -> tuple[IndexFinding, ...]:
    """Declared indexes for which none serves, and those that cannot be. Changes nothing.

    An index of an optional table that does not exist is none of them. Raises BusyError while a table is locked.
    """
    return tuple(
        IndexFinding(index.name, str(index.table), told)
        for index in declared_indexes(application)
        if (told := _told(conn, index))
    )


def _told(conn: Connection, index: Index) -> str:
    try:
        require_table(conn, index)
        schema = extension_schema(conn, index.extension) if index.extension else EXTENSIONS_SCHEMA
        if schema is None:
            return missing_extension(str(index.extension))
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            with on_empty_copy(conn, index, schema):
                found = serving(conn, index)
    except UnfitError as error:
        return "" if index.optional else str(error)
    except psycopg.errors.LockNotAvailable as error:
        raise BusyError(f"{index.table} is locked; the state of its indexes is not known now") from error
    return "" if found else "is missing: `lifecycle migrate` or the job build_hot_query_indexes builds it"
