"""docs/reference/personal-data-map.md, written from the map so that the page cannot drift from it."""

from itertools import groupby
from typing import Final

from lifecycle.erasures.data_map import Action, Step, Table, Treatment
from lifecycle.erasures.own_tables import DATA_MAP
from lifecycle.policy import ERASURE, STATE_SCHEMA

PAGE: Final = """\
# Map of personal data

Written by `lifecycle/erasures/map_page.py` from `activity_tables.py`, `person_tables.py` and `own_tables.py` beside it;
a test compares the two. Change the map, not this page, then run
`lifecycle migrate`: it copies the map into `{state}.erasure_steps` and `{state}.personal_data_columns`, where the
database functions read it. [How an erasure works](../explanation/erasure.md).

A column that could hold an id or a text and is not on the map fails the check `personal_data_map_is_complete`. The
search after an erasure looks into every such column of every table and materialized view, whatever the map says of
it.

## What is done to a person's rows, in this order

| table | rows found by | action | why |
|---|---|---|---|
{steps}

What a row is found by is collected before the first row goes, and kept until the receipt is written. A *web session
of the person's own* is one in which nobody else was seen who stays. Bookings are found by the account, and, where
they have none, by an e-mail address that nobody else uses.

## What columns mean where a row stays

| table | column | treatment | why |
|---|---|---|---|
{columns}

| treatment | a find after the erasure |
|---|---|
| cleared | fails the request: the column should have been replaced |
| redacted | is taken out: others' free form, of which exactly the person's ids and addresses give way to a word |
| exempt | may stay, for the reason given; counted in the receipt |
| clean | fails the request: the column should hold nothing of a person |

Not listed again: tables all of whose rows of a person are deleted, and this project's own settings and ledgers in
schema `{state}`; a find in them fails the request. Roll-ups, statistics and materialized views are made anew before
the search.

## Policy

| what | value |
|---|---|
| grace: a request may be cancelled before it begins | {grace} |
| deadline | {deadline} after the request |
| lease: a worker not heard of for so long has lost its requests | {lease} |
| requests that share one search | {batch_size} |
| requests in one transaction | {chunk_size} |
| first pause after a failure, doubled up to | {first_pause}, {longest_pause} |
| tries until the request says `failed` (it is tried further) | {tries_until_failed} |
| how long late data of a closed session is looked for | {late_window} |
| schemas that are not searched: Supabase's own | {managed_schemas} |
"""
KEYS: Final = {
    "web_session": "web sessions of the person",
    "own_web_session": "web sessions of the person's own",
    "form_submission": "bookings of the person",
    "voucher": "vouchers of those bookings",
    "audit_subject": "ledger rows about the person",
    "audit_performer": "ledger rows of what the person did",
    "generated_activity": "made in the person's chats, saved by nobody else",
}
# Of the treatments those that a person asks about. The others say that nothing may be found, for whole tables.
SHOWN: Final = (Treatment.cleared, Treatment.redacted, Treatment.exempt, Treatment.clean)


def _action(step: Step) -> str:
    if step.action is Action.delete:
        return "deleted"
    return "replaced: " + ", ".join(f"`{column}`" for column in step.replacements)


def _step(table: Table, step: Step) -> str:
    key = KEYS.get(step.key.value, step.key.value.replace("_", " "))
    only = f", `{step.unowned}` empty" if step.unowned else ""
    return f"| `{table.qualified_name}` | `{step.key_column}`: {key}{only} | {_action(step)} | {table.reason} |"


def _columns(table: Table) -> list[str]:
    """A row for each run of columns with the same treatment and reason."""
    shown = [(column, found) for column, found in table.treatments().items() if found[0] in SHOWN]
    if table.schema == STATE_SCHEMA:
        shown = [(column, found) for column, found in shown if found[0] is not Treatment.clean]
    return [
        f"| `{table.qualified_name}` | {', '.join(f'`{column}`' for column, _ in group)} | {treatment} | {reason} |"
        for (treatment, reason), group in groupby(sorted(shown, key=lambda item: item[1]), key=lambda item: item[1])
    ]


def personal_data_page() -> str:
    """The text of docs/reference/personal-data-map.md, in Markdown."""
    values = {name: value for name, value in vars(ERASURE).items() if name not in ("managed_schemas", "grace")}
    return PAGE.format(
        state=STATE_SCHEMA,
        steps="\n".join(_step(table, step) for table in DATA_MAP for step in table.steps),
        columns="\n".join(row for table in DATA_MAP for row in _columns(table)),
        grace="none" if ERASURE.grace == "0" else ERASURE.grace,
        managed_schemas=", ".join(f"`{schema}`" for schema in ERASURE.managed_schemas),
        **values,
    )
