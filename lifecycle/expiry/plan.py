"""How much waits for the archive and for deletion. Reads only, and by the planner's estimate where rows may be many."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg import sql

from lifecycle.archive.layout import Archive, archives_of, exists, read_layout
from lifecycle.archive.readers import changed_readers, readers_in_the_way
from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase, translatable

ARCHIVABLE: Final = sql.SQL("explain (format json) select from {source} m where m.{time} < {cutoff}")
ESTIMATE: Final = "select e.schema_name, e.table_name, e.rows from lifecycle.expired_estimate(%s) e"
WAITS: Final = translatable("waits until accept_changed_views says that these may change")
MIGRATED: Final = "select to_regprocedure('lifecycle.expired_estimate(text)') is not null"


@dataclass(frozen=True)
class RetentionPlan:
    """About how many rows of a table the next run of a job would take; None where that cannot be told, and `told` why.

    `changes` are readers of the table that answer otherwise once its old rows are archived.
    """

    table: str
    job: str
    kept: str
    rows: int | None
    told: str = ""
    changes: tuple[Phrase, ...] = ()


def plan_retention(conn: Connection, application: Application, now: datetime) -> tuple[RetentionPlan, ...]:
    """The archives and the expiring rows that are declared."""
    archives = [
        _archive(conn, archive, now, application.database.managed_schemas)
        for archive in archives_of(application.archived_tables)
    ]
    return (*archives, *(plan for job in application.expiring_rows for plan in _expiry(conn, application, job)))


def _archive(conn: Connection, archive: Archive, now: datetime, managed: tuple[str, ...]) -> RetentionPlan:
    table, kept = str(archive.source), archive.declared.after
    try:
        layout = read_layout(conn, archive)
    except RefusedError as error:
        return RetentionPlan(table, archive.job, kept, None, error.told)
    query = ARCHIVABLE.format(
        source=archive.source.identifier,
        time=sql.Identifier(archive.declared.time),
        cutoff=layout.moment(sql.Literal(now - archive.keep_for)),
    )
    found: Any = conn.execute(query).fetchone()
    changes = tuple(reader.told for reader in changed_readers(conn, archive, managed))
    waits = bool(readers_in_the_way(conn, archive, managed)) and not archive.declared.accept_changed_views
    estimate = round(found[0][0]["Plan"]["Plan Rows"])
    return RetentionPlan(table, archive.job, kept, estimate, WAITS if waits else "", changes)


def _expiry(conn: Connection, application: Application, job: str) -> tuple[RetentionPlan, ...]:
    declared = application.expiring_rows[job]
    if not value(conn, MIGRATED):
        return tuple(
            RetentionPlan(str(name), job, declared.keep, None, "run `lifecycle migrate`")
            for name in declared.tables
            if exists(conn, name)
        )
    counted = {(schema, name): count for schema, name, count in rows(conn, ESTIMATE, (job,))}
    return tuple(
        RetentionPlan(str(name), job, declared.keep, counted.get((name.schema, name.name))) for name in declared.tables
    )
