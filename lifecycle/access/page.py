"""docs/reference/access.md, written from access.yaml so that the page cannot drift from it."""

from typing import Final

from lifecycle.access.declared import declared_access
from lifecycle.access.model import ANON, AUTHENTICATED, OPS, Relation, Routine
from lifecycle.declarations.application import Application

PAGE: Final = """\
# Who may see what

Written by `lifecycle/access/page.py` from `application/access.yaml`; a test compares the two.
Change the declaration, not this page, then run `lifecycle migrate`. How to read, change and extend it:
[read the access matrix](../how-to/read-the-access-matrix.md).

What is not named of an object below may not be done; objects that are not named are left alone, and reported when the
API reaches them. `service_role` and the owner pass row-level security by and keep what they have.
Schemas `lifecycle` and `event_partitions` are closed to everybody but the owner; nobody may name what is in `private`.

Privileges marked \\* are granted where they are missing. All others are only ever taken away, never given: where the
application has not opened a table to a role, it stays closed. Where the application guards a table of the first part
by row-level security and policies of its own, those decide, and ours are not added.

## Tables and views

| object | `anon` | `authenticated` | `ops` | why |
|---|---|---|---|---|
{relations}

*By the application's policies*: what they say is accepted as it stood at the first `lifecycle migrate`; a change is
told by the check `application_access_is_accepted` until `lifecycle access accept`.

## Conditions of the policies

| rows | condition |
|---|---|
{conditions}

Helpers of schema `private` are asked once per statement, not once per row, and most run as their owner, so that a
policy of a table may ask that table.

**What these policies pin.** PostgreSQL refuses `alter column ... type` of a column that a policy names, and
`drop column` without CASCADE; with CASCADE the policy goes, and row-level security keeps the table closed. The policies
name key columns alone. Before such a migration of the application drop the policy
(`drop policy "lifecycle: ..." on ...`); afterwards run `lifecycle migrate`, which makes it again, or says which
condition no longer fits the table. Renaming the column or the table, other columns, and everything else go on as
without these policies.

## Functions

| function | may be executed by | why |
|---|---|---|
{routines}
"""
DASH: Final = "-"
STAR: Final = r"\*"


def access_page(application: Application) -> str:
    """The page as text."""
    declared = declared_access(application)
    return PAGE.format(
        relations="\n".join(map(_relation, declared.relations)),
        conditions="\n".join(f"| {words} | `{condition}` |" for words, condition in application.access.rows.items()),
        routines="\n".join(map(_routine, declared.routines)),
    )


def _relation(relation: Relation) -> str:
    cells = (_cell(relation, role) for role in (ANON, AUTHENTICATED, OPS))
    return f"| `{relation.name}` | {' | '.join(cells)} | {relation.reason} |"


def _routine(routine: Routine) -> str:
    return f"| `{routine.name}()` | {', '.join(f'`{role}`' for role in routine.roles) or DASH} | {routine.reason} |"


def _cell(relation: Relation, role: str) -> str:
    parts = [
        f"{', '.join(access.verbs)}{STAR if access.granted else ''} {access.rows.words}"
        for access in relation.access
        if role in access.roles
    ]
    return "; ".join(parts) or DASH
