"""docs/reference/database-objects.md, made from the SQL of each capability: tables of revisions, functions of files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lifecycle.migrating.capabilities import CAPABILITIES
from lifecycle.migrating.capability import Capability
from lifecycle.migrating.exceptions import REASONS
from orchestration.docs.tables import table

HEAD: Final = """\
# Database objects

Written by `lifecycle docs` from the SQL of each capability; do not edit. `lifecycle migrate` makes what is declared.
Tables lie in schema `lifecycle`, partitions in `event_partitions`, helpers of policies in `private`; none of these is
exposed. Tables `kept_...` hold what the kept view of that name answers. Triggers on tables of the application are named
`lifecycle_...`, policies `lifecycle: ...`, the comments of indexes begin with `lifecycle: `. EXECUTE is revoked from
PUBLIC, `anon`, `authenticated` and `service_role`, but where a role is named. What jobs write into the application's
ledger: [rows in the ledger](ledger-rows.md).
"""
HELD: Final = """
## What holds an object of the application

Nothing of ours, but for these reasons; a test reads pg_depend.
"""
NAMED_BY_THE_APPLICATION: Final = """
## Named after objects of the application

| object | made by | what it is |
| --- | --- | --- |
| `lifecycle.kept_<view>` | `views` | the rows of a kept view, which answers from it |
| `lifecycle.kept_<view>_history` | `views` | what it said at each refresh, where a `history` is declared |
| `archive`, `recent_view`, `read_function` of `archive.yaml` | `archive` | the archive of a table, its rows that are \
not archived, what is archived of a group; each where it is declared |
| `lifecycle.<table>_capture`, `lifecycle.capture_<table>()` | `partitions` | changes noted while a table is converted |
| `event_partitions.<table>_YYYY_MM` | `partitions` | one month in UTC; comment `lifecycle:month of <schema>.<table>` |
| `event_partitions.<table>_default` | `partitions` | rows of no month; comment `lifecycle:default of ...` |
| `event_partitions.<table>_before_YYYY_MM` | `partitions` | what was past retention when the table was converted; \
comment `lifecycle:before of ...` |
| `event_partitions.<table>_legacy` | `partitions` | the old table, until its split; comment `lifecycle:legacy of ...` |
| role `ops` | `access` | for a token with the claim `role=ops` |

Only partitions with such a comment are ever dropped.
[How partitions are named](../explanation/rotation.md#how-partitions-are-named). Functions of the application's own
stand in `application/*.sql`.
"""
VERSIONS: Final = Path(__file__).parents[2] / "migrations" / "versions"
COMMENT: Final = re.compile(r"comment on table lifecycle\.(\w+) is '((?:[^']|'')*)'")
FUNCTION: Final = re.compile(
    r"((?:^--.*\n)*)create or replace (?:function|procedure) ([\w.]+)\s*\(((?:[^()]|\([^()]*\))*)\)", re.MULTILINE
)


def _tables(capability: Capability) -> Iterator[tuple[str, str]]:
    for file in sorted(VERSIONS.glob(f"{capability.name}_[0-9]*.sql")):
        if not file.name.endswith(".downgrade.sql"):
            for name, told in COMMENT.findall(file.read_text(encoding="utf-8")):
                yield f"`{name}`", told.replace("''", "'")


def _functions(capability: Capability) -> Iterator[tuple[str, str, str]]:
    for file in capability.files:
        for told, name, arguments in FUNCTION.findall((capability.folder / file).read_text(encoding="utf-8")):
            words = " ".join(line.removeprefix("--").strip() for line in told.splitlines())
            roles = next(
                (roles for signature, roles in capability.executors.items() if signature.partition("(")[0] == name), ()
            )
            yield f"`{name}({' '.join(arguments.split())})`", words, ", ".join(f"`{role}`" for role in roles)


def database_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for capability in CAPABILITIES:
        parts.append(f"\n## {capability.name}\n")
        if tables := list(_tables(capability)):
            parts.append("\n" + table(("table", "what it holds"), tables))
        if functions := list(_functions(capability)):
            parts.append("\n" + table(("function", "what it does", "for"), functions))
    held = [(reason.kind, reason.why, reason.recipe) for reason in REASONS]
    return "".join(
        [*parts, NAMED_BY_THE_APPLICATION, HELD, "\n", table(("what", "why", "before such a migration"), held)]
    )
