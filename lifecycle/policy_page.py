"""docs/reference/retention.md, written from the policy so that the page cannot drift from it."""

from typing import Final

from lifecycle.policy import EVENT_TABLES, LOCKS, PARTITION_SCHEMA, ROTATION_LOCKS, STATE_SCHEMA, EventTable

PAGE: Final = """\
# What is kept, and for how long

Written by `lifecycle/policy_page.py` from `lifecycle/policy.py`; a test compares the two. Change the policy, not this
page, then run `lifecycle migrate`: it copies the values into `{state}.event_table_policies`, where the database
functions read them.

## Event tables

| table | time column | kept | months ahead | why |
|---|---|---|---|---|
{tables}

- Each table is partitioned by month; its partitions are tables of schema `{partitions}`. Months begin and end in UTC.
- `rotate_event_partitions()` drops a partition once its **whole** month is older than what is kept, by the date it is
  called with and by the server's clock. A row therefore lives for the time above and the rest of its month.
- Only partitions that this project made, and marked in their comment, are ever dropped. Others past retention are
  reported as a failure.
- Rows whose time lies outside every month (wrong client clocks) go to the default partition. Rotation moves those of a
  month that it makes, and deletes those past retention.
- A table that is not partitioned yet is cleaned by `run_daily_maintenance()`, row by row, by the same policy.

## Patience with locks

| what | value |
|---|---|
| one try waits for a lock at most | {timeout} ms |
| tries of a conversion step before it gives up | {tries} |
| tries of a rotation, which is one transaction | {rotation_tries} |
| pause between tries | {first_pause} s, growing to {longest_pause} s |

No reader or writer waits behind a try for longer than the first value. When all tries are used up nothing has changed,
and the failure is reported; rotation also gives up when 70 % of the caller's `statement_timeout` are over.
"""


def _row(table: EventTable) -> str:
    name = f"`{table.qualified_name}`"
    return f"| {name} | `{table.time_column}` | {table.retention} | {table.months_ahead} | {table.reason} |"


def retention_page() -> str:
    """The text of docs/reference/retention.md, in Markdown."""
    return PAGE.format(
        state=STATE_SCHEMA,
        partitions=PARTITION_SCHEMA,
        tables="\n".join(map(_row, EVENT_TABLES)),
        timeout=round(LOCKS.timeout * 1000),
        tries=LOCKS.tries,
        rotation_tries=ROTATION_LOCKS.tries,
        first_pause=LOCKS.first_pause,
        longest_pause=LOCKS.longest_pause,
    )
