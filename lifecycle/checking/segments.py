"""segments.yaml against the database: queries that PostgreSQL would not run, tables that nobody watches."""

from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.checking.mismatch import Mismatch
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application

FILE: Final = "segments.yaml"
CAPABILITY: Final = "segments"
MIGRATED: Final = "select to_regclass('lifecycle.segment_sources') is not null"
SEEN: Final = "select name from lifecycle.segment_sources where seen_at is not null"
UNWATCHED: Final = "select unnest(lifecycle.unwatched_segment_tables())"


def unfit_segments(conn: Connection, application: Application) -> Iterator[Mismatch]:
    """Sources that are gone, segments without a place, changes that nobody notes."""
    segments = application.segments
    if not segments.targets:
        return
    migrated = value(conn, MIGRATED)
    seen = {name for (name,) in rows(conn, SEEN)} if migrated else set()
    places = [
        sql.SQL("select target.{}, target.{}::jsonb from {} target where ({})").format(
            sql.Identifier(target.key),
            sql.Identifier(target.column),
            target.table.identifier,
            sql.SQL(target.consent),  # type: ignore[arg-type]
        )
        for target in segments.targets
    ]
    if all(_refused(conn, place) for place in places):
        yield Mismatch(CAPABILITY, "targets", f"none of them exists: say in {FILE} where segments stand now", FILE)
    for name, kind, source in segments.sources():
        reason = _refused(conn, sql.SQL(source.sql))  # type: ignore[arg-type]
        if reason and not source.gone and (name in seen or not source.optional):
            yield Mismatch(
                CAPABILITY,
                f"source {name}",
                f"{reason}. Tags that came from it stay. Correct its sql, or add the line to its entry",
                FILE,
                f"tastes:\n  {name}:\n    gone: true" if kind == "taste" else f"{name}:\n  gone: true",
            )
    if migrated:
        for (table,) in rows(conn, UNWATCHED):
            yield Mismatch(CAPABILITY, table, "its changes are not noted: run `lifecycle migrate`")


def _refused(conn: Connection, query: sql.Composable) -> str | None:
    """Why PostgreSQL would not run it; nothing is read."""
    try:
        with conn.transaction():
            conn.execute(sql.SQL("select from (\n{}\n) q limit 0").format(query))
    except psycopg.ProgrammingError as error:
        return error.diag.message_primary
    return None
