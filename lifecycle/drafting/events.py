"""event_tables.yaml: tables that only grow with time, with what the conversion would refuse."""

from collections.abc import Iterator
from typing import Final

from lifecycle.database import Connection
from lifecycle.drafting.entry import Entry, Remark
from lifecycle.drafting.people import singular
from lifecycle.drafting.survey import Column, Relation, Survey, words
from lifecycle.drafting.times import MOMENT, arrival, is_rewritten, size_of
from lifecycle.partitions.catalog import table_structure
from lifecycle.partitions.refusals import refusals
from lifecycle.partitions.tables import UTC_ZONE, MonthlyTable

FILE: Final = "event_tables"
ABOUT: Final = (
    "Tables that grow with time, to be partitioned by month. `keep` is a placeholder in every line: after it a month "
    "is dropped, with all of its rows."
)
KEEP: Final = "24 months"
# In the singular.
EVENTS: Final = {
    "event", "log", "history", "audit", "trail", "metric", "message", "click", "visit", "view", "pageview",
    "impression", "replay", "tracking", "telemetry", "notification", "search", "query", "usage", "snapshot", "reading",
    "measurement", "attempt", "ping", "heartbeat", "transition", "delivery", "activity", "trace", "span", "login",
}  # fmt: skip
# A table of this size that only grows is worth a look whatever it is called.
MANY_ROWS: Final = 100_000
MOST_REASONS: Final = 4


def event_tables(conn: Connection, found: Survey) -> Iterator[Entry | Remark]:
    """A proposal for each, by name; changes nothing."""
    named = False
    for table in found.of_kind("r"):
        time = arrival(table)
        if time is None or is_rewritten(table) or not _is_event_like(table, time):
            continue
        named = True
        yield _entry(conn, table, time)
    for table in found.of_kind("p"):
        yield Remark(FILE, "", f"{table.name} is partitioned already; what made its partitions goes on to rotate them.")
    if not named:
        yield Remark(FILE, "", "No table looks as if it only grew with time.")


def _is_event_like(table: Relation, time: Column) -> bool:
    said = words(singular(table.name.name))
    by_name = bool(EVENTS & set(said[-1:])) or bool({"event", "events"} & set(said))
    arrives = time.not_null or bool(time.default)
    return arrives and (by_name or (table.rows or 0) >= MANY_ROWS)


def _entry(conn: Connection, table: Relation, time: Column) -> Entry:
    structure = table_structure(conn, str(table.name))
    zone = UTC_ZONE if MOMENT.match(time.type) is None and time.type != "date" else None
    reasons = refusals(conn, MonthlyTable(table.name, time.name, KEEP, zone=zone), structure) if structure else []
    remarks = [f"{table.name}: {size_of(table, time)}."]
    remarks += [f"Refused as it is: {reason}." for reason in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        remarks.append(f"And {len(reasons) - MOST_REASONS} more reasons: `lifecycle plan partitions`.")
    if zone:
        remarks.append(f"{time.name} has no time zone: `zone` is that of the clock that writes it, UTC is a guess.")
    value = {"time": time.name} | ({"zone": zone} if zone else {}) | {"keep": KEEP}
    return Entry(FILE, "", str(table.name), value, tuple(remarks))
