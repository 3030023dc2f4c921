"""archive.yaml: grouped, time-stamped tables whose long texts nobody reads once they are old."""

from collections.abc import Iterator
from typing import Any, Final

from lifecycle.drafting.entry import Entry, Remark
from lifecycle.drafting.people import find_person
from lifecycle.drafting.survey import SIGN_INS, Column, Reference, Relation, Survey, words
from lifecycle.drafting.times import arrival, is_rewritten, size_of
from lifecycle.erasures.check import FREE_FORM
from lifecycle.names import LONGEST, QualifiedName

FILE: Final = "archive"
ABOUT: Final = (
    "Rows that move to an archive beside their table once they are old: each whole, its long texts as gzip. They are "
    "read and brought back by the group."
)
AFTER: Final = "90 days"
TEXTS: Final = {"content", "contents", "body", "text", "message", "transcript", "prompt", "response", "payload", "html"}
CONVERSATIONS: Final = {
    "message",
    "messages",
    "comment",
    "comments",
    "transcript",
    "transcripts",
    "turns",
    "note",
    "notes",
}
# On average; shorter ones gain nothing by gzip.
LONG_TEXT: Final = 200
# In all rows together, where the table's name says nothing.
MUCH_TEXT: Final = 10_000_000
SUFFIX: Final = "_archive"


def archives(found: Survey) -> Iterator[Entry | Remark]:
    """A proposal for each such table, by name."""
    named, person = False, find_person(found)
    people = {SIGN_INS} | ({person.table} if person else set())
    for table in found.of_kind("r"):
        time, group = arrival(table), _group(found, table, people)
        texts = _long_texts(table)
        if time is None or group is None or not texts or len(table.key) != 1 or is_rewritten(table):
            continue
        named = True
        yield _entry(table, time, group, texts)
    if not named:
        yield Remark(FILE, "", "No table with long texts, a time and a group was found.")


def _group(found: Survey, table: Relation, people: set[QualifiedName]) -> Reference | None:
    """The table whose rows these belong to, which is not the person's."""
    owned = [r for r in found.references_of(table.name) if not r.nullable and r.target not in {*people, table.name}]
    return min(owned, key=lambda r: (r.deletes != "c", r.column), default=None)


def _long_texts(table: Relation) -> list[Column]:
    """By the planner's statistics; where there are none, by their names in a table of that name."""
    free = [column for column in table.columns if column.type in FREE_FORM and not column.generated]
    called = bool(set(words(table.name.name)) & CONVERSATIONS)
    if any(column.width is not None for column in table.columns):
        long = [column for column in free if (column.width or 0) >= LONG_TEXT]
        return long if called or (table.rows or 0) * sum(column.width or 0 for column in long) >= MUCH_TEXT else []
    return [column for column in free if set(words(column.name)) & TEXTS] if called else []


def _entry(table: Relation, time: Column, group: Reference, texts: list[Column]) -> Entry:
    archive = QualifiedName(table.name.schema, table.name.name.encode()[: LONGEST - len(SUFFIX)].decode() + SUFFIX)
    value: dict[str, Any] = {
        "id": table.key[0],
        "group": group.column,
        "groups": {"table": str(group.target), "id": group.target_column},
        "time": time.name,
        "after": AFTER,
        "compress": [column.name for column in texts],
        "archive": str(archive),
    }
    remark = f"{table.name}: {size_of(table, time)}."
    return Entry(FILE, "", str(table.name), value, (remark,))
