"""How foreign keys lead from a person to rows: kinds of keys, and what would be done with each table's rows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lifecycle.declarations.personal_data import PERSON
from lifecycle.drafting.people import SIGN_IN_ID, Person, called_after, is_a_sign_in, singular
from lifecycle.drafting.survey import SIGN_INS, Column, Reference, Relation, Survey, words
from lifecycle.names import QualifiedName

SIGN_IN: Final = "sign_in_user"
SET_NULL: Final = "n"
# Who did something to a row that is not theirs.
DOERS: Final = {
    "created", "updated", "modified", "deleted", "approved", "reviewed", "invited", "assigned", "edited", "added",
    "granted", "performed", "resolved", "verified", "uploaded", "processed", "published", "archived", "closed",
    "requested", "submitted", "changed", "sent",
}  # fmt: skip
# Ends of columns that hold somebody's id although no foreign key says so.
OWNERS: Final = {"user", "account", "profile", "customer", "member", "owner", "author", "sender", "recipient", "person"}
LONGEST_KIND: Final = 60
# Kinds of keys that are the person's own; others are of rows that go with the person.
OWN: Final = (PERSON, SIGN_IN)

End = tuple[QualifiedName, str]


@dataclass
class Ways:
    """`ends` are columns whose keys are collected, with the kind of each; `keys` where the kinds come from, in order.

    `steps` say what would be done, table by table; `guessed` are columns in them without a foreign key; `kept`
    are columns that name a person and may not be null, in rows that are not theirs.
    """

    ends: dict[End, str]
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[QualifiedName, list[dict[str, Any]]] = field(default_factory=dict)
    guessed: dict[QualifiedName, tuple[str, ...]] = field(default_factory=dict)
    kept: dict[QualifiedName, tuple[str, ...]] = field(default_factory=dict)


def ways_from(found: Survey, person: Person) -> Ways:
    """Follow the foreign keys that point at the person, at their sign-in, and at rows that go with them."""
    ways = Ways({(person.table, person.key): PERSON})
    if person.sign_in is not None:
        link = person.sign_in
        ways.ends[SIGN_INS, SIGN_IN_ID] = SIGN_IN
        source = {"table": str(link.table), "by": link.by, "key": PERSON, "take": link.column}
        ways.keys[SIGN_IN] = {"search": True, "from": [source]}
    _collect_kinds(found, person, ways)
    for table in found.of_kind("r", "p"):
        if table.name == person.table:
            continue
        steps = list(_steps(found, table, ways))
        guesses = list(_guesses(found, table, person, ways, alone=not steps))
        if steps and all(step.get("do") == "scrub" for step in steps):
            # The row stays whoever leaves it.
            guesses = [_scrub(step["by"], step["key"]) for step in guesses if not is_needed(table, step["by"])]
        if guesses:
            ways.guessed[table.name] = tuple(step["by"] for step in guesses)
        if steps or guesses:
            ways.steps[table.name] = [*steps, *guesses]
        kept = [step["by"] for step in _marked(found, table, ways) if step["do"] == "stays" and step["key"] in OWN]
        if kept:
            ways.kept[table.name] = tuple(kept)
    return ways


def _collect_kinds(found: Survey, person: Person, ways: Ways) -> None:
    """A kind for each table whose rows go with the person and are pointed at in turn, nearest first."""
    seen = {person.table}
    while True:
        reached = [
            table
            for table in found.of_kind("r", "p")
            if table.name not in seen and any(step["do"] == "delete" for step in _marked(found, table, ways))
        ]
        if not reached:
            return
        fresh: dict[End, str] = {}
        for table in reached:
            seen.add(table.name)
            by = [step for step in _marked(found, table, ways) if step["do"] == "delete"]
            pointed = {
                r.target_column
                for r in found.references_to(table.name)
                if r.table not in (table.name, *ways_tables(ways))
            }
            for column in sorted(pointed):
                kind = _kind_name(table.name, column, table.key, ways)
                sources = [
                    {"table": str(table.name), "by": s["by"], "key": s["key"], "take": column, "bound": False}
                    for s in by
                ]
                ways.keys[kind] = {"search": True, "from": sources}
                fresh[table.name, column] = kind
        ways.ends |= fresh


def ways_tables(ways: Ways) -> tuple[QualifiedName, ...]:
    """Tables whose keys are the person's own: what points at them from there leads back."""
    return tuple(table for (table, _), kind in ways.ends.items() if kind in OWN)


def _kind_name(table: QualifiedName, column: str, key: Sequence[str], ways: Ways) -> str:
    said = words(singular(table.name)) or ("row",)
    name = "_".join(said if (column,) == tuple(key) else [*said, *words(column)])[:LONGEST_KIND]
    name = name if name[:1].isalpha() else f"t_{name}"
    taken = {PERSON, *ways.keys}
    return name if name not in taken else next(f"{name}_{n}" for n in range(2, 1000) if f"{name}_{n}" not in taken)


def _marked(found: Survey, table: Relation, ways: Ways) -> Iterator[dict[str, Any]]:
    """Each foreign key that leads to a known key: `by`, `key` and what would be done."""
    for reference in found.references_of(table.name):
        end = ways.ends.get((reference.target, reference.target_column))
        if end is None:
            continue
        yield {"by": reference.column, "key": end, "do": _deed(reference)}


def _deed(reference: Reference) -> str:
    """Rows of others stay, without the person: where the column says who did something, or which row they answer.

    `stays`: the column may not be null, so a person has to decide what becomes of it.
    """
    others = is_doer(reference.column) or reference.table == reference.target
    if reference.nullable and (others or reference.deletes == SET_NULL):
        return "scrub"
    return "stays" if others else "delete"


def is_doer(column: str) -> bool:
    """Whether a column says who did something to a row, which makes the row nobody's own."""
    said = words(column)
    return bool(set(said) & DOERS) or (said[-1:] == ("by",) and "owned" not in said)


def _steps(found: Survey, table: Relation, ways: Ways) -> Iterator[dict[str, Any]]:
    marked = sorted(_marked(found, table, ways), key=lambda step: step["do"])
    goes = any(step["do"] == "delete" for step in marked)
    for step in marked:
        if step["do"] == "delete":
            yield {"by": step["by"], "key": step["key"]}
        elif step["do"] == "scrub" and not (goes and step["key"] not in OWN):
            # What only hangs on rows that go is set to null by the foreign key itself.
            yield _scrub(step["by"], step["key"])


def _scrub(column: str, kind: str) -> dict[str, Any]:
    return {"by": column, "key": kind, "do": "scrub", "set": {column: None}}


def is_needed(table: Relation, name: str) -> bool:
    """Whether a column can hold no null."""
    column = table.column(name)
    return column is None or column.not_null or column.generated


def _guesses(found: Survey, table: Relation, person: Person, ways: Ways, *, alone: bool) -> Iterator[dict[str, Any]]:
    """Columns without a foreign key that are called after the person or their sign-in and have the type of the key.

    `alone`: no foreign key leads there, so that any name of somebody is worth a look.
    """
    account = found.relations.get(person.table)
    after = called_after(found, table, account) if account is not None else None
    pointing = {reference.column for reference in found.references_of(table.name)}
    for column in table.columns:
        said = words(column.name)
        if column.name == after:
            yield {"by": column.name, "key": PERSON}
        elif column.name in pointing or (column.name in table.key and not alone):
            continue
        elif SIGN_IN in ways.keys and column.type == "uuid" and said[-2:] == ("user", "id") and is_a_sign_in(said):
            yield from _guess(column, SIGN_IN)
        elif (
            alone and after is None and column.type == person.type and _somebody(said) and column.name not in table.key
        ):
            yield from _guess(column, SIGN_IN if SIGN_IN in ways.keys and "user" in said else PERSON)


def _somebody(said: tuple[str, ...]) -> bool:
    return said[-1:] in (("id",), ("by",)) and len(said) > 1 and set(said) <= OWNERS | DOERS | {"id", "by"}


def _guess(column: Column, kind: str) -> Iterator[dict[str, Any]]:
    if not is_doer(column.name):
        yield {"by": column.name, "key": kind}
    elif not column.not_null:
        yield _scrub(column.name, kind)


def children_first(found: Survey, tables: Mapping[QualifiedName, Any]) -> list[QualifiedName]:
    """The tables, those first that point at others of them, so that no foreign key stands in the way; else by name."""
    pointing: dict[QualifiedName, set[QualifiedName]] = defaultdict(set)
    for reference in found.references:
        if reference.table in tables and reference.target in tables and reference.table != reference.target:
            pointing[reference.target].add(reference.table)
    order: list[QualifiedName] = []
    waiting = sorted(tables)
    while waiting:
        free = [name for name in waiting if not pointing[name] - set(order)]
        taken = free or waiting[:1]
        order += taken
        waiting = [name for name in waiting if name not in taken]
    return order
