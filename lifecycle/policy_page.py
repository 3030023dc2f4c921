"""docs/reference/retention.md, written from the policy so that the page cannot drift from it."""

from typing import Final

from lifecycle.indexes.extensions import EXTENSIONS_SCHEMA
from lifecycle.indexes.policy import HOT_QUERY_INDEXES, Index
from lifecycle.policy import (
    CALENDAR,
    CHAT_ARCHIVE,
    DELETION_DEADLINE,
    EVENT_TABLES,
    LOCKS,
    PARTITION_SCHEMA,
    ROTATION_LOCKS,
    STATE_SCHEMA,
    VOUCHERS,
    EventTable,
)

PAGE: Final = """\
# What is kept, and for how long

Written by `lifecycle/policy_page.py` from `lifecycle/policy.py`; a test compares the two. Change the policy, not this
page, then run `lifecycle migrate`: it copies the values into tables of schema `{state}` (`event_table_policies`,
`retention_policies`), where the database functions read them.

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

## Hot queries

| index of the application's own queries | on | why |
|---|---|---|
{hot_indexes}

Built where no other index serves: [hot-query indexes](../how-to/hot-query-indexes.md).

## Chat messages and vouchers

| what | kept | why |
|---|---|---|
| text of `public.chat_messages` | {chat_days} days, then as gzip in `chat_messages_archive` | {chat_reason} |
| `public.vouchers`, `public.voucher_redemptions` | {voucher_kept}, then deleted | {voucher_reason} |

- A run archives at most {chat_limit} messages, {chat_batch} or {chat_bytes} MB of text in one transaction. Vouchers and
  redemptions go {voucher_batch} at a time.
- A message that is still there {grace_days} day after its time fails the check `nothing_overdue`. A session that
  somebody brought back stays out of the archive for {restored_days} days, unless they say otherwise.
- A voucher is past retention when its end (`valid_until`), its making and its last redemption all are. One without an
  end counts from its making. A redemption goes by its own time, also when its voucher is kept.

[How messages are archived](../explanation/chat-archive.md). Both policies stand in `{state}.retention_policies`.

## Deletion requests

A request is due {deadline} after `requested_at`, by the calendar of {calendar}; one whose data came back is due as long
after that was found. The weekly review and the check `no_overdue_deletions` count what is due. What is erased, what
stays and why: [map of personal data](personal-data-map.md).

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


def _index(index: Index) -> str:
    keys = index.keys.format(extension=EXTENSIONS_SCHEMA)
    method = "" if index.method == "btree" else f" using {index.method}"
    where = f" where {index.predicate}" if index.predicate else ""
    return f"| `{index.name}` | `{index.qualified_table}{method} ({keys}){where}` | {index.reason} |"


def retention_page() -> str:
    """The text of docs/reference/retention.md, in Markdown."""
    return PAGE.format(
        state=STATE_SCHEMA,
        partitions=PARTITION_SCHEMA,
        tables="\n".join(map(_row, EVENT_TABLES)),
        hot_indexes="\n".join(map(_index, HOT_QUERY_INDEXES)),
        chat_days=CHAT_ARCHIVE.keep_for.days,
        chat_reason=CHAT_ARCHIVE.reason,
        chat_batch=f"{CHAT_ARCHIVE.batch_size:,}",
        chat_bytes=CHAT_ARCHIVE.batch_bytes // 1_000_000,
        chat_limit=f"{CHAT_ARCHIVE.run_limit:,}",
        grace_days=CHAT_ARCHIVE.grace.days,
        restored_days=CHAT_ARCHIVE.restored_for.days,
        voucher_kept=VOUCHERS.keep_for,
        voucher_reason=VOUCHERS.reason,
        voucher_batch=f"{VOUCHERS.batch_size:,}",
        deadline=DELETION_DEADLINE,
        calendar=CALENDAR,
        timeout=round(LOCKS.timeout * 1000),
        tries=LOCKS.tries,
        rotation_tries=ROTATION_LOCKS.tries,
        first_pause=LOCKS.first_pause,
        longest_pause=LOCKS.longest_pause,
    )
