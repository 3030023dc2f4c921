"""Build the declared indexes that are missing, without stopping anybody."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, operation_lock
from lifecycle.declarations.application import Application
from lifecycle.errors import BusyError
from lifecycle.indexes.catalog import (
    UnfitError,
    explained,
    index_body,
    on_empty_copy,
    require_table,
    serving,
    what_has_the_name,
)
from lifecycle.indexes.extensions import (
    EXTENSIONS_SCHEMA,
    MissingExtensionError,
    create_extension_statement,
    require_extension,
)
from lifecycle.indexes.model import Index, declared_indexes
from lifecycle.indexes.progress import Progress, no_progress, watched_build
from lifecycle.pacing import UNPACED, Pacing

# CREATE INDEX CONCURRENTLY waits for older transactions; nobody but VACUUM and ALTER waits behind it.
PATIENCE: Final = "10min"
KEEP_PLAN: Final = """
insert into lifecycle.index_plans (schema_name, index_name, plan_before) values (%s, %s, %s)
on conflict (schema_name, index_name) do update set plan_before = excluded.plan_before, built_at = null
"""
KEEP_TIME: Final = "update lifecycle.index_plans set built_at = now() where (schema_name, index_name) = (%s, %s)"


@dataclass(frozen=True)
class IndexBuild:
    """Names of the indexes that were built, and of each that could not be: what to do."""

    built: tuple[str, ...]
    left_out: tuple[str, ...]


def create_statement(index: Index, extension_schema: str = EXTENSIONS_SCHEMA) -> sql.Composed:
    """CREATE INDEX CONCURRENTLY for one index; runs outside of a transaction only."""
    return sql.SQL("create index concurrently if not exists {} on {} {}").format(
        sql.Identifier(index.name), index.table.identifier, index_body(index, extension_schema)
    )


def mark_statement(index: Index) -> sql.Composed:
    """The comment by which the way back knows the indexes that are ours to drop."""
    return sql.SQL("comment on index {} is {}").format(
        index.qualified_name.identifier, sql.Literal(f"lifecycle: {index.reason}")
    )


def index_script(application: Application) -> str:
    """Everything that `build_indexes` runs on a database that has none of the indexes; in no transaction."""
    return "".join(f"{statement.as_string(None)};\n" for statement in _statements(application))


def _statements(application: Application) -> Iterator[sql.Composed]:
    indexes = declared_indexes(application)
    for name in sorted({index.extension for index in indexes if index.extension}):
        yield create_extension_statement(name)
    for index in indexes:
        yield create_statement(index)
        yield mark_statement(index)


def build_indexes(
    conn: Connection, indexes: Sequence[Index], progress: Progress = no_progress, pacing: Pacing = UNPACED
) -> IndexBuild:
    """Build what is missing; safe to repeat. `conn` is a session of its own, in autocommit mode.

    Passed over: an index that another one serves for, under whatever name. An invalid index under our name, the
    leftover of a broken build, is dropped and built anew. Left out with the reason: an index whose table or column does
    not exist, whose table is partitioned, whose extension is missing and cannot be created, whose name belongs to
    something else. Raises BusyError when an older transaction stays open for longer than the patience, and
    AlreadyRunningError when another session builds.
    """
    built, left_out = [], []
    with operation_lock(conn, "indexes"):
        for number, index in enumerate(indexes):

            def within(message: str, fraction: float, number: int = number) -> None:
                progress(message, (number + fraction) / len(indexes))

            try:
                require_table(conn, index)
                with pacing.work():
                    made = _build(conn, index, within)
                if made:
                    built.append(index.name)
                    within(f"{index.name}: built", 1.0)
            except (MissingExtensionError, UnfitError) as error:
                left_out.append(f"index {index.name} is not built: {error}")
    return IndexBuild(tuple(built), tuple(left_out))


def _build(conn: Connection, index: Index, progress: Progress) -> bool:
    with patiently(conn, f"index {index.name} on {index.table}"):
        schema = require_extension(conn, index.extension) if index.extension else EXTENSIONS_SCHEMA
        found, on_its_table = what_has_the_name(conn, index)
        if found == "invalid" and on_its_table:
            conn.execute(sql.SQL("drop index concurrently {}").format(index.qualified_name.identifier))
            found = None
        with on_empty_copy(conn, index, schema):
            if serving(conn, index):
                return False
        if found:
            raise UnfitError(
                f"{index.qualified_name} exists and is not the index that {index.table} needs, "
                f"{create_statement(index, schema).as_string(None)}; rename it, then run `lifecycle migrate` again"
            )
        if index.query:
            conn.execute(KEEP_PLAN, (index.table.schema, index.name, explained(conn, index).text))
        with watched_build(conn, index.name, progress):
            conn.execute(create_statement(index, schema))
        conn.execute(mark_statement(index))
        if index.query:
            conn.execute(KEEP_TIME, (index.table.schema, index.name))
    return True


@contextmanager
def patiently(conn: Connection, what: str) -> Iterator[None]:
    """Wait for locks as long as the patience; BusyError when they stay taken."""
    try:
        conn.execute(f"set lock_timeout = '{PATIENCE}'")
        yield
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise BusyError(
            f"{what}: not finished within {PATIENCE}, because older "
            "transactions, VACUUM or ALTER are in the way. Wait for them or end them, then run `lifecycle migrate` "
            "again; what is broken is built anew."
        ) from error
    finally:
        if not conn.closed:
            conn.execute("set lock_timeout = 0")
