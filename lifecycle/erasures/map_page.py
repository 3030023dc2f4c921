"""docs/reference/personal-data-map.md, written from personal_data.yaml so that the page cannot drift from it."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from lifecycle.declarations.application import Application
from lifecycle.declarations.personal_data import Key, Limit, PersonalData, Source, Step
from lifecycle.erasures.data_map import MappedTable, mapped_tables
from lifecycle.erasures.policy import ERASURE

PAGE: Final = """\
# Map of personal data

Written by `lifecycle/erasures/map_page.py` from `personal_data.yaml` of the declarations; a test compares the two.
Change the declaration, not this page, then run `lifecycle migrate`: it copies the map into `lifecycle.erasure_steps`,
`lifecycle.erasure_key_sources` and `lifecycle.personal_data_columns`, where the database functions read it.
[How an erasure works](../explanation/erasure.md).

A column that could hold an id or a text and is not on the map fails the check `personal_data_map_is_complete`. The
search after an erasure looks into every such column of every table and materialized view, whatever the map says of
it.

## By what rows are found

| kind of key | taken from | not followed when | why |
|---|---|---|---|
{keys}

What a client typed or chose is a claim. A name is followed when it has the form above, an id into columns of ids, and
into texts when it is nothing else's. [What that means](../explanation/erasure.md#bound-and-claimed-keys).
Keys are collected before the first row goes, and kept until the receipt is written.

## What is done to a person's rows, in this order

| table | rows found by | action | why |
|---|---|---|---|
{steps}

## What columns mean where a row stays

| table | column | treatment | why |
|---|---|---|---|
{columns}

| treatment | a find after the erasure |
|---|---|
| cleared | fails the request: the column should have been replaced |
| redacted | is taken out: others' free form, of which exactly the person's ids and addresses give way to a word |
| exempt | may stay, for the reason given; counted in the receipt |
| chosen | is told in the receipt and fails nobody: others chose the value |
| clean | fails the request: the column should hold nothing of a person |

A table's own key, and one that refers to such a key, are like `chosen` where they name no person.

Not listed again: tables all of whose rows of a person are deleted, and this project's own settings and ledgers in
schema `lifecycle`; a find in them fails the request. Materialized views that read what was erased, or in which the
search finds somebody, are made anew.

## Policy

| what | value |
|---|---|
| grace: a request may be cancelled before it begins | {grace} |
| deadline | {deadline} after the request, by the calendar of {calendar} |
| lease: a worker not heard of for so long has lost its requests | {lease} |
| requests that share one search | {batch_size} |
| requests in one transaction | {chunk_size} |
| rows beyond the person's own that a request may touch before somebody confirms it | {reach} |
| first pause after a failure, doubled up to | {first_pause}, {longest_pause} |
| tries until the request says `failed` (it is tried further) | {tries_until_failed} |
| how long late data of a closed session is looked for | {late_window} |
| schemas that are not searched: the platform's own | {managed_schemas} |
"""
# Of the treatments those that a person asks about. The others say that nothing may be found, for whole tables.
SHOWN: Final = ("cleared", "redacted", "exempt", "chosen", "clean")


def _source(source: Source) -> str:
    kinds = " or ".join(kind.replace("_", " ") for kind in source.key)
    if source.table is None:
        return f"every {kinds}"
    conditions = [f"`{source.given}` given"] if source.given else []
    conditions += [f"`{source.unowned}` empty"] if source.unowned else []
    conditions += [] if source.bound else ["claimed"]
    only = f" ({', '.join(conditions)})" if conditions else ""
    return f"`{source.table}.{source.take}` by `{source.by}`: {kinds}{only}"


def _limit(limit: Limit) -> str:
    if limit.function is not None:
        return f"`{limit.function}()` says so"
    who = f"more than {limit.more_than} people have" if limit.more_than else "somebody who stays has"
    return f"{who} it in `{limit.table}.{limit.column}`"


def _form(key: Key) -> Iterator[str]:
    if key.matches is not None:
        yield "it is not of the form `" + key.matches.replace("|", "\\|") + "`"


def _key(kind: str, key: Key) -> str:
    sources, limits = "; ".join(map(_source, key.sources)), "; ".join((*_form(key), *map(_limit, key.unless)))
    return f"| {kind.replace('_', ' ')} | {sources} | {limits} | {key.why} |"


def _action(step: Step) -> str:
    if step.do == "delete":
        return "deleted"
    return "replaced: " + ", ".join(f"`{column}`" for column in step.set)


def _step(table: MappedTable, step: Step) -> str:
    only = f", `{step.unowned}` empty" if step.unowned else ""
    found = f"`{step.by}`: {step.key.replace('_', ' ')}{only}"
    return f"| `{table.name}` | {found} | {_action(step)} | {table.declared.why} |"


def _columns(table: MappedTable) -> Iterator[str]:
    """A row for each run of columns with the same treatment and reason."""
    shown = sorted((found, column) for column, found in table.treatments.items() if found[0] in SHOWN)
    for (treatment, reason), group in groupby(shown, key=lambda item: item[0]):
        columns = ", ".join(f"`{column}`" for _, column in group)
        yield f"| `{table.name}` | {columns} | {treatment} | {reason} |"


def personal_data_page(application: Application) -> str:
    """The text of docs/reference/personal-data-map.md, in Markdown; "" when no personal data is declared."""
    data: PersonalData | None = application.personal_data
    if data is None:
        return ""
    tables = tuple(mapped_tables(application))
    return PAGE.format(
        keys="\n".join(_key(kind, key) for kind, key in data.keys.items()),
        steps="\n".join(_step(table, step) for table in tables for step in table.steps),
        columns="\n".join(row for table in tables for row in _columns(table)),
        grace=data.requests.grace or "none",
        deadline=data.requests.deadline,
        late_window=data.requests.late_window,
        calendar=application.database.calendar,
        managed_schemas=", ".join(f"`{schema}`" for schema in application.database.managed_schemas),
        **vars(ERASURE),
    )
