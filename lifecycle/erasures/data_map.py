"""The map of personal data as rows of the policy tables: what personal_data.yaml declares, and tables of our own.

In schema lifecycle nobody may be found, unless a line here says otherwise (lifecycle.treatment_of() knows the rest).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.cold.tables import narrow_name
from lifecycle.declarations.application import Application
from lifecycle.declarations.people import OUR_REQUEST_TABLE
from lifecycle.declarations.personal_data import (
    PERSON,
    Key,
    Limit,
    PersonalData,
    PersonalTable,
    Source,
    Step,
)
from lifecycle.erasures.archived import RESTORED, restored_groups, with_archives, with_thawed_rows
from lifecycle.erasures.policy import ERASURE
from lifecycle.names import QualifiedName

Statements = Sequence[sql.SQL | sql.Composed]
Listed = TypeVar("Listed", Source, Limit)


@dataclass(frozen=True)
class MappedTable:
    """One table of the map: the application's own as declared, or one that follows from other declarations."""

    name: QualifiedName
    declared: PersonalTable
    time: str | None = None
    steps: tuple[Step, ...] = ()
    treatments: Mapping[str, tuple[str, str]] = field(default_factory=dict)


# The queue names the person, to find what comes back. Segments wait in a table that the application's triggers fill:
# last, since the deletes before it fill it, too.
SEGMENTS_WAIT: Final = QualifiedName("lifecycle", "changed_segment_accounts")
OWN_TABLES: Final = {
    QualifiedName("lifecycle", "deletion_jobs"): PersonalTable(
        why="the queue", exempt={"account_key": "ties the proof to the request, to find what comes back"}
    ),
    OUR_REQUEST_TABLE: PersonalTable(
        why="evidence of the request, where the application has no table for it",
        steps=(Step(by="person", key=PERSON, do="scrub", set={"reason": None, "notes": "redacted"}),),
        exempt={"person": "evidence of the request names the person, of whom nothing else is left"},
        clean=("status", "processed_by"),
    ),
    QualifiedName("lifecycle", "person_exports"): PersonalTable(
        why="the log of exports", exempt={"exported_by": "who took the data out: a role, and a login of the staff"}
    ),
    SEGMENTS_WAIT: PersonalTable(
        why="persons whose segments wait; one who was erased has none",
        steps=(Step(by="account", key=PERSON),),
    ),
}


def _own_tables(application: Application, data: PersonalData) -> Iterator[tuple[QualifiedName, PersonalTable]]:
    """Of our own tables those that the declarations make."""
    made = {OUR_REQUEST_TABLE: data.requests.are_ours, SEGMENTS_WAIT: bool(application.segments.targets)}
    yield from ((name, table) for name, table in OWN_TABLES.items() if made.get(name, True))


def mapped_tables(application: Application) -> Iterator[MappedTable]:
    """Every table of the map, in the order in which their rows go. Nothing when no personal data is declared.

    Archived rows go behind those of their table; tables of our own are last, since deletes may fill them.
    """
    data = application.personal_data
    if data is None:
        return
    restored = restored_groups(application, data)
    ours = {**({RESTORED: restored} if restored else {}), **dict(_own_tables(application, data))}
    tables = {**dict(with_archives(application, data)), **ours}
    searched_only = {narrow_name(relation) for relation in application.event_tables}
    for name, table in tables.items():
        events = application.event_tables.get(name)
        time = table.time or (events.time if events else None)
        steps = () if name in searched_only else table.steps
        yield MappedTable(name, table, time, steps, table.treatments())


FORGET: Final = tuple(
    sql.SQL("delete from lifecycle.{}").format(sql.Identifier(table))
    for table in (
        *("erasure_policy", "erasure_key_kinds", "erasure_key_sources", "erasure_key_limits"),
        *("erasure_steps", "personal_data_columns"),
    )
)


def map_statements(application: Application) -> Statements:
    """Write the map and the policy into their tables; without personal data they are emptied."""
    data = application.personal_data
    if data is None:
        return FORGET
    return (
        *FORGET,
        _insert("erasure_policy", _policy(application, data)),
        *(_insert("erasure_key_kinds", row) for row in _kinds(data)),
        *(_insert("erasure_key_sources", row) for row in _sources(application, data)),
        *(_insert("erasure_key_limits", row) for row in _limits(application, data)),
        *(_insert("erasure_steps", row) for row in _steps(application)),
        *(_insert("personal_data_columns", row) for row in _columns(application)),
    )


def _insert(table: str, row: Mapping[str, Any]) -> sql.Composed:
    return sql.SQL("insert into lifecycle.{} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Literal(held) for held in row.values()),
    )


def _text(name: QualifiedName | None) -> str | None:
    return None if name is None else str(name)


def _policy(application: Application, data: PersonalData) -> dict[str, Any]:
    person, asked = data.person, data.requests
    tombstone, sign_in = person.tombstone, person.sign_in
    used_table, used_column = (sign_in and sign_in.still_used) or (None, None)
    return {
        "version": data.version,
        "grace": asked.grace or "0",
        "deadline": asked.deadline,
        "late_window": asked.late_window,
        **vars(ERASURE),
        "calendar": application.database.calendar,
        "managed_schemas": list(application.database.managed_schemas),
        "person_table": str(person.table),
        "person_column": person.key,
        "erased_column": tombstone and tombstone.column,
        "erased_value": tombstone and tombstone.value,
        "hold_function": _text(person.hold),
        "request_table": str(asked.table),
        "request_id": asked.id,
        "request_person": asked.person,
        "request_status": asked.status,
        "word_pending": asked.words.pending,
        "word_processing": asked.words.processing,
        "word_completed": asked.words.completed,
        "word_failed": asked.words.failed,
        "requested_at": asked.requested_at,
        "processed_at": asked.processed_at,
        "completed_at": asked.completed_at,
        "processed_by": asked.processed_by,
        "request_notes": asked.notes,
        "request_reason": asked.reason,
        "sign_in_table": _text(sign_in.table if sign_in else None),
        "sign_in_id": sign_in and sign_in.id,
        "sign_in_kind": sign_in and sign_in.key,
        "sign_in_used_table": _text(used_table),
        "sign_in_used_column": used_column,
    }


def _kinds(data: PersonalData) -> Iterator[dict[str, Any]]:
    for position, (kind, key) in enumerate(data.keys.items(), 1):
        yield {
            "position": position,
            "kind": kind,
            "form": key.form,
            "pattern": key.matches,
            "searched": key.search,
            "remembered": key.remembered,
        }


def _each(
    application: Application, data: PersonalData, listed: Callable[[Key], Iterable[Listed]]
) -> Iterator[tuple[dict[str, Any], Listed]]:
    """What the kinds of keys list, each with the columns that say where it stands; of rows from cold files, too."""
    for kind, key in data.keys.items():
        for position, entry in enumerate(with_thawed_rows(application, listed(key)), 1):
            yield {"kind": kind, "position": position}, entry


def _sources(application: Application, data: PersonalData) -> Iterator[dict[str, Any]]:
    for place, source in _each(application, data, lambda key: key.sources):
        yield place | {
            "table_name": _text(source.table),
            "by_column": source.by,
            "key_kinds": list(source.key),
            "taken_column": source.take,
            "given_column": source.given,
            "unowned_column": source.unowned,
            "any_case": source.any_case,
            "bound": source.bound,
            "optional": source.optional,
        }


def _limits(application: Application, data: PersonalData) -> Iterator[dict[str, Any]]:
    for place, limit in _each(application, data, lambda key: key.unless):
        yield place | {
            "table_name": _text(limit.table),
            "column_name": limit.column,
            "owner_column": limit.owner,
            "more_than": limit.more_than,
            "function_name": _text(limit.function),
            "optional": limit.optional,
        }


def _steps(application: Application) -> Iterator[dict[str, Any]]:
    steps = ((table, step) for table in mapped_tables(application) for step in table.steps)
    for number, (table, step) in enumerate(steps, 1):
        yield {
            "step": number,
            "table_name": str(table.name),
            "key_column": step.by,
            "key_kind": step.key,
            "action": step.do,
            "unowned_column": step.unowned,
            "time_column": table.time,
            "replacements": Jsonb(step.replacements()),
            "optional": table.declared.optional,
            "optional_columns": list(table.declared.optional_columns),
            "reason": table.declared.why,
        }


def _columns(application: Application) -> Iterator[dict[str, Any]]:
    for table in mapped_tables(application):
        for column, (treatment, reason) in table.treatments.items():
            yield {
                "table_name": str(table.name),
                "column_name": column,
                "treatment": treatment,
                "reason": reason,
            }
