"""Archives and thawed rows on the map of personal data: what is done to rows of a table is done to these, too."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from lifecycle.cold.tables import narrow_name, thawed_name
from lifecycle.declarations.application import Application
from lifecycle.declarations.archive import ArchivedTable
from lifecycle.declarations.personal_data import Limit, PersonalData, PersonalTable, Replacement, Source, Step
from lifecycle.names import QualifiedName

# Columns that the archive keeps beside a compressed one: its gzip, and the checksum of its text.
GZIP, SHA256 = "_gzip", "_sha256"
RESTORED: Final = QualifiedName("lifecycle", "restored_groups")
GROUP_KEY: Final = "group_key"
Listed = TypeVar("Listed", Source, Limit)


def with_archives(application: Application, data: PersonalData) -> Iterator[tuple[QualifiedName, PersonalTable]]:
    """The declared tables, each followed by its archive: a row that moves meanwhile is met in one or the other.

    So it is with rows that were taken out of cold files, in a table like their own, and with what views read of the
    others.
    """
    for name, table in data.tables.items():
        yield name, table
        if (events := application.event_tables.get(name)) and events.cold_after:
            thawed = {"optional": True, "time": table.time or events.time}
            yield thawed_name(name), table.model_copy(update=thawed)
            # The rows leave it before they are erased (lifecycle/cold/thaw.py): a find is a fault.
            yield narrow_name(name), table.model_copy(update=thawed)
        if declared := application.archive.root.get(name):
            yield declared.archive, _archived(table, declared)


def with_thawed_rows(application: Application, listed: Iterable[Listed]) -> Iterator[Listed]:
    """Sources or limits of a key; one that reads an event table is followed by one for its rows from cold files."""
    for entry in listed:
        yield entry
        events = application.event_tables.get(entry.table) if entry.table else None
        if entry.table and events and events.cold_after:
            yield entry.model_copy(update={"table": thawed_name(entry.table), "optional": True})


def restored_groups(application: Application, data: PersonalData) -> PersonalTable | None:
    """Groups that were brought back from an archive: the note of it names the group. None without an archive."""
    groups = {(declared.groups.table, declared.groups.id) for declared in application.archive.root.values()}
    kinds = [kind for kind, key in data.keys.items() for source in key.sources if (source.table, source.take) in groups]
    if not kinds:
        return None
    steps = tuple(Step(by=GROUP_KEY, key=kind) for kind in dict.fromkeys(kinds))
    return PersonalTable(optional=True, why="goes with the group that was brought back", steps=steps)


def _archived(table: PersonalTable, declared: ArchivedTable) -> PersonalTable:
    packed = declared.compress
    return table.model_copy(
        update={
            # The archive is made by its own capability, which may not have run yet.
            "optional": True,
            "steps": tuple(_step(step, packed) for step in table.steps),
            "exempt": {
                **table.exempt,
                **{column + GZIP: table.exempt[column] for column in packed if column in table.exempt},
            },
            "redacted": tuple(column for column in table.redacted if column not in packed),
            "clean": (*table.clean, *(column + SHA256 for column in packed if not _only_deletes(table))),
        }
    )


def _only_deletes(table: PersonalTable) -> bool:
    return bool(table.steps) and all(step.do == "delete" for step in table.steps)


def _step(step: Step, packed: tuple[str, ...]) -> Step:
    """A compressed column that a scrub replaces is lost with its gzip; a constant is kept with its checksum."""
    replaced = dict(step.set)
    for column in (column for column in packed if column in step.set):
        rule = step.set[column]
        constant = rule.value if isinstance(rule, Replacement) else None
        replaced[column] = rule if constant is not None else None
        replaced[column + GZIP] = None
        replaced[column + SHA256] = (
            None if constant is None else Replacement(value="\\x" + hashlib.sha256(constant.encode()).hexdigest())
        )
    return step.model_copy(update={"set": replaced})
