"""What each capability would do now, collected in transactions that cannot write, and told in one line per object."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lifecycle.access.report import Difference, access_differences
from lifecycle.archive.layout import archives_of
from lifecycle.archive.readers import FUNCTION, changed_readers
from lifecycle.checking.migrated import not_migrated
from lifecycle.cold.plan import ColdPlan, plan_cold_months
from lifecycle.consent.apply import JOB as CONSENT_JOB
from lifecycle.consent.apply import AgainstConsent, rows_against_consent
from lifecycle.database import Connection, value, without_statement_timeout
from lifecycle.declarations.application import Application
from lifecycle.erasures.queue import QueueStatus, queue_status
from lifecycle.errors import RefusedError
from lifecycle.expiry.plan import RetentionPlan, plan_retention
from lifecycle.language import Phrase, _, translatable
from lifecycle.migrating.capabilities import CAPABILITIES
from lifecycle.migrating.state import installed
from lifecycle.names import QualifiedName
from lifecycle.partitions.facts import DatabaseFacts, probe_database
from lifecycle.partitions.plan import ConversionPlan, RotationPlan, plan_conversion, plan_rotation
from lifecycle.partitions.tables import monthly_tables
from lifecycle.units import size_text
from lifecycle.views.kept_plan import KeptPlan, plan_kept
from lifecycle.views.plan import RefreshPlan, plan_refreshes

# For one transaction only: behind a pooler, a session setting would stay for the application.
READ_ONLY: Final = "set transaction read only"
BY_NAME: Final = "select to_regclass(%s) is not null"
WAITING_SEGMENTS: Final = "select waiting from lifecycle.segments_status()"
NOT_MIGRATED: Final = translatable("run `lifecycle migrate`")


@dataclass(frozen=True)
class Partitions:
    """Conversion and rotation of each event table."""

    conversions: tuple[ConversionPlan, ...]
    rotations: tuple[RotationPlan, ...]


@dataclass(frozen=True)
class Views:
    """Kept views, materialized views, and functions that read an archived table and nothing of its archive."""

    kept: tuple[KeptPlan, ...]
    refreshes: tuple[RefreshPlan, ...]
    functions: Mapping[str, tuple[str, ...]]

    @property
    def come_along(self) -> bool:
        """Whether nothing is declared of them: an archive or cold months brought them along."""
        return not (self.kept or self.refreshes or self.functions)


@dataclass(frozen=True)
class Waiting:
    """How many of something wait, None where nobody can know before the first migration."""

    count: int | None


@dataclass(frozen=True)
class Plan:
    """The database, what a migration would change, and what each declared capability would do, by its name."""

    database: DatabaseFacts
    migration: tuple[Phrase, ...]
    parts: Mapping[str, Any]


Line = tuple[str, str]


def _partitions(conn: Connection, application: Application, now: datetime) -> Partitions:
    tables = monthly_tables(application)
    return Partitions(
        tuple(plan_conversion(conn, table, now) for table in tables),
        tuple(plan_rotation(conn, table, now) for table in tables),
    )


def _views(conn: Connection, application: Application, _now: datetime) -> Views:
    managed = application.database.managed_schemas
    readers = {
        str(archive.source): tuple(
            reader.name for reader in changed_readers(conn, archive, managed) if reader.kind == FUNCTION
        )
        for archive in archives_of(application.archived_tables)
    }
    return Views(
        plan_kept(conn, application),
        plan_refreshes(conn, application.views.materialized),
        {table: names for table, names in readers.items() if names},
    )


def _cold(conn: Connection, application: Application, now: datetime) -> tuple[ColdPlan, ...] | Waiting:
    return plan_cold_months(conn, application, now) if "cold" in installed(conn) else Waiting(None)


def _archive(conn: Connection, application: Application, now: datetime) -> tuple[RetentionPlan, ...]:
    expiring = application.expiring_rows
    return tuple(plan for plan in plan_retention(conn, application, now) if plan.job not in expiring)


def _expiry(conn: Connection, application: Application, now: datetime) -> tuple[RetentionPlan, ...]:
    expiring = application.expiring_rows
    return tuple(plan for plan in plan_retention(conn, application, now) if plan.job in expiring)


def _segments(conn: Connection, _application: Application, _now: datetime) -> Waiting:
    return Waiting(value(conn, WAITING_SEGMENTS) if "segments" in installed(conn) else None)


def _erasures(conn: Connection, application: Application, _now: datetime) -> QueueStatus | Waiting:
    data = application.personal_data
    # The table of ours that requests stand in comes with the first migration.
    if data is not None and data.requests.are_ours and "erasures" not in installed(conn):
        return Waiting(None)
    return queue_status(conn, application)


def _consent(conn: Connection, _application: Application, _now: datetime) -> tuple[AgainstConsent, ...] | Waiting:
    return rows_against_consent(conn) if "consent" in installed(conn) else Waiting(None)


def _indexes(conn: Connection, application: Application, _now: datetime) -> tuple[str, ...]:
    """Declared ones that stand under their name nowhere; another index may serve in their place."""
    return tuple(
        name
        for name, index in application.indexes.indexes.items()
        if not value(conn, BY_NAME, (str(QualifiedName(index.table.schema, name)),))
    )


def _access(conn: Connection, application: Application, _now: datetime) -> tuple[Difference, ...]:
    return access_differences(conn, application)


COLLECT: Final[Mapping[str, Callable[[Connection, Application, datetime], Any]]] = {
    "partitions": _partitions,
    "cold": _cold,
    "views": _views,
    "archive": _archive,
    "expiry": _expiry,
    "segments": _segments,
    "erasures": _erasures,
    "consent": _consent,
    "indexes": _indexes,
    "access": _access,
}


def collect_plan(conn: Connection, application: Application, now: datetime, capability: str | None = None) -> Plan:
    """Ask the database, of one capability or of all that are declared.

    Raises RefusedError for a name that is no capability's, psycopg.Error when the database cannot be asked.
    """
    if capability is not None and capability not in COLLECT:
        refused = _("{capability!r} has no plan; there is one for {names}")
        raise RefusedError(refused.format(capability=capability, names=", ".join(COLLECT)))
    declared = {each.name for each in CAPABILITIES if each.declared(application)}
    wanted = [name for name in COLLECT if name in declared and capability in (None, name)]
    facts = probe_database(conn, application)
    with without_statement_timeout(conn):
        conn.execute(READ_ONLY)
        parts = {name: COLLECT[name](conn, application, now) for name in wanted}
        return Plan(
            database=facts,
            migration=tuple(
                Phrase("{object}: {told}", object=found.object, told=found.told)
                for found in not_migrated(conn, application)
            ),
            parts={name: part for name, part in parts.items() if not (isinstance(part, Views) and part.come_along)},
        )


def lines(part: Any) -> Iterator[Line]:
    """(object, what would be done) of one part, for the screen of all."""
    if isinstance(part, Partitions):
        yield from (_conversion(each) for each in part.conversions if each.state != "done")
        yield from (_rotation(each) for each in part.rotations if each.create or each.drop or each.default_rows)
    elif isinstance(part, QueueStatus):
        told = _("{waiting:,} waiting, {held:,} held").format(waiting=part.waiting, held=part.held)
        if part.next_deadline:
            told += _(", the next due {moment:%Y-%m-%d %H:%M} UTC").format(moment=part.next_deadline)
        if part.waiting or part.held:
            yield _("deletion requests"), told
    elif isinstance(part, Views):
        yield from ((str(each.name), _(each.told)) for each in part.kept if each.state in ("to be kept", "stays"))
        yield from ((each.name, _(each.would)) for each in part.refreshes)
    elif isinstance(part, Waiting):
        if part.count != 0:
            told = _("compute the segments of {count:,} accounts").format(count=part.count or 0)
            yield "", _(NOT_MIGRATED) if part.count is None else told
    else:
        for each in part:
            yield from _line(each)


def _conversion(plan: ConversionPlan) -> Line:
    about = _("about {count:,} rows, {size}").format(count=plan.rows, size=size_text(plan.bytes))
    told = [_(plan.next_step), about if plan.bytes else ""]
    told += [_("{count} refusals").format(count=len(plan.refusals)) if plan.refusals else ""]
    told += [_("{count} warnings").format(count=len(plan.warnings)) if plan.warnings else ""]
    return plan.table.qualified_name, _("; ").join(filter(None, told))


def _rotation(plan: RotationPlan) -> Line:
    told = [_("make {count} months").format(count=len(plan.create)) if plan.create else ""]
    told += [_("drop {count}").format(count=len(plan.drop)) if plan.drop else ""]
    told += [_("held: {names}").format(names=_(", ").join(map(_, plan.held))) if plan.held else ""]
    stray = _("empty the default partition of {count:,} rows").format(count=plan.default_rows)
    told += [stray if plan.default_rows else ""]
    return plan.table.qualified_name, _("; ").join(filter(None, told))


def _cold_months(plan: ColdPlan) -> Iterator[Line]:
    if plan.months and plan.refused:
        told = _("refuse to move {count} months: {readers} would answer otherwise")
        yield plan.table, told.format(count=len(plan.months), readers=_(", ").join(plan.refused))
    elif plan.months:
        told = _("move {count} months, {size} (job {job})").format(
            count=len(plan.months), size=size_text(plan.hot_bytes), job="move_cold_months"
        )
        stays = _("; about {size} of them stays for views").format(size=size_text(plan.stays_bytes))
        yield plan.table, told + (stays if plan.stays_bytes else "")


def _line(each: Any) -> Iterator[Line]:
    if isinstance(each, RetentionPlan) and (each.rows != 0 or each.told):
        rows = _("take about {count:,} rows (job {job})").format(count=each.rows or 0, job=each.job)
        yield (
            each.table,
            _("; ").join(filter(None, ("" if each.rows is None else rows, _(each.told)))),
        )
    elif isinstance(each, ColdPlan):
        yield from _cold_months(each)
    elif isinstance(each, AgainstConsent):
        told = _("clear what {count:,} rows hold for {purpose} (job {job})")
        yield each.table, told.format(count=each.rows, purpose=each.purpose, job=CONSENT_JOB)
    elif isinstance(each, Difference):
        yield each.object, _("changed by `lifecycle migrate`")
    elif isinstance(each, str):
        yield each, _("build the index, unless another one serves")
