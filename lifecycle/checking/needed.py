"""Declared objects and columns that the database has no more."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lifecycle.checking.catalog import Catalog
from lifecycle.checking.mismatch import Mismatch
from lifecycle.names import QualifiedName


@dataclass(frozen=True)
class Needed:
    """A relation that a file of declarations names, with the columns that it names of it.

    `within` are the keys of the entry, and `excused` the key in it that lists columns that the relation may lack.
    """

    capability: str
    file: str
    relation: QualifiedName
    columns: tuple[str, ...] = ()
    optional: bool = False
    within: tuple[str, ...] = ()
    excused: str = ""


def gone(needed: Iterable[Needed], catalog: Catalog) -> Iterator[Mismatch]:
    """What is declared and is not there, unless it may be missing."""
    for need in needed:
        live = catalog.relations.get(need.relation)
        if live is None and not need.optional:
            yield Mismatch(
                need.capability,
                str(need.relation),
                f"is declared and does not exist{_nearest(str(need.relation), map(str, catalog.relations))}. Take its "
                f"entry out of {need.file}, or add `optional: true` to it",
                need.file,
                need.within,
                "optional: true" if need.within else "",
            )
        if live is not None:
            lacking = [column for column in dict.fromkeys(need.columns) if column not in live.columns]
            yield from (_lacking(need, column, live.columns) for column in lacking)


def _lacking(need: Needed, column: str, there: Iterable[str]) -> Mismatch:
    return Mismatch(
        need.capability,
        f"{need.relation}.{column}",
        f"is declared and does not exist{_nearest(column, there)}. Change the entry of {need.relation} in {need.file}",
        need.file,
        need.within,
        f"{need.excused}: [{column}]" if need.within and need.excused else "",
    )


def _nearest(word: str, words: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.8)
    return f" (there is {found[0]})" if found else ""
