"""docs/reference/partitioned-tables.md: what migrations of the application write differently, what else changes."""

from typing import Final

from lifecycle.partitions.changed import CHANGED_STATEMENTS, ChangedStatement
from lifecycle.partitions.observed import DUMPED, OBSERVED

EXAMPLE: Final = {
    "table": "app.orders",
    "schema": "app",
    "time": "at",
    "key": "id",
    "column": "city",
    "index": "by_city",
    "own_index": "by_city",
    "table_of_keys": "app.people (id)",
}
PAGE: Final = """\
# Migrations of the application on a partitioned table

They run as before, with the exceptions of PostgreSQL's below. The plan names them before the conversion; a test runs
each, and everything else that migrations are made of, on a converted table and on a plain one. `\\gexec` is psql's: run
what the query returns.

A column that is renamed, a table that is renamed, moved to another schema or dropped: the migration runs. When that was
the declared table or its time column, rotation says that it does not exist and touches nothing, until
`event_tables.yaml` names the new one and `lifecycle migrate` has run.

{statements}

## What an application that looks closely sees otherwise

`tests/test_conversion_observed.py` does some fifty things to a plain table and to a converted one (every kind of
statement, trigger and error, cursors, locks, COPY, MERGE) and compares what comes back and which triggers fire. This
differs, and nothing else:

| what | afterwards |
|---|---|
{observed}

Also: the table has another number (OID), so `pg_stat_statements` counts its statements anew, and a session that keeps
the old number in a variable finds the old table gone.

## What pg_dump prints otherwise

`tests/test_conversion_dumped.py` dumps a table with everything on it before and after and compares entry by entry,
partitions under the table's name. This differs, and nothing else:

{dumped}
"""


def _entry(changed: ChangedStatement) -> str:
    until = f" before PostgreSQL {changed.until}" if changed.until else ""
    head = f"## {changed.what}\n\nFails with SQLSTATE {' or '.join(changed.errors)}{until}."
    if not changed.instead:
        return (
            f"{head} Nothing replaces it while the table is partitioned: turn it back into a plain table\n"
            "([undo](../how-to/undo.md)), migrate, convert again.\n"
        )
    lines = (text.format(**EXAMPLE) + ("" if text.endswith("gexec") else ";") for text in changed.instead)
    if changed.command:
        command = changed.command.format(**EXAMPLE)
        head += f" Run `{command}`,\nwhich goes on where it was when it is stopped. With psql alone:"
    else:
        head += " Write:"
    return "\n".join([f"{head}\n", "```sql", *lines, "```\n"])


def partitioned_page() -> str:
    """The text of the page, in Markdown."""
    return PAGE.format(
        statements="\n".join(map(_entry, CHANGED_STATEMENTS)).rstrip(),
        observed="\n".join(f"| {what} | {afterwards} |" for what, afterwards in OBSERVED.items()),
        dumped="\n".join(f"- {each}" for each in DUMPED),
    )
