"""database.yaml: schemas that are not the application's, and a table that could be the ledger."""

from collections.abc import Iterator
from typing import Any, Final

from lifecycle.drafting.entry import Entry, Remark
from lifecycle.drafting.survey import Column, Relation, Survey, words
from lifecycle.drafting.times import MOMENT, NOW

FILE: Final = "database"
ABOUT: Final = "What all capabilities ask about the application's database."
TEXTS: Final = ("text", "character varying")
DOCUMENTS: Final = ("json", "jsonb")
AUDITS: Final = {"audit", "audits", "ledger"}
# Of a row of the ledger: what is written about, which one, what happened.
MEANT: Final = {
    "kind": ({"entity", "type"}, {"kind"}, {"category"}, {"object", "type"}, {"resource", "type"}, {"target", "type"}),
    "subject": ({"entity", "id"}, {"subject"}, {"object", "id"}, {"resource", "id"}, {"target", "id"}, {"entity"}),
    "event": ({"event", "type"}, {"event"}, {"action"}, {"operation"}),
}


def database(found: Survey, time_zone: str) -> Iterator[Entry | Remark]:
    """The platform's schemas in force, everything else proposed."""
    yield Entry(
        FILE, "", "calendar", time_zone, ("The time zone in which people count weeks and deadlines; UTC without it.",)
    )
    if found.managed:
        yield Entry(FILE, "", "managed_schemas", list(found.managed), sure=True)
    for table in found.of_kind("r"):
        if set(words(table.name.name)) & AUDITS and (ledger := _ledger(table)):
            remark = "Each outcome of a job would be written here, too, as a row of the application's own."
            yield Entry(FILE, "", "ledger", ledger, (remark,))
            return


def _ledger(table: Relation) -> dict[str, Any] | None:
    value: dict[str, Any] = {"table": str(table.name)}
    for key, meant in MEANT.items():
        value[key] = next((c.name for words_ in meant for c in table.columns if _means(c, words_)), None)
    value["payload"] = next((c.name for c in table.columns if c.type in DOCUMENTS), None)
    value["at"] = next((c.name for c in table.columns if MOMENT.match(c.type) and NOW.search(c.default)), None)
    needed = {c.name for c in table.columns if c.not_null and not c.default and not c.generated}
    return value if None not in value.values() and needed <= set(value.values()) else None


def _means(column: Column, meant: set[str]) -> bool:
    return column.type in TEXTS and set(words(column.name)) == meant
