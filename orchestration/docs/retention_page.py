"""docs/reference/retention.md: what is kept, and for how long, as the declarations say it."""

from collections.abc import Iterator
from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.locks import LOCKS
from lifecycle.partitions.capability import ROTATION_LOCKS
from lifecycle.partitions.tables import PARTITION_SCHEMA, monthly_tables
from orchestration.docs.tables import table

PAGE: Final = """\
# What is kept, and for how long

Written by `lifecycle docs` from the declarations; do not edit. Change the YAML file that a section names, then run
`lifecycle migrate`: it makes the policy tables of schema `lifecycle` equal to it, where database functions read them.

{sections}\
## Patience with locks

{locks}
No reader or writer waits behind a try for longer than the first value. When all tries are used up nothing has changed,
and the failure is reported; rotation also gives up when 70 % of the caller's `statement_timeout` are over.
"""
EVENT_TABLES: Final = """\
## Event tables

From `event_tables.yaml`.

{tables}
- Each table is partitioned by month; its partitions are tables of schema `{schema}`. Months begin and end in UTC.
- `rotate_event_partitions()` drops a partition once its **whole** month is older than what is kept, by the date it is
  called with and by the server's clock. A row therefore lives for the time above and the rest of its month.
- Only partitions that this project made, and marked in their comment, are ever dropped. Others past retention are
  reported as a failure.
- Rows whose time lies outside every month (wrong client clocks) go to the default partition. Rotation moves those of a
  month that it makes, and deletes those past retention.
- A month older than what stands under "in files after" leaves the database for
  [files](../explanation/cold-months.md), where it is kept for the rest of the time.
- A table that leaves the file is never acted on again: it loses no month.

"""
ARCHIVE: Final = """\
## Archived rows

From `archive.yaml`. Rows move whole, the named columns compressed where that is smaller.
[How](../explanation/chat-archive.md).

{tables}
"""
EXPIRY: Final = """\
## Deleted rows

From `expiry.yaml`. A row goes once every one of its moments is past; a moment that is null does not count.

{tables}
"""
INDEXES: Final = """\
## Hot queries

From `indexes.yaml`. Built where no other index serves: [hot-query indexes](../how-to/hot-query-indexes.md).

{tables}
"""


def _event_tables(application: Application) -> Iterator[str]:
    if application.event_tables:
        rows = [
            (
                *(f"`{each.qualified_name}`", f"`{each.time_column}`", each.cold_after or "", each.retention),
                *(each.months_ahead, each.reason),
            )
            for each in monthly_tables(application)
        ]
        columns = ("table", "time column", "in files after", "kept", "months ahead", "why")
        yield EVENT_TABLES.format(tables=table(columns, rows), schema=PARTITION_SCHEMA)


def _archive(application: Application) -> Iterator[str]:
    if application.archived_tables:
        rows = [
            (f"`{name}`", declared.after, f"`{declared.archive}`", ", ".join(declared.compress), declared.why)
            for name, declared in application.archived_tables.items()
        ]
        yield ARCHIVE.format(tables=table(("table", "stays", "then in", "compressed", "why"), rows))


def _expiry(application: Application) -> Iterator[str]:
    if application.expiring_rows:
        rows = [
            (f"`{name}`", f"`{job}`", declared.keep, ", ".join(each.time), each.why or declared.why)
            for job, declared in application.expiring_rows.items()
            for name, each in declared.tables.items()
        ]
        yield EXPIRY.format(tables=table(("table", "job", "kept", "moments", "why"), rows))


def _indexes(application: Application) -> Iterator[str]:
    if application.indexes.indexes:
        rows = []
        for name, index in application.indexes.indexes.items():
            keys = index.keys.format(extension="extensions")
            method = "" if index.method == "btree" else f" using {index.method}"
            where = f" where {index.predicate}" if index.predicate else ""
            rows.append((f"`{name}`", f"`{index.table}{method} ({keys}){where}`", index.why))
        yield INDEXES.format(tables=table(("index", "on", "why"), rows))


def _locks() -> str:
    return table(
        ("what", "value"),
        (
            ("one try waits for a lock at most", f"{LOCKS.timeout * 1000:.0f} ms"),
            ("tries of a conversion step before it gives up", LOCKS.tries),
            ("tries of a rotation, which is one transaction", ROTATION_LOCKS.tries),
            ("pause between tries", f"{LOCKS.first_pause} s, growing to {LOCKS.longest_pause} s"),
        ),
    )


def retention_page(application: Application) -> str:
    """The text of the page, in Markdown."""
    sections = (
        *_event_tables(application),
        *_archive(application),
        *_expiry(application),
        *_indexes(application),
    )
    return PAGE.format(sections="".join(sections), locks=_locks())
