"""docs/reference/access.md, written from the declaration so that the page cannot drift from it."""

from collections.abc import Iterable
from typing import Final

from lifecycle.access.declared import RELATIONS, ROUTINES
from lifecycle.access.model import ANON, AUTHENTICATED, OPS, Relation, Routine

PAGE: Final = """\
# Who may see what

Written by `lifecycle/access_policies/page.py` from `lifecycle/access_policies/declared.py`; a test compares the two.
Change the declaration, not this page, then run `lifecycle migrate`. How to read, change and extend it:
[read the access matrix](../how-to/read-the-access-matrix.md).

What is not named may not be done. `service_role` and the owner pass row-level security by and keep what they have.
Schemas `lifecycle` and `event_partitions` are closed to everybody but the owner; nobody may name what is in `private`.

Privileges marked \\* are granted where they are missing. All others are only ever taken away, never given: where the
application has not opened a table to a role, it stays closed. Where the application guards a table of the first part
by row-level security and policies of its own, those decide, and ours are not added.

## Tables and views of schema public

| object | `anon` | `authenticated` | `ops` | why |
|---|---|---|---|---|
{relations}

*By the application's policies*: what they say is accepted as it stood at the first `lifecycle migrate`; a change is
told by the check `application_access_is_accepted` until `lifecycle access accept`.

## Conditions of the policies

| rows | condition |
|---|---|
{conditions}

Helpers of schema `private` are asked once per statement, not once per row. They run as their owner, so that a policy of
`vendor_members` may ask `vendor_members`.

## Functions of schemas public and private

| function | may be executed by | why |
|---|---|---|
{routines}
"""
DASH: Final = "-"
STAR: Final = r"\*"


def access_page() -> str:
    """The page as text."""
    return PAGE.format(
        relations="\n".join(map(_relation, RELATIONS)),
        conditions="\n".join(f"| {words} | `{condition}` |" for words, condition in _conditions().items()),
        routines="\n".join(map(_routine, ROUTINES)),
    )


def _relation(relation: Relation) -> str:
    cells = (_cell(relation, role) for role in (ANON, AUTHENTICATED, OPS))
    return f"| `{relation.name}` | {' | '.join(cells)} | {relation.reason} |"


def _routine(routine: Routine) -> str:
    name = routine.name if routine.schema == "public" else routine.qualified_name
    return f"| `{name}()` | {', '.join(f'`{role}`' for role in routine.roles) or DASH} | {routine.reason} |"


def _cell(relation: Relation, role: str) -> str:
    parts = [
        f"{', '.join(access.verbs)}{STAR if access.granted else ''} {access.rows.words}"
        for access in relation.access
        if role in access.roles
    ]
    return "; ".join(parts) or DASH


def _conditions() -> dict[str, str]:
    found: Iterable[tuple[str, str]] = (
        (access.rows.words, access.rows.condition)
        for relation in RELATIONS
        for access in relation.access
        if access.rows.condition
    )
    return dict(found)
