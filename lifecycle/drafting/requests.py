"""Where people ask to be erased: the application's table, or one of ours."""

from typing import Any, Final

from lifecycle.database import Connection, rows
from lifecycle.drafting.people import Person
from lifecycle.drafting.survey import Relation, Survey, words

ERASURE: Final = {"deletion", "deletions", "delete", "erasure", "erasures", "gdpr", "dsr", "removal", "forget"}
# Names that are as clear only as a whole.
ASKING: Final = ({"data", "request"}, {"data", "requests"}, {"privacy", "request"}, {"privacy", "requests"})
# What a status may say, by parts of its words, for each word of the declaration.
MEANT: Final = {
    "pending": ("pend", "ask", "open", "new", "request", "submit", "wait", "queue"),
    "processing": ("process", "work", "progress", "run"),
    "completed": ("complete", "done", "finish", "fulfil", "erased", "deleted"),
    "failed": ("fail", "stuck", "error", "reject"),
}
# Of a column with an enumeration or a check: every word that may stand there.
ALLOWED: Final = """
select coalesce(
    (select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum e where e.enumtypid = a.atttypid),
    (select array_agg(m[1]) from pg_constraint k, regexp_matches(pg_get_constraintdef(k.oid), '''([^'']+)''', 'g') m
      where k.conrelid = a.attrelid and k.contype = 'c' and k.conkey = array[a.attnum]), '{}')
  from pg_attribute a where a.attrelid = %s and a.attname = %s
"""
# Keys of the declaration, and the words of a column's name that mean them; the first table that has all needed ones.
NEEDED: Final = ("person", "status", "requested_at")
TIMES: Final = {
    "requested_at": (("requested", "at"), ("asked", "at"), ("created", "at"), ("submitted", "at"), ("request", "date")),
    "processed_at": (("processed", "at"),),
    "completed_at": (("completed", "at"), ("deleted", "at"), ("done", "at"), ("finished", "at")),
}
TEXTS: Final = {
    "status": (("status",), ("state",)),
    "processed_by": (("processed", "by"), ("handled", "by")),
    "notes": (("notes",), ("note",)),
    "reason": (("reason",), ("request", "reason"), ("deletion", "reason")),
}
DEADLINE: Final = {"deadline": "1 month"}
OURS: Final = (
    "No table of deletion requests was found, so they stand in one of ours, which `lifecycle erasure request` and the "
    "function request_erasure() write."
)


def requests_of(conn: Connection, found: Survey, person: Person) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The value of `requests`, and remarks above it."""
    for table in found.of_kind("r"):
        said = set(words(table.name.name))
        called = bool(said & ERASURE) or any(meant <= said for meant in ASKING)
        if called and (declared := _declared(found, table, person)):
            return declared | _status_words(conn, table, declared["status"]), ()
    return dict(DEADLINE), (OURS,)


def _status_words(conn: Connection, table: Relation, status: str) -> dict[str, Any]:
    """The application's words where they are others than ours and all of them can be told apart."""
    allowed = rows(conn, ALLOWED, (table.oid, status))[0][0]
    found = {
        word: next((said for said in allowed if any(part in said.lower() for part in parts)), None)
        for word, parts in MEANT.items()
    }
    if not allowed or None in found.values() or len(set(found.values())) < len(found):
        return {}
    return {} if all(word == said for word, said in found.items()) else {"words": found}


def _declared(found: Survey, table: Relation, person: Person) -> dict[str, Any] | None:
    pointing = {reference.column for reference in found.references_of(table.name) if reference.target == person.table}
    named = {words(column.name): column for column in table.columns}
    by = next((column.name for column in table.columns if column.name in pointing), None)
    if by is None:
        by = next((column.name for name, column in named.items() if name[-1:] == ("id",) and len(name) > 1), None)
    value: dict[str, Any] = {
        "table": str(table.name),
        "id": table.key[0] if len(table.key) == 1 else None,
        "person": by,
    }
    for key, meant in {**TEXTS, **TIMES}.items():
        column = next((named[name] for name in meant if name in named), None)
        value[key] = column.name if column is not None else None
    if value["id"] is None or any(value[key] is None for key in NEEDED):
        return None
    order = ("table", "id", "person", "status", "requested_at", "processed_at", "completed_at", "processed_by", "notes")
    return {key: value[key] for key in (*order, "reason") if value[key] is not None} | DEADLINE
