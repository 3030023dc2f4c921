"""docs/reference/partitioned-tables.md: what migrations of the application write differently after a conversion."""

from typing import Final

from lifecycle.partitions.changed import CHANGED_STATEMENTS, ChangedStatement

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
    return "\n".join([f"{head} Write:\n", "```sql", *lines, "```\n"])


def partitioned_page() -> str:
    """The text of the page, in Markdown."""
    return PAGE.format(statements="\n".join(map(_entry, CHANGED_STATEMENTS)).rstrip())
