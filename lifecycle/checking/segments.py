"""segments.yaml against the database: tables that are gone, queries that PostgreSQL would not run, unwatched tables."""

from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.checking.needed import Needed
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.migrating.names_only import is_names_only

FILE: Final = "segments.yaml"
CAPABILITY: Final = "segments"
DOCUMENT: Final = "jsonb"
MIGRATED: Final = "select to_regclass('lifecycle.segment_sources') is not null"
SEEN: Final = "select name from lifecycle.segment_sources where seen_at is not null"
UNWATCHED: Final = "select unnest(lifecycle.unwatched_segment_tables())"


def needed_segment_tables(application: Application) -> Iterator[Needed]:
    """The accounts, and the tables whose changes ask for somebody's segments."""
    segments = application.segments
    if segments.accounts:
        yield Needed(CAPABILITY, FILE, segments.accounts.table, (segments.accounts.key,))
    for source_name, kind, source in segments.sources():
        within = ("tastes", source_name) if kind == "taste" else (source_name,)
        for name, watch in () if source.gone else source.watches.items():
            account = (watch.account,) if watch.account else (watch.through.by,) if watch.through else ()
            # An optional source may find its table in another form: then it is not read, and nothing is missed.
            columns = () if source.optional else (*account, *watch.columns)
            yield Needed(CAPABILITY, FILE, name, columns, source.optional, within)


def lost_sources(conn: Connection, application: Application) -> Iterator[Mismatch]:
    """Queries that PostgreSQL would not run, and tables of which nobody notes the changes.

    An optional source is missed once it was there.
    """
    segments = application.segments
    if not segments.targets:
        return
    migrated = value(conn, MIGRATED)
    seen = {name for (name,) in rows(conn, SEEN)} if migrated else set()
    for name, kind, source in segments.sources():
        if source.gone or (source.optional and name not in seen):
            continue
        if reason := _refused(conn, source.sql):
            yield Mismatch(
                CAPABILITY,
                f"source {name}",
                f"{reason}. Tags that came from it stay. Correct its sql, or say that it is gone",
                FILE,
                ("tastes", name) if kind == "taste" else (name,),
                "gone: true",
            )
    if migrated and not is_names_only(conn):
        for (table,) in rows(conn, UNWATCHED):
            yield Mismatch(CAPABILITY, table, "its changes are not noted: run `lifecycle migrate`")


def _refused(conn: Connection, query: str) -> str | None:
    """Why PostgreSQL would not run it; nothing is read."""
    try:
        with conn.transaction():
            conn.execute(sql.SQL("select from (\n{}\n) q limit 0").format(sql.SQL(query)))
    except psycopg.ProgrammingError as error:
        return error.diag.message_primary
    return None


def no_target(application: Application, catalog: Catalog) -> Iterator[Mismatch]:
    """Of several places where segments may stand, one has to exist."""
    targets = application.segments.targets
    if targets and not any(
        target.table in catalog.relations and target.column in catalog.relations[target.table].columns
        for target in targets
    ):
        named = ", ".join(f"{target.table}.{target.column}" for target in targets)
        yield Mismatch(
            CAPABILITY,
            named,
            f"none of them exists: name in {FILE} where segments stand now, and what tells consent there",
            FILE,
            ("targets",),
            _proposal(application, catalog),
        )


def _proposal(application: Application, catalog: Catalog) -> str:
    """A document of the accounts' own table, without anybody's consent until somebody says what tells it."""
    accounts = application.segments.accounts
    if accounts is None or accounts.table not in catalog.relations:
        return ""
    documents = [name for name, kind in catalog.relations[accounts.table].columns.items() if kind == DOCUMENT]
    return "".join(
        f'- {{table: {accounts.table}, key: {accounts.key}, column: {name}, path: [segments], consent: "false"}}\n'
        for name in documents[-1:]
    )
